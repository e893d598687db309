"""What bad tables and files get: a typed error with file, token and field, and no index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data import FrameDataset, Reads, convert_nuscenes
from bevkd.data.index import FrameIndex, read_stamp
from bevkd.data.reads import Camera, Lidar, Radar
from bevkd.errors import ConfigError, DataError
from bevkd.registry import lookup, names

VERSION = "v1.0-sim"
Records = list[dict[str, Any]]


@pytest.fixture
def copy(smoke_dataset: Any, tmp_path: Path) -> Path:
    """A copy of the data set's tables beside links to its sensor files."""
    root = tmp_path / "data"
    shutil.copytree(smoke_dataset.root / VERSION, root / VERSION)
    for name in ("samples", "sweeps"):
        (root / name).symlink_to(smoke_dataset.root / name)
    return root


def edit(root: Path, table: str, change: Callable[[Records], Any]) -> Path:
    path = root / VERSION / f"{table}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def fails(root: Path, tmp_path: Path) -> DataError:
    """The error of a conversion, which must leave nothing behind."""
    out = tmp_path / "indices" / "index"
    with pytest.raises(DataError) as error:
        convert_nuscenes(root, VERSION, out)
    assert not out.exists()
    assert not out.parent.exists() or not any(out.parent.iterdir())
    assert error.value.exit_code == 3
    return error.value


def own_files(root: Path, smoke_dataset: Any) -> None:
    (root / "samples").unlink()
    shutil.copytree(smoke_dataset.root / "samples", root / "samples")


def key_file(root: Path, part: str) -> tuple[Path, str]:
    content = json.loads((root / VERSION / "sample_data.json").read_text())
    record = next(r for r in content if r["is_key_frame"] and part in r["filename"])
    return root / record["filename"], record["token"]


@pytest.mark.parametrize("table", ["sample_data", "sample_annotation", "visibility", "log"])
def test_missing_table(copy: Path, tmp_path: Path, table: str) -> None:
    (copy / VERSION / f"{table}.json").unlink()
    assert fails(copy, tmp_path).file == copy / VERSION / f"{table}.json"


def test_missing_version(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data set version"):
        convert_nuscenes(copy, "v1.0-other", tmp_path / "index")


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("ego_pose", "translation", [float("nan"), 0.0, 0.0]),
        ("ego_pose", "rotation", [0.0, 0.0, 0.0, 0.0]),
        ("calibrated_sensor", "rotation", [float("nan")] * 4),
        ("sample_annotation", "translation", [0.0, float("inf"), 0.0]),
        ("sample_annotation", "size", [0.0, 1.0, 1.0]),
        ("sample_annotation", "instance_token", "nowhere"),
        ("sample_annotation", "sample_token", "nowhere"),
        ("sample_annotation", "next", "nowhere"),
        ("sample_annotation", "attribute_tokens", ["nowhere"]),
        ("sample_data", "ego_pose_token", "nowhere"),
        ("sample_data", "calibrated_sensor_token", "nowhere"),
        ("instance", "category_token", "nowhere"),
        ("sample", "scene_token", "nowhere"),
        ("sample_data", "timestamp", "soon"),
    ],
)
def test_bad_field(copy: Path, tmp_path: Path, table: str, field: str, value: object) -> None:
    tokens: list[str] = []

    def change(content: Records) -> None:
        tokens.append(content[3]["token"])
        content[3][field] = value

    path = edit(copy, table, change)
    error = fails(copy, tmp_path)
    assert (error.file, error.token, error.field) == (path, tokens[0], field)


def test_a_camera_without_intrinsics(copy: Path, tmp_path: Path) -> None:
    tokens: list[str] = []

    def change(content: Records) -> None:
        record = next(r for r in content if r["camera_intrinsic"])
        tokens.append(record["token"])
        record["camera_intrinsic"] = []

    path = edit(copy, "calibrated_sensor", change)
    error = fails(copy, tmp_path)
    assert (error.file, error.token, error.field) == (path, tokens[0], "camera_intrinsic")


def test_missing_field(copy: Path, tmp_path: Path) -> None:
    path = edit(copy, "sample_annotation", lambda content: content[2].pop("num_radar_pts"))
    error = fails(copy, tmp_path)
    assert (error.file, error.field) == (path, "num_radar_pts")


def test_sample_without_lidar(copy: Path, tmp_path: Path) -> None:
    sample = json.loads((copy / VERSION / "sample.json").read_text())[1]["token"]

    def change(content: Records) -> None:
        content[:] = [r for r in content if not (r["sample_token"] == sample and "LIDAR_TOP" in r["filename"])]

    edit(copy, "sample_data", change)
    error = fails(copy, tmp_path)
    assert (error.token, error.field) == (sample, "LIDAR_TOP")


def test_no_frames(copy: Path, tmp_path: Path) -> None:
    for table in ("sample", "sample_data", "sample_annotation"):
        edit(copy, table, lambda content: content.clear())
    assert "no frame" in str(fails(copy, tmp_path))


def test_tables_without_annotations(copy: Path, tmp_path: Path) -> None:
    for table in ("sample_annotation", "instance"):
        edit(copy, table, lambda content: content.clear())
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    data = DataConfig(root=str(copy), version=VERSION, index=str(index))
    ds = FrameDataset(data, ModelConfig(), "val", train=False, seed=0)
    assert len(ds.get(0, 0).boxes) == 0


def test_labelled_list_with_unknown_token(copy: Path, tmp_path: Path) -> None:
    path = copy / VERSION / "labelled.json"
    path.write_text(json.dumps({"0": ["nowhere"]}))
    error = fails(copy, tmp_path)
    assert (error.file, error.token, error.field) == (path, "nowhere", "0")


