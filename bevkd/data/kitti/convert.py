"""`convert_kitti`: KITTI object detection -> Parquet index; sensor data stays where it is."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from bevkd.classes import LABEL_INDEX
from bevkd.data.index import BOXES, SENSORS, stamp
from bevkd.data.kitti.boxes import count_points, difficulty, ego_boxes, rotations
from bevkd.data.kitti.calibration import Calibration, read_calibration
from bevkd.data.kitti.objects import OTHER, TYPES, Objects, placed, read_folder
from bevkd.data.labelled import read_labelled
from bevkd.data.points import read_lidar
from bevkd.data.write import fresh_folder, is_current, write_frames, write_table
from bevkd.errors import DataError
from bevkd.geometry import quaternion_from_matrix
from bevkd.processes import process_pool

log = logging.getLogger(__name__)

VERSION = "object"
LIDAR, CAMERA = "velodyne", "image_2"
SPLITS = ("train", "tune", "val", "test")  # files of ImageSets that are read; `trainval` repeats two of them
_SPELLING = {"car": "Car", "dontcare": "DontCare"}
_TEST = "test_"  # in front of the tokens of `testing`
_CHUNK = 64  # frames that a process looks at in one go


def spelling(kind: str) -> str:
    """A type as KITTI writes it: "person_sitting" is "Person_sitting"."""
    return _SPELLING.get(kind, kind.capitalize())


@dataclass(frozen=True)
class _Found:
    """What conversion reads of one frame."""

    size: tuple[int, int]  # of the image: width, height
    calibration: Calibration
    boxes: dict[str, Any]  # columns of `boxes` that need no other frame


def convert_kitti(root: str | Path, out: str | Path, workers: int = 1) -> Path:
    """Write the index of a KITTI object detection folder.

    Splits are the lists `ImageSets/{train,tune,val,test}.txt`; frames of `training` that no list names belong to none.
    Without lists every frame of `training` is in `train`, without `test.txt` every frame of `testing` in `test`. The
    benchmark's own `test.txt` counts frames of `testing`; where these are not there, it is left out.
    Labels are read where there is a folder of them. Regions of no care have no box in 3D and are left out; so are the
    road planes that some distributions add. KITTI frames are single: no sweeps, no velocities, no time stamps, and the
    ego frame (the velodyne's) serves as the global one.

    An index that was made from the same files by the same format is left as it is. Otherwise the new one replaces
    whatever index `out` held, in one rename and only when it is complete.

    Args:
        root: folder with `training/` and perhaps `testing/` (`image_2`, `velodyne`, `calib`, `label_2`), `ImageSets/`
            and a `labelled.json` with subsets of frames whose labels may be used.
        out: the index folder.
        workers: processes.

    Raises:
        DataError: no frame; a file is missing, truncated or malformed; a list names a frame that is not there.
    """
    root, out = Path(root), Path(out)
    members = _members(root)
    splits = _splits(root, members)
    source = _digest(root, members)
    if is_current(out, VERSION, source):
        log.info("%s is up to date", out)
        return out
    tokens = [token for token, _ in members]
    subsets, labelled = read_labelled(root / "labelled.json", tokens)
    facts: dict[str, Any] = {
        "reader": "kitti",
        "version": VERSION,
        "source": source,
        "splits": sorted(set(splits.values()) - {""}),
        "labelled_subsets": subsets,
        "frames": len(members),
        "unlabelled": 0,
        "missing_sweeps": 0,
    }
    found = list(_look(root, [folder for _, folder in members], workers))
    with fresh_folder(out) as temporary:
        n = len(members)
        scene = np.arange(n, dtype=np.int32)
        words = {name: np.full(n, "", dtype=object) for name in ("description", "location", "weather", "lighting")}
        words["scene_name"] = np.array(tokens, dtype=object)
        words["split"] = np.array([splits[token] for token in tokens], dtype=object)
        frames = {
            "token": tokens,
            "scene": scene,
            "timestamp": np.zeros(n, dtype=np.int64),
            "global_from_ego": np.tile(np.eye(4), (n, 1, 1)),
            "key": [[2 * i, 2 * i + 1] for i in range(n)],
            "lidar_sweeps": [[] for _ in range(n)],
            "radar_sweeps": [[] for _ in range(n)],
        }
        write_frames(temporary / "frames.parquet", frames, words, labelled, facts)
        write_table(temporary / "sensors.parquet", stamp(SENSORS, facts), _sensor_columns(members, found))
        boxes = _box_columns(tokens, found)
        write_table(temporary / "boxes.parquet", stamp(BOXES, facts), boxes)
    log.info("%s: %d frames, %d boxes", out, n, len(boxes["frame"]))
    return out


def member(token: str) -> tuple[str, str]:
    """Folder and name of a frame: frames of `testing` share names with those of `training`."""
    return ("testing", token.removeprefix(_TEST)) if token.startswith(_TEST) else ("training", token)


def _members(root: Path) -> list[tuple[str, str]]:
    """(token, `<folder>/<name>`) of every frame."""
    out = []
    for folder, prefix in (("training", ""), ("testing", _TEST)):
        names = sorted(path.stem for path in (root / folder / LIDAR).glob("*.bin"))
        out += [(f"{prefix}{name}", f"{folder}/{name}") for name in names]
    if not out:
        raise DataError("no frame: there is neither training/velodyne/*.bin nor testing/velodyne/*.bin", file=root)
    return out


def _splits(root: Path, members: list[tuple[str, str]]) -> dict[str, str]:
    """Token -> split, "" for frames that no list names."""
    lists = {split: root / "ImageSets" / f"{split}.txt" for split in SPLITS}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if not lists:
        return {token: "train" if folder.startswith("training/") else "test" for token, folder in members}
    out = dict.fromkeys((token for token, _ in members), "")
    testing = any(folder.startswith("testing/") for _, folder in members)
    for split, path in lists.items():
        try:
            words = path.read_text(encoding="utf-8").split()
        except UnicodeDecodeError as error:
            raise DataError(f"cannot be read as text: {error}", file=path) from error
        if split == "test" and not testing and any(out.get(word, "test") for word in words):
            log.warning("%s: left out, for there is no folder testing/velodyne", path)
            continue
        for line, word in enumerate(words, start=1):
            # The benchmark's own test list counts frames of `testing`; a held-out part of `training` is fine, too.
            token = f"{_TEST}{word}" if split == "test" and f"{_TEST}{word}" in out else word
            if token not in out:
                raise DataError(f"entry {line} names a frame that is not there", file=path, token=word)
            if out[token]:
                raise DataError(f"entry {line} names a frame of split {out[token]!r} as well", file=path, token=word)
            out[token] = split
    if "test" not in lists:
        out |= dict.fromkeys((token for token, folder in members if folder.startswith("testing/")), "test")
    return out


def _digest(root: Path, members: list[tuple[str, str]]) -> str:
    """SHA-256 over lists, labels and calibrations, and over the sizes of sensor files."""
    total = hashlib.sha256()
    lists = [root / "ImageSets" / f"{split}.txt" for split in SPLITS]
    for path in (*lists, root / "labelled.json"):
        total.update(path.name.encode() + (path.read_bytes() if path.is_file() else b"-"))
    for _, member in members:
        folder, name = member.split("/")
        for kind, suffix in (("calib", "txt"), ("label_2", "txt"), (LIDAR, "bin"), (CAMERA, "png")):
            path = root / folder / kind / f"{name}.{suffix}"
            if not path.is_file():
                total.update(b"-")
            elif suffix == "txt":
                total.update(path.read_bytes())
            else:
                total.update(str(path.stat().st_size).encode())
        total.update(member.encode())
    return total.hexdigest()


def _look(root: Path, members: list[str], workers: int) -> Iterator[_Found]:
    chunks = [members[low : low + _CHUNK] for low in range(0, len(members), _CHUNK)]
    work = partial(_look_at, root)
    if workers <= 1 or len(chunks) == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    with process_pool(min(workers, len(chunks))) as pool:
        for part in pool.map(work, chunks):
            yield from part


def _look_at(root: Path, members: list[str]) -> list[_Found]:
    """Read calibration, labels, points and the size of the image of some frames."""
    out = []
    for member in members:
        folder, name = member.split("/")
        base = root / folder
        calibration = read_calibration(base / "calib" / f"{name}.txt", name)
        size = image_size(base / CAMERA / f"{name}.png", name)
        points = read_lidar(base / LIDAR / f"{name}.bin", name, columns=4)
        has_labels = (base / "label_2").is_dir()
        objects = read_folder(base / "label_2", [name] if has_labels else [], scored=False)
        objects = objects.select(placed(objects))
        out.append(_Found(size, calibration, _columns(objects, calibration, points)))
    return out


def image_size(path: Path, name: str) -> tuple[int, int]:
    """Width and height of an image, from its header.

    Raises:
        DataError: it is missing or unreadable.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise DataError("image is missing", file=path, token=name) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"unreadable image: {error}", file=path, token=name) from error


