"""Which format a folder has, as its layout shows, and how many files of what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bevkd.data.kitti.files import CALIBRATION, CAMERA, IMAGES, LABELS, LIDAR
from bevkd.data.waymo.components import COMPONENTS
from bevkd.data.waymo.convert import FOLDERS
from bevkd.io import names_in

_KITTI = {LIDAR: (".bin",), CAMERA: IMAGES, LABELS: (".txt",), CALIBRATION: (".txt",)}
_TABLES = ("sample.json", "scene.json", "sample_data.json")


@dataclass(frozen=True)
class Layout:
    """What a folder looks like.

    Attributes:
        format: name of the reader; none where no format is recognised.
        versions: of nuScenes tables that lie there.
        files: folder -> number of its files.
        hint: why it may not be recognised.
    """

    format: str | None
    versions: tuple[str, ...] = ()
    files: dict[str, int] = field(default_factory=dict)
    hint: str = ""


def recognise(root: Path) -> Layout:
    """The layout of a folder.

    Raises:
        DataError: it cannot be read.
    """
    names = names_in(root)
    versions = tuple(name for name in names if _is_version(root / name))
    if versions:
        files = {
            f"{kind}/{channel}": len(names_in(root / kind / channel))
            for kind in ("samples", "sweeps")
            for channel in names_in(root / kind)
            if (root / kind / channel).is_dir()
        }
        return Layout("nuscenes", versions, files)
    waymo = {
        f"{folder}/{component}": len(names_in(root / folder / component, ".parquet"))
        for folder in FOLDERS
        for component in COMPONENTS
        if (root / folder / component).is_dir()
    }
    if waymo:
        return Layout("waymo", (), waymo)
    kitti = {
        f"{folder}/{kind}": len(names_in(root / folder / kind, *suffixes))
        for folder in ("training", "testing")
        for kind, suffixes in _KITTI.items()
        if (root / folder / kind).is_dir()
    }
    if kitti:
        return Layout("kitti", (), kitti)
    return Layout(None, hint=_hint(root, names))


def _is_version(folder: Path) -> bool:
    return any((folder / name).exists() for name in _TABLES) or (folder.name.startswith("v1.0-") and folder.is_dir())


def _hint(root: Path, names: list[str]) -> str:
    """What may have been meant."""
    if not root.is_dir():
        return "there is no such folder"
    if any(name in _TABLES for name in names):
        return f"these are the tables of a version: --root {root.parent} --version {root.name}"
    if any(name in _KITTI for name in names):
        return f"this is a part of a KITTI data set: --root {root.parent}"
    if any(name in COMPONENTS for name in names):
        return f"this is a part of a Waymo data set: --root {root.parent}"
    if any(".tfrecord" in name for name in names):
        return "these are files of version 1 of the Waymo Open Dataset; version 2 (Parquet) is read"
    if any(name.endswith((".zip", ".tgz", ".tar", ".tar.gz")) for name in names):
        return "there are archives to be unpacked"
    for name in names:
        if (root / name).is_dir() and recognise(root / name).format is not None:
            return f"did you mean --root {root / name}?"
    return "wanted: <version>/sample.json (nuScenes), training/velodyne (KITTI) or training/vehicle_pose (Waymo)"
