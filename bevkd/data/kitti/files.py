"""Which files a KITTI folder holds: frames, their splits, what of them is not there, and a digest of it all."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bevkd.data.inside import Inside
from bevkd.data.options import ConvertOptions
from bevkd.errors import DataError
from bevkd.io import names_in, read_bytes, read_text

log = logging.getLogger(__name__)

LIDAR, CAMERA = "velodyne", "image_2"
LABELS, CALIBRATION = "label_2", "calib"
IMAGES = (".png", ".jpg", ".jpeg")
SPLITS = ("train", "tune", "val", "test")  # files of ImageSets that are read; `trainval` repeats two of them
_FOLDERS = (("training", ""), ("testing", "test_"))  # and what stands in front of the tokens of their frames


@dataclass(frozen=True)
class Member:
    """One frame.

    Attributes:
        token: its name in the index.
        folder, name: `training` or `testing`, and the name that its files share.
        image: suffix of its image; None where there is none.
        lidar: whether there is a point cloud.
        labels: whether there is a label file.
    """

    token: str
    folder: str
    name: str
    image: str | None
    lidar: bool
    labels: bool

    def path(self, kind: str) -> str:
        """Its file of a kind, relative to the root."""
        suffix = {LIDAR: ".bin", CAMERA: self.image or IMAGES[0]}.get(kind, ".txt")
        return f"{self.folder}/{kind}/{self.name}{suffix}"


@dataclass(frozen=True)
class Folder:
    """The frames of a data set.

    Attributes:
        members: frames, `training` first, by name.
        missing: sensor or list -> frames of which it is not there.
        without_labels: members of labelled folders that have no label file.
    """

    members: list[Member]
    missing: dict[str, int]
    without_labels: int


def image_path(folder: Path, name: str) -> Path:
    """The image of a frame, whichever of the known suffixes it has; with KITTI's own where there is none."""
    paths = [folder / f"{name}{suffix}" for suffix in IMAGES]
    return next((path for path in paths if path.exists()), paths[0])


def member(token: str) -> tuple[str, str]:
    """Folder and name of a frame: frames of `testing` share names with those of `training`."""
    prefix = _FOLDERS[1][1]
    return ("testing", token.removeprefix(prefix)) if token.startswith(prefix) else ("training", token)


def find_members(root: Path, options: ConvertOptions) -> Folder:
    """Every frame, and what is not there of it.

    A folder without any point cloud (image) was downloaded without LiDAR (cameras). Otherwise a frame without a point
    cloud is left out, and one without an image is an error, unless `options.partial` takes both as they are.

    Raises:
        DataError: no frame, a folder that cannot be read, a missing image or label file.
    """
    members: list[Member] = []
    missing: Counter[str] = Counter()
    unlabelled = 0
    for folder, prefix in _FOLDERS:
        base = root / folder
        clouds = {name.removesuffix(".bin") for name in names_in(base / LIDAR, ".bin")}
        images = {Path(name).stem: Path(name).suffix for name in reversed(names_in(base / CAMERA, *IMAGES))}
        labels = {name.removesuffix(".txt") for name in names_in(base / LABELS, ".txt")}
        labelled = (base / LABELS).is_dir()
        names = clouds | set(images) if options.partial or not clouds else clouds
        if left := len(set(images) - names):
            missing[f"{folder}/{LIDAR}"] += left
            log.warning("%s: %d images without a point cloud are left out (--partial keeps them)", base, left)
        for name in sorted(names):
            one = Member(f"{prefix}{name}", folder, name, images.get(name), name in clouds, name in labels)
            if not one.lidar:
                missing[f"{folder}/{LIDAR}"] += 1
            if one.image is None:
                missing[f"{folder}/{CAMERA}"] += 1
                if images and not options.partial:
                    message = "image is missing (`convert --partial` indexes what is there)"
                    options.problems.add(DataError(message, file=root / one.path(CAMERA), token=name))
            if labelled and not one.labels:
                unlabelled += 1
                if options.missing_labels == "error":
                    message = "cannot be read: the file of labels is missing (`convert --missing-labels unlabelled`)"
                    options.problems.add(DataError(message, file=root / one.path(LABELS), token=name))
            members.append(one)
    if not members:
        raise DataError("no frame: there is neither training/velodyne/*.bin nor testing/velodyne/*.bin", file=root)
    return Folder(members, dict(missing), unlabelled)


def find_splits(root: Path, members: list[Member], options: ConvertOptions) -> dict[str, str]:
    """Token -> split, "" for frames that no list names.

    Raises:
        DataError: a list names a frame that is not there, or one of another list.
    """
    held = names_in(root / "ImageSets", ".txt")
    lists = {split: root / "ImageSets" / f"{split}.txt" for split in SPLITS if f"{split}.txt" in held}
    if not lists:
        return {one.token: "train" if one.folder == "training" else "test" for one in members}
    out = {one.token: "" for one in members}
    testing = any(one.folder == "testing" for one in members)
    prefix = _FOLDERS[1][1]
    absent = 0
    for split, path in lists.items():
        words: list[str] = []
        with options.problems.here():
            words = read_text(path).split()
        if split == "test" and not testing and any(out.get(word, "test") for word in words):
            log.warning("%s: left out, for there is no folder testing/velodyne", path)
            continue
        for line, word in enumerate(words, start=1):
            # The benchmark's own test list counts frames of `testing`; a held-out part of `training` is fine, too.
            token = f"{prefix}{word}" if split == "test" and f"{prefix}{word}" in out else word
            if token not in out:
                absent += 1
                if not options.partial:
                    message = f"entry {line} names a frame that is not there"
                    options.problems.add(DataError(message, file=path, token=word))
            elif out[token]:
                message = f"entry {line} names a frame of split {out[token]!r} as well"
                options.problems.add(DataError(message, file=path, token=word))
            else:
                out[token] = split
    if absent and options.partial:
        log.warning("%d frames of the lists in %s are not there", absent, root / "ImageSets")
    if "test" not in lists:
        out |= {one.token: "test" for one in members if one.folder == "testing"}
    return out


def digest_of(root: Path, members: list[Member], options: ConvertOptions) -> str:
    """SHA-256 over lists, labels and calibrations, over the sizes of sensor files, and over unusual options."""
    total = hashlib.sha256()
    inside = Inside(root, options.link_targets)
    lists = [inside.path(f"ImageSets/{split}.txt") for split in SPLITS]
    for path in (*lists, root / "labelled.json"):
        total.update(path.name.encode() + (read_bytes(path) if path.is_file() else b"-"))
    for one in members:
        for kind in (CALIBRATION, LABELS, LIDAR, CAMERA):
            path = inside.path(one.path(kind), one.token)
            if not path.is_file():
                total.update(b"-")
            elif kind in (CALIBRATION, LABELS):
                total.update(read_bytes(path))
            else:
                total.update(str(path.stat().st_size).encode())
        total.update(f"{one.folder}/{one.name}".encode())
    if facts := options.facts():
        total.update(repr(sorted(facts.items())).encode())
    return total.hexdigest()