@pytest.mark.parametrize("size", [0, 30])
def test_truncated_lidar_file_at_conversion(copy: Path, tmp_path: Path, smoke_dataset: Any, size: int) -> None:
    own_files(copy, smoke_dataset)
    path, token = key_file(copy, "LIDAR_TOP")
    path.write_bytes(path.read_bytes()[:size])
    error = fails(copy, tmp_path)
    assert (error.file, error.token, error.field) == (path, token, "filename")


@pytest.mark.parametrize("part", ["LIDAR_TOP", "CAM_BACK", "RADAR_FRONT"])
def test_missing_key_file(copy: Path, tmp_path: Path, smoke_dataset: Any, part: str) -> None:
    own_files(copy, smoke_dataset)
    path, token = key_file(copy, part)
    path.unlink()
    error = fails(copy, tmp_path)
    assert (error.file, error.token) == (path, token)


def test_missing_sweeps_are_left_out_and_counted(copy: Path, tmp_path: Path) -> None:
    (copy / "sweeps").unlink()
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    assert read_stamp(index)["missing_sweeps"] > 0
    opened = FrameIndex.open(index, "train")
    left = [opened.sensors.filename[opened.sensors.position[row]] for rows in opened.lidar_sweeps for row in rows]
    assert left  # earlier keyframes are sweeps, too
    assert all(name.startswith("samples/") for name in left)


@pytest.mark.parametrize("sensor", ["lidar", "camera", "radar"])
def test_files_that_break_after_conversion(copy: Path, tmp_path: Path, smoke_dataset: Any, sensor: str) -> None:
    own_files(copy, smoke_dataset)
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    part = {"lidar": "LIDAR_TOP", "camera": "CAM_FRONT", "radar": "RADAR_FRONT"}[sensor]
    data = DataConfig(root=str(copy), version=VERSION, index=str(index), lidar_sweeps=0, radar_sweeps=0)
    reads = {"lidar": Lidar(), "camera": Camera((64, 176)), "radar": Radar()}
    ds = FrameDataset(data, ModelConfig(), "train", train=False, seed=0, reads=Reads.of(reads[sensor]))
    sensors = ds.index.sensors
    at = next(i for row in ds.index.key[0] if (i := sensors.position.get(row, -1)) >= 0 and sensors.channel[i] == part)
    path = copy / sensors.filename[at]
    path.write_bytes(path.read_bytes()[:-7] if sensor != "camera" else path.read_bytes()[:200])
    with pytest.raises(DataError) as error:
        ds.get(0, 0)
    assert (error.value.file, error.value.token) == (path, sensors.token[at])
    ds.get(1, 0)


def test_empty_and_unknown_splits(copy: Path, tmp_path: Path) -> None:
    path = copy / VERSION / "splits.json"
    splits = json.loads(path.read_text())
    path.write_text(json.dumps({**splits, "empty": []}))
    data = DataConfig(root=str(copy), version=VERSION, index=str(convert_nuscenes(copy, VERSION, tmp_path / "index")))
    with pytest.raises(DataError, match="no frame") as error:
        FrameDataset(data, ModelConfig(), "empty", train=True, seed=0)
    assert error.value.field == "empty"
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        FrameDataset(data, ModelConfig(), "trian", train=True, seed=0)
    with pytest.raises(ConfigError, match="labelled subset 9"):
        FrameDataset(data, ModelConfig(), "train", train=True, seed=0, labelled_subset=9)


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bevkd convert"):
        read_stamp(tmp_path)
    (tmp_path / "frames.parquet").write_text("not Parquet")
    with pytest.raises(DataError, match="Parquet"):
        read_stamp(tmp_path)


def test_a_folder_that_is_no_index_is_not_replaced(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds no index"):
        convert_nuscenes(copy, VERSION, out)
    assert (out / "thesis.tex").read_text() == "years of work"


def test_same_tables_same_bytes_and_skipped_when_current(copy: Path, tmp_path: Path) -> None:
    first, second = (convert_nuscenes(copy, VERSION, tmp_path / name, workers=n) for name, n in (("a", 1), ("b", 2)))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    before = (first / "frames.parquet").stat().st_mtime_ns
    convert_nuscenes(copy, VERSION, first)
    assert (first / "frames.parquet").stat().st_mtime_ns == before
    edit(copy, "scene", lambda content: content[0].update(description="Night, rain"))
    convert_nuscenes(copy, VERSION, first)
    stamp = read_stamp(first)
    assert stamp["source"] != read_stamp(second)["source"]
    index = FrameIndex.open(first, "train+tune+val")
    assert {(w, x) for w, x, d in zip(*(index.columns[n] for n in ("weather", "lighting", "description")), strict=True)
            if d == "Night, rain"} == {("rain", "night")}  # fmt: skip


def test_errors_cross_process_borders_whole(copy: Path, tmp_path: Path) -> None:
    path = edit(copy, "log", lambda content: content[0].pop("location"))
    error = fails(copy, tmp_path)
    carried = ForkingPickler.loads(bytes(ForkingPickler.dumps(error)))
    assert str(carried) == str(error)
    assert (carried.file, carried.token, carried.field) == (path, error.token, "location")


def test_readers_by_name(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    assert names("reader") == ["kitti", "nuscenes", "waymo"]
    index = lookup("reader", "nuscenes").convert(copy, VERSION, tmp_path / "index")
    assert read_stamp(index)["source"] == read_stamp(smoke_dataset.index)["source"]