def _columns(objects: Objects, calibration: Calibration, points: Any) -> dict[str, Any]:
    names = [TYPES[kind] if kind != OTHER else "" for kind in objects.kind]
    return {
        "category": [spelling(name) for name in names],
        "label": [LABEL_INDEX.get(name, -1) for name in names],
        "difficulty": difficulty(objects).tolist(),
        "box": ego_boxes(objects, calibration),
        "rotation": [quaternion_from_matrix(turn) for turn in rotations(objects, calibration)],
        "num_lidar_pts": count_points(points, objects, calibration).tolist(),
    }


def _sensor_columns(members: list[tuple[str, str]], found: list[_Found]) -> dict[str, Any]:
    """Two rows per frame: the LiDAR, then the left colour camera."""
    n = len(members)
    names = [member.split("/") for _, member in members]
    lidar_files = [f"{folder}/{LIDAR}/{name}.bin" for folder, name in names]
    camera_files = [f"{folder}/{CAMERA}/{name}.png" for folder, name in names]
    mounts = np.stack([matrix for one in found for matrix in (np.eye(4), one.calibration.ego_from_camera)])
    intrinsics = np.stack([matrix for one in found for matrix in (np.zeros((3, 3)), one.calibration.intrinsics)])
    return {
        "row": np.arange(2 * n, dtype=np.int32),
        "token": [token for token, _ in members for _ in range(2)],
        "scene": np.repeat(np.arange(n, dtype=np.int32), 2),
        "channel": [LIDAR, CAMERA] * n,
        "modality": ["lidar", "camera"] * n,
        "is_key": np.ones(2 * n, dtype=bool),
        "timestamp": np.zeros(2 * n, dtype=np.int64),
        "filename": [name for pair in zip(lidar_files, camera_files, strict=True) for name in pair],
        "width": [width for one in found for width in (0, one.size[0])],
        "height": [height for one in found for height in (0, one.size[1])],
        "intrinsics": intrinsics,
        "ego_from_sensor": mounts,
        "global_from_ego": np.tile(np.eye(4), (2 * n, 1, 1)),
    }


def _box_columns(tokens: list[str], found: list[_Found]) -> dict[str, Any]:
    counts = [len(one.boxes["label"]) for one in found]
    frame = np.repeat(np.arange(len(found), dtype=np.int32), counts)
    names = [f"{token}/{i}" for token, count in zip(tokens, counts, strict=True) for i in range(count)]
    flat = {
        key: [value for one in found for value in one.boxes[key]]
        for key in ("category", "label", "difficulty", "num_lidar_pts")
    }
    total = int(sum(counts))
    return {
        **flat,
        "token": names,
        "frame": frame,
        "scene": frame,
        "instance": names,
        "attribute": [""] * total,
        "visibility": np.zeros(total, dtype=np.int8),
        "box": np.concatenate([one.boxes["box"] for one in found]),
        "rotation": np.array([turn for one in found for turn in one.boxes["rotation"]]).reshape(-1, 4),
        "num_radar_pts": np.zeros(total, dtype=np.int32),
    }
