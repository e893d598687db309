"""Files that no format allows, one member of each kind: typed errors that name file and field, at once."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import fuzz_seeds as seeds
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bevkd.data.images import open_image
from bevkd.data.index import FrameIndex
from bevkd.data.kitti import read_calibration, read_folder
from bevkd.data.nuscenes.tables import read_table
from bevkd.data.parquet import open_parquet
from bevkd.data.points import read_lidar
from bevkd.data.radar import read_radar
from bevkd.data.valid import good_intrinsics, good_poses, good_quaternions, number, repeats
from bevkd.errors import BevkdError, DataError
from bevkd.eval.nuscenes import evaluate_files
from bevkd.eval.waymo.sets import read_sets
from bevkd.geometry.rle import _to_text, decode_counts
from bevkd.io import file_digest, read_json, read_text
from bevkd.registry import lookup
from bevkd.train.submissions.nuimages import read_results

READERS: dict[str, Callable[[Path], Any]] = {
    "json": read_json,
    "text": read_text,
    "digest": file_digest,
    "lidar": read_lidar,
    "radar": read_radar,
    "image": open_image,
    "table": lambda path: read_table(path.parent, path.stem, {}),
    "parquet": open_parquet,
    "sets": read_sets,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.timeout(20)
def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path, reader: str) -> None:
    """A pipe waits for ever, `/dev/zero` fills the memory, and so does a file of nothing but a hole."""
    path = tmp_path / "file.json"
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file but a pipe") as error:
        READERS[reader](path)
    assert error.value.file == path
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="not a regular file but a device"):
        READERS[reader](path)
    path.unlink()
    path.touch()
    os.truncate(path, 1 << 42)
    with pytest.raises(DataError, match="bytes, more than"):
        READERS[reader](path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"[" * 100 + b"]" * 100, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "more than 400 digits"),
        (b"[1." + b"9" * 5000 + b"]", "more than 400 digits"),
        (b'{"a": 1} {"a": 2}', "Extra data"),
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (rb'{"a": "x\u0000y"}', "is no text"),
        (rb'["\ud800"]', "is no text"),
        (rb'{"\udfff": 1}', "is no text"),
        (b'["\xed\xa0\x80"]', "cannot be read as text"),
        ('{"a": 1}'.encode("utf-16-le"), "NUL"),
        ('{"a": 1}'.encode("utf-32-le"), "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_json_beyond_its_bounds(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json")


def test_json_within_its_bounds(tmp_path: Path) -> None:
    value = {"a": [1e300, 2**80, "\U0001f600\n", "9" * 3000], "b": json.loads("[" * 60 + "]" * 60)}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _encoded(kind: str, mode: str = "RGB") -> bytes:
    stream = BytesIO()
    Image.new(mode, (8, 6), 3 if mode != "RGB" else (1, 2, 3)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "neither JPEG nor PNG"),
        (_encoded("BMP"), "neither JPEG nor PNG"),
        (_encoded("GIF"), "neither JPEG nor PNG"),
        (_encoded("TIFF"), "neither JPEG nor PNG"),
        (_encoded("WEBP"), "neither JPEG nor PNG"),
        (_encoded("PNG", "I;16"), "8 bits a colour"),
        (_png(100_000, 100_000), "unreadable image"),
        (_png(9_000, 9_000), "pixels are more than"),
        (_encoded("JPEG")[:-40], "unreadable image"),
        (_encoded("PNG")[:-30], "unreadable image"),
    ],
)
def test_pictures_are_jpeg_or_png_of_8_bits(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        open_image(path, "token")
    assert (error.value.file, error.value.token) == (path, "token")


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "CMYK")]
)
def test_pictures_of_8_bits_become_rgb(tmp_path: Path, kind: str, mode: str) -> None:
    path = tmp_path / "a.png"
    stream = BytesIO()
    Image.new("RGB", (8, 6), (102, 102, 102)).convert(mode).save(stream, kind)
    path.write_bytes(stream.getvalue())
    assert np.abs(np.asarray(open_image(path), dtype=int) - 102).max() <= 3


def test_points_and_radar_returns_lie_within_reach(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for value, message in ((np.nan, "not finite"), (np.inf, "not finite"), (3e4, "farther than any LiDAR")):
        cloud = np.ones((4, 5), np.float32)
        cloud[2, 1] = value
        cloud.tofile(path)
        with pytest.raises(DataError, match=message):
            read_lidar(path)
    good = seeds.radar(tmp_path / "a.pcd").read_bytes()
    damages = {
        b"POINTS 4": (b"POINTS -4", b"POINTS 400000"),
        b"WIDTH 4": (b"WIDTH 1_0", b"WIDTH 5"),
        b"SIZE 4": (b"SIZE 3", b"SIZE 99999999999"),
        b"COUNT 1": (b"COUNT 99999999999999", b"COUNT 0"),
        b"FIELDS x y": (b"FIELDS x x",),
        b"DATA binary": (b"DATA ascii",),
    }
    for old, new in ((old, new) for old, all_new in damages.items() for new in all_new):
        assert old in good
        (tmp_path / "a.pcd").write_bytes(good.replace(old, new))
        with pytest.raises(DataError):
            read_radar(tmp_path / "a.pcd")


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _set(at: int, **values: Any) -> Callable[[Any], Any]:
    return lambda content: content[at].update(values)


@pytest.mark.parametrize(
    ("table", "change", "field"),
    [
        ("ego_pose", _set(1, translation=["1", "2", "3"]), "translation"),
        ("ego_pose", _set(1, translation=[True, 0, 0]), "translation"),
        ("ego_pose", _set(1, translation=[1e8, 0, 0]), "translation"),
        ("ego_pose", _set(1, translation={"0": 1, "1": 2, "2": 3}), "translation"),
        ("ego_pose", _set(1, rotation=[1e200, 0, 0, 0]), "rotation"),
        ("calibrated_sensor", _set(1, translation=[0, 0, 500]), "translation"),
        ("calibrated_sensor", _set(1, camera_intrinsic=[["1", "0", "0"]] * 3), "camera_intrinsic"),
        ("calibrated_sensor", _set(1, camera_intrinsic=["123", "456", "789"]), "camera_intrinsic"),
        ("calibrated_sensor", _set(1, camera_intrinsic=[[-30, 0, 16], [0, 30, 12], [0, 0, 1]]), "camera_intrinsic"),
        ("calibrated_sensor", _set(1, camera_intrinsic=[[30, 0, 16], [0, 1e9, 12], [0, 0, 1]]), "camera_intrinsic"),
        ("calibrated_sensor", _set(1, camera_intrinsic=[[30, 0, 16], [0, 30, 12], [0, 1, 1]]), "camera_intrinsic"),
        ("sensor", _set(1, modality="lidar"), "modality"),
        ("sample_data", _set(1, timestamp=-1), "timestamp"),
        ("sample_data", _set(1, timestamp=None), "timestamp"),
        ("sample_data", _set(1, timestamp=2**62), "timestamp"),
        ("sample_data", _set(1, width=2**31), "width"),
        ("sample_data", _set(1, filename="a\0b"), "filename"),
        ("sample_data", lambda content: content.append(content[0] | {"token": "again"}), "sample_token"),
        ("sample_annotation", _set(1, size=[1e6, 1, 1]), "size"),
        ("sample_annotation", _set(1, num_lidar_pts=2**31), "num_lidar_pts"),
        ("sample_annotation", _set(1, num_lidar_pts=10**300), "num_lidar_pts"),
        ("sample_annotation", _set(1, token="a\0"), "token"),
        ("scene", _set(0, name="\ud800"), "name"),
        ("visibility", lambda content: content.append({"token": "999"}), "token"),
        ("labelled", lambda content: content.update({"9" * 5000: []}), None),
        ("labelled", lambda content: content.update({"١": []}), None),
    ],
)
def test_tables_hold_what_they_can(tmp_path: Path, table: str, change: Callable[[Any], Any], field: str | None) -> None:
    root = seeds.nuscenes(tmp_path / "data")
    path = root / seeds.VERSION / f"{table}.json"
    _edit(path, change)
    with pytest.raises(DataError) as error:
        lookup("reader", "nuscenes").convert(root, seeds.VERSION, tmp_path / "index")
    assert (error.value.file, error.value.field) == (path, field)
    assert not (tmp_path / "index").exists()


def test_a_table_whose_text_is_no_json(tmp_path: Path) -> None:
    for content in (b'[{"token": "a", "x": ' + b"9" * 5000 + b"}]", b'[{"token": "a", "token": "b"}]', b"[{}] x"):
        (tmp_path / "t.json").write_bytes(content)
        with pytest.raises(DataError):
            read_table(tmp_path, "t", {})


def test_nuimages_has_one_image_per_sample_and_camera(tmp_path: Path) -> None:
    root = seeds.nuimages(tmp_path / "data")
    path = root / "v1.0-mini" / "sample_data.json"
    _edit(path, lambda content: content.append(content[0] | {"token": "again"}))
    with pytest.raises(DataError, match=r"two key records") as error:
        lookup("reader", "nuimages").convert(root, None, tmp_path / "index")
    assert (error.value.file, error.value.token) == (path, "again")
    with pytest.raises(ValueError, match="do not add up"):
        decode_counts((2, 2), b64encode(_to_text([2**58] * 64 + [4])).decode())  # whose sum goes round


LINE = "Car 0.00 0 1.55 5.0 5.0 20.0 18.0 1.50 1.60 3.90 0.10 1.60 12.00 1.57"


@pytest.mark.parametrize(
    ("column", "word"),
    [
        *((1, "1.5"), (2, "7"), (2, "0.5"), (3, "1e9"), (4, "1_000"), (5, "٣"), (6, "nan"), (7, "infinity")),
        *((8, "1e5"), (9, "0x1p3"), (10, "-1"), (11, "1e999"), (12, "20000"), (13, "9" * 5000), (14, "2e4")),
    ],
)
def test_labels_of_kitti(tmp_path: Path, column: int, word: str) -> None:
    words = LINE.split()
    words[column] = word
    (tmp_path / "0.txt").write_text(f"{LINE}\n{' '.join(words)}\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2") as error:
        read_folder(tmp_path, ["0"], scored=False)
    assert error.value.field is not None
    (tmp_path / "0.txt").write_text(f"{' '.join(words)} 7.5\n", encoding="utf-8")
    if column in (1, 2):  # the benchmark passes over what results say of these
        assert len(read_folder(tmp_path, ["0"], scored=True)) == 1
    else:
        with pytest.raises(DataError, match=r"the official evaluator does not look|line 1"):
            read_folder(tmp_path, ["0"], scored=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("R0_rect: 1 0 0 0 1 0 0 0 1", "R0_rect: 1 0 0 0 1 0 0 0 1.01"),
        ("R0_rect: 1 0 0 0 1 0 0 0 1", "R0_rect: 1 0 0 0 1 0 0 0 -1"),
        ("Tr_velo_to_cam: 0 -1 0 0", "Tr_velo_to_cam: 0 1 0 0"),
        ("Tr_velo_to_cam: 0 -1 0 0", "Tr_velo_to_cam: 0 -1 0 900"),
        ("P2: 30.0", "P2: -30.0"),
        ("P2: 30.0", "P2: 1e9"),
        ("P2: 30.0", "P2: 3_0.0"),
        ("R0_rect:", "P2: 1 0 0 0 0 1 0 0 0 0 1 0\nR0_rect:"),
    ],
)
def test_calibrations_of_kitti(tmp_path: Path, old: str, new: str) -> None:
    path = seeds.kitti(tmp_path) / "training" / "calib" / "000000.txt"
    read_calibration(path)
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    with pytest.raises(DataError) as error:
        read_calibration(path, "000000")
    assert error.value.field in ("P2", "R0_rect", "Tr_velo_to_cam")


def _column(path: Path, name: str, change: Callable[[list[Any]], Any]) -> None:
    table = pq.read_table(path)
    full = next(column for column in table.column_names if column == name or column.endswith(f"].{name}"))
    at = table.column_names.index(full)
    values = table.column(at).to_pylist()
    change(values)
    kind = table.schema.field(at).type if not isinstance(values[0], str) else pa.string()
    table = table.set_column(at, table.schema.field(at).with_type(kind), pa.array(values, kind))
    pq.write_table(table, path)


def _put(at: int, value: Any) -> Callable[[list[Any]], Any]:
    return lambda values: values.__setitem__(at, value)


MIRRORED = np.diag([1.0, 1, -1, 1]).reshape(-1).tolist()
SHEARED = (np.eye(4) + 0.01 * np.eye(4, k=1)).reshape(-1).tolist()
TIME = "key.frame_timestamp_micros"


@pytest.mark.parametrize(
    ("component", "column", "change"),
    [
        ("vehicle_pose", "world_from_vehicle.transform", _put(1, MIRRORED)),
        ("vehicle_pose", "world_from_vehicle.transform", _put(0, SHEARED)),
        ("vehicle_pose", TIME, _put(1, 1_000_000)),
        ("vehicle_pose", TIME, _put(1, None)),
        ("vehicle_pose", TIME, lambda values: values.__setitem__(slice(None), ["a", "b"])),
        ("lidar", TIME, _put(1, 1_000_000)),
        ("lidar_calibration", "beam_inclination.values", _put(0, [0.1, 9.0, 0.2])),
        ("camera_image", TIME, _put(1, 1_000_000)),
        ("camera_calibration", "intrinsic.f_u", _put(0, -30.0)),
        ("camera_calibration", "width", _put(0, None)),
        ("camera_calibration", "width", _put(0, -5)),
        ("lidar_box", TIME, _put(1, 1_000_000)),
        ("lidar_box", "box.size.x", _put(0, 1e6)),
        ("lidar_box", "box.center.x", _put(0, 1e9)),
        ("lidar_box", "num_lidar_points_in_box", _put(0, 2**40)),
        ("lidar_box", "difficulty_level.detection", _put(0, 7)),
        ("lidar_box", "key.laser_object_id", _put(0, None)),
        ("stats", "location", _put(0, "a\0b")),
    ],
)
def test_components_of_waymo(tmp_path: Path, component: str, column: str, change: Callable[[list[Any]], Any]) -> None:
    root = seeds.waymo(tmp_path / "data")
    path = root / "training" / component / "seg.parquet"
    _column(path, column, change)
    with pytest.raises(DataError) as error:
        lookup("reader", "waymo").convert(root, None, tmp_path / "index")
    assert error.value.file == path
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("table", "column", "change"),
    [
        ("frames", "global_from_ego", _put(0, MIRRORED)),
        ("frames", "global_from_ego", _put(0, None)),
        ("frames", "token", _put(1, "s0")),
        ("frames", "lidar_sweeps", _put(1, [99])),
        ("frames", "key", lambda values: values[0].append(1) or values[0].append(0)),
        ("frames", "timestamp", lambda values: values.__setitem__(slice(None), ["a", "b"])),
        ("sensors", "ego_from_sensor", _put(0, [float("nan")] * 16)),
        ("sensors", "row", _put(1, 0)),
        ("sensors", "filename", _put(0, None)),
        ("boxes", "box", _put(0, [1e30] * 9)),
        ("boxes", "box", _put(0, [1.0, 0, 0, -4, 2, 1, 0, 0, 0])),
        ("boxes", "label", _put(0, 99)),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, table: str, column: str, change: Callable[[list[Any]], Any]) -> None:
    root = seeds.nuscenes(tmp_path / "data")
    index = Path(lookup("reader", "nuscenes").convert(root, seeds.VERSION, tmp_path / "index"))
    FrameIndex.open(index, "train")
    _column(index / f"{table}.parquet", column, change)
    with pytest.raises(DataError) as error:
        FrameIndex.open(index, "train")
    assert error.value.file == index / f"{table}.parquet"


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"translation": ["5", "0", "0"]}, "translation", "must be 3 numbers"),
        ({"translation": "123"}, "translation", "must be 3 numbers"),
        ({"translation": [1e9, 0, 0]}, "translation", "devkit lets this pass"),
        ({"translation": [float("nan"), 0, 0]}, "translation", "must be finite"),
        ({"size": [1e6, 1, 1]}, "size", "devkit lets this pass"),
        ({"rotation": [0, 0, 0, 0]}, "rotation", "must not be zero.*devkit lets this pass"),
        ({"velocity": [float("inf"), 0]}, "velocity", "devkit lets this pass"),
        ({"detection_score": 1.5}, "detection_score", "from 0 to 1.*devkit lets this pass"),
        ({"detection_score": "0.5"}, "detection_score", "must be a finite number"),
        ({"detection_score": True}, "detection_score", "must be a finite number"),
        ({"num_pts": 1.5}, "num_pts", "must be an integer"),
        ({"sample_token": 3}, "sample_token", "is not the sample"),
    ],
)
def test_submissions_to_nuscenes(tmp_path: Path, change: dict[str, Any], field: str, message: str) -> None:
    root = seeds.nuscenes(tmp_path)
    path = seeds.nuscenes_submission(root)
    _edit(path, lambda content: content["results"]["s1"][0].update(change))
    with pytest.raises(DataError, match=message) as error:
        evaluate_files(root, seeds.VERSION, "train", path, tmp_path / "m.json")
    assert (error.value.file, error.value.token, error.value.field) == (path, "s1", field)


@pytest.mark.parametrize(
    ("table", "change", "field"),
    [
        ("sample", _set(0, timestamp="x"), "timestamp"),
        ("sample", _set(0, timestamp=1.5), "timestamp"),
        ("sample", lambda content: content.append(content[0]), "token"),
        ("category", _set(0, name=["a"]), "name"),
        ("category", _set(0, token=[1]), "token"),
        ("sample_annotation", _set(0, rotation=[0, 0, 0, 0]), "rotation"),
        ("sample_annotation", _set(0, prev=[1]), "prev"),
        ("sample_annotation", _set(0, num_lidar_pts=-5), "num_lidar_pts"),
        ("sample_annotation", _set(0, size=["1", "1", "1"]), "size"),
        ("sample_data", lambda content: content.append(content[0] | {"token": "again"}), "sample_token"),
        ("sample_data", _set(0, is_key_frame=1), "is_key_frame"),
    ],
)
def test_tables_that_are_evaluated(tmp_path: Path, table: str, change: Callable[[Any], Any], field: str) -> None:
    root = seeds.nuscenes(tmp_path)
    submission = seeds.nuscenes_submission(root)
    evaluate_files(root, seeds.VERSION, "train", submission, tmp_path / "m.json")
    path = root / seeds.VERSION / f"{table}.json"
    _edit(path, change)
    with pytest.raises(DataError) as error:
        evaluate_files(root, seeds.VERSION, "train", submission, tmp_path / "m.json")
    assert (error.value.file, error.value.field) == (path, field)


def _saved(path: Path, **changes: Any) -> Path:
    with np.load(seeds.waymo_sets(path)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **(arrays | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"pred_score": np.array([0.5, 1.5])}, "pred_score"),
        ({"pred_score": np.array([0.5, -0.1])}, "pred_score"),
        ({"pred_score": np.array([0.5, 1e300])}, "pred_score"),
        ({"gt_frame": np.array([0, 2**64 - 1], np.uint64)}, "gt_frame"),
        ({"pred_box": np.full((2, 7), 1e5)}, "pred_box"),
        ({"pred_box": np.array([[1, 1, 1, 1, 1, 1, 1e9]] * 2)}, "pred_box"),
    ],
)
def test_sets_of_waymo(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(DataError) as error:
        read_sets(_saved(tmp_path / "sets.npz", **changes))
    assert error.value.field == field


def test_archives_that_are_larger_than_they_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _saved(tmp_path / "sets.npz")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    box = parts["pred_box.npy"]
    more = box.replace(b"(2, 7), }" + b" " * 16, b"(99999999999, 7777), }".ljust(25))
    assert more != box
    monkeypatch.setattr("bevkd.regular.DOCUMENT", 10_000)
    for content, message in ((more, "do not make an array"), (box + bytes(1 << 20), "bytes, more than")):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, part in parts.items():
                archive.writestr(name, content if name == "pred_box.npy" else part)
        with pytest.raises(DataError, match=message) as error:
            read_sets(path)
        assert error.value.field == "pred_box"


@pytest.mark.parametrize(
    "content",
    [
        *(5, {}, [5], [[]], [{}]),
        *([{"image": "d", "category": "car", "bbox": box, "score": 0.5}] for box in ("1234", [1, 2, 3], [1, 2, -3, 4])),
        *(
            [{"image": "d", "category": "car", "bbox": [1, 2, 3, 4], "score": score}]
            for score in (2, "0.5", True, None)
        ),
        *([{"image": token, "category": "car", "bbox": [1, 2, 3, 4], "score": 0.5}] for token in ([], "other", None)),
        [{"image": "d", "category": ["car"], "bbox": [1, 2, 3, 4], "score": 0.5}],
        [{"image": "d", "category": "car", "bbox": [1, 2, True, 4], "score": 0.5}],
    ],
)
def test_results_of_nuimages(tmp_path: Path, content: Any) -> None:
    (tmp_path / "found.json").write_text(json.dumps(content))
    with pytest.raises(BevkdError) as error:
        read_results(tmp_path / "found.json", {"d"})
    assert str(tmp_path / "found.json") in str(error.value)


def test_the_rules() -> None:
    eye = np.eye(4)
    tilted = eye.copy()
    tilted[0, 1] = 5e-4
    far = eye.copy()
    far[0, 3] = 200.0
    found = good_poses(np.stack([eye, tilted, far, np.diag([1.0, 1, -1, 1]), 2 * eye, np.full((4, 4), np.nan)]), 100.0)
    assert found.tolist() == [True, True, False, False, False, False]
    assert (
        good_quaternions([[1, 0, 0, 0], [0, 0, 0, 0], [np.inf, 0, 0, 0], [2, 0, 0, 0]]).tolist() == [True] + [False] * 3
    )
    assert good_quaternions([[2, 0, 0, 0], [0, 0, 0, 0]], unit=None).tolist() == [True, False]
    assert good_intrinsics(np.array([seeds.K, np.zeros((3, 3))])).tolist() == [True, False]
    assert repeats([1, 2, 1], ["a", "a", "a"]).tolist() == [False, False, True]
    assert [number(word) for word in ("-1", "1.5e3", ".5", "2.")] == [-1, 1500, 0.5, 2]
