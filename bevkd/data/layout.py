"""Which format a folder has, as its layout shows, and how many files of what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bevkd.data.kitti.files import CALIBRATION, CAMERA, IMAGES, LABELS, LIDAR
from bevkd.data.nuimages.convert import found_versions
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
        also: names of further formats, of which it holds files as well.
    """

    format: str | None
    versions: tuple[str, ...] = ()
    files: dict[str, int] = field(default_factory=dict)
    hint: str = ""
    also: tuple[str, ...] = ()


def recognise(root: Path) -> Layout:
    """The layout of a folder.

    Raises:
        DataError: it cannot be read.
    """
    names = names_in(root)
    versions, found = _held(root, names)
    if not found:
        return Layout(None, hint=_hint(root, names))
    counts = {folder: count for files in found.values() for folder, count in files.items()}
    first, *others = found
    return Layout(first, versions, counts, also=tuple(others))


def _held(root: Path, names: list[str]) -> tuple[tuple[str, ...], dict[str, dict[str, int]]]:
    """Versions of nuScenes tables; and of every format of which a folder holds something its files, by folder."""
    versions = tuple(name for name in names if _is_version(root / name))
    found: dict[str, dict[str, int]] = {}
    if versions and set(versions) <= set(found_versions(root)):
        versions = ()  # none of nuScenes
        found["nuimages"] = {
            f"samples/{channel}": len(names_in(root / "samples" / channel)) for channel in names_in(root / "samples")
        }
    if versions:
        found["nuscenes"] = {
            f"{kind}/{channel}": len(names_in(root / kind / channel))
            for kind in ("samples", "sweeps")
            for channel in names_in(root / kind)
            if (root / kind / channel).is_dir()
        }
    found["waymo"] = {
        f"{folder}/{component}": len(names_in(root / folder / component, ".parquet"))
        for folder in FOLDERS
        for component in COMPONENTS
        if (root / folder / component).is_dir()
    }
    found["kitti"] = {
        f"{folder}/{kind}": len(names_in(root / folder / kind, *suffixes))
        for folder in ("training", "testing")
        for kind, suffixes in _KITTI.items()
        if (root / folder / kind).is_dir()
    }
    return versions, {name: files for name, files in found.items() if files or name in ("nuscenes", "nuimages")}


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
    for folder in (*(root / name for name in names), *root.resolve().parents[:2]):
        if folder.is_dir() and _held(folder, names_in(folder))[1]:
            return f"did you mean --root {folder}?"
    if "samples" in names or "sweeps" in names:
        return "these are sensor files of nuScenes, without its tables: <version>/sample.json and others"
    return "wanted: <version>/sample.json (nuScenes), training/velodyne (KITTI) or training/vehicle_pose (Waymo)"
