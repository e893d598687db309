"""What bad tables and files get: a typed error with file, token and field, and no index."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data import FrameDataset, Reads, convert_nuscenes
from bevkd.data.index import FrameIndex, read_stamp
from bevkd.data.nuscenes.files import find_files
from bevkd.data.options import ConvertOptions
from bevkd.data.reads import Camera, Lidar, Radar
from bevkd.data.summary import summarise
from bevkd.doctor import examine_dataset
from bevkd.errors import ConfigError, DataError
from bevkd.eval.nuscenes.ground_truth import load_ground_truth
from bevkd.registry import lookup, names
from bevkd.splits import official_splits

VERSION = "v1.0-sim"
Records = list[dict[str, Any]]


@pytest.fixture
def copy(smoke_dataset: Any, tmp_path: Path) -> Path:
    """A copy of the data set's tables beside hard links to its sensor files, which are replaced, never written to."""
    root = tmp_path / "data"
    shutil.copytree(smoke_dataset.root / VERSION, root / VERSION)
    for name in ("samples", "sweeps"):
        shutil.copytree(smoke_dataset.root / name, root / name, copy_function=os.link)
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
    shutil.rmtree(root / "samples")
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


def test_a_set_without_a_box_is_warned_of(copy: Path) -> None:
    for table in ("sample_annotation", "instance"):
        edit(copy, table, lambda content: content.clear())
    assert examine_dataset(copy, VERSION).problems == ["no frame has a box, nothing can be learnt from this data set"]


def test_labelled_list_with_unknown_token(copy: Path, tmp_path: Path) -> None:
    path = copy / VERSION / "labelled.json"
    path.write_text(json.dumps({"0": ["nowhere"]}))
    error = fails(copy, tmp_path)
    assert (error.file, error.token, error.field) == (path, "nowhere", "0")


@pytest.mark.parametrize("content", [{"0": None}, {"a": []}, [], 3])
def test_a_labelled_list_that_is_none_is_one_of_the_problems(copy: Path, content: Any) -> None:
    (copy / VERSION / "labelled.json").write_text(json.dumps(content))
    assert "must map subset numbers to lists" in "\n".join(examine_dataset(copy, None).problems)


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
    shutil.rmtree(copy / "sweeps")
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
    assert names("reader") == ["kitti", "nuimages", "nuscenes", "waymo"]
    index = lookup("reader", "nuscenes").convert(copy, VERSION, tmp_path / "index")
    assert read_stamp(index)["source"] == read_stamp(smoke_dataset.index)["source"]


def sweeps_per_frame(index: Path) -> list[int]:
    return [len(rows) for rows in FrameIndex.open(index, "train+val").lidar_sweeps]


def test_sweeps_that_arrive_later_enter_the_index(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    shutil.rmtree(copy / "sweeps")
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    few = sweeps_per_frame(index)
    shutil.copytree(smoke_dataset.root / "sweeps", copy / "sweeps")
    convert_nuscenes(copy, VERSION, index)
    assert sweeps_per_frame(index) == sweeps_per_frame(smoke_dataset.index)
    assert sum(few) < sum(sweeps_per_frame(index))
    gone = next((copy / "sweeps" / "LIDAR_TOP").iterdir())
    gone.unlink()  # what goes is noticed as well
    convert_nuscenes(copy, VERSION, index)
    assert read_stamp(index)["missing_sweeps"] == 1


def test_sweeps_that_arrive_during_a_conversion_enter_the_next_index(
    copy: Path, tmp_path: Path, smoke_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "sweeps")

    def find(*arguments: Any) -> Any:
        found = find_files(*arguments)
        shutil.copytree(smoke_dataset.root / "sweeps", copy / "sweeps", dirs_exist_ok=True)
        return found

    monkeypatch.setattr("bevkd.data.nuscenes.convert.find_files", find)
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    assert sum(sweeps_per_frame(index)) < sum(sweeps_per_frame(smoke_dataset.index))
    convert_nuscenes(copy, VERSION, index)
    assert sweeps_per_frame(index) == sweeps_per_frame(smoke_dataset.index)


@pytest.mark.parametrize("part", ["CAM_FRONT", "LIDAR_TOP", "RADAR_FRONT"])
def test_links_to_themselves_are_a_line(copy: Path, tmp_path: Path, smoke_dataset: Any, part: str) -> None:
    own_files(copy, smoke_dataset)
    path, token = key_file(copy, part)
    path.unlink()
    path.symlink_to(path.name)
    error = fails(copy, tmp_path)
    assert "cannot be read: [Errno 40]" in str(error)
    assert (error.file, error.token) == (path, token)


def test_a_file_in_the_place_of_a_folder(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "sweeps")
    (copy / "sweeps").write_text("x")
    assert "[Errno 20]" in str(fails(copy, tmp_path))
    table = copy / VERSION / "log.json"
    table.unlink()
    table.symlink_to(table.name)
    assert "cannot be read: [Errno 40]" in str(fails(copy, tmp_path))


def fails_again(root: Path, index: Path) -> DataError:
    """The error of converting anew into an index, which must stay as it was."""
    before = (index / "frames.parquet").read_bytes()
    with pytest.raises(DataError) as error:
        convert_nuscenes(root, VERSION, index)
    assert (index / "frames.parquet").read_bytes() == before
    return error.value


def halved(folder: Path) -> None:
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as image:
            image.resize((image.width // 2, image.height // 2)).save(path)


def test_images_of_another_size(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    own_files(copy, smoke_dataset)
    full = convert_nuscenes(copy, VERSION, tmp_path / "full")
    halved(copy / "samples" / "CAM_BACK")
    error = fails(copy, tmp_path)
    assert "88x32" in str(error)
    assert "176x64" in str(error)
    assert "CAM_BACK" in str(error.file)
    assert "88x32" in str(fails_again(copy, full))
    # Images that shrank after the conversion are met when they are read; where that is wanted, intrinsics go with them.
    data = DataConfig(root=str(copy), version=VERSION, index=str(full))
    reads = Reads.of(Camera((64, 176)))
    with pytest.raises(DataError, match="88x32"):
        FrameDataset(data, ModelConfig(), "train", train=False, seed=0, reads=reads).get(0, 0)
    asked = replace(data, rescale_images=True)
    options = ConvertOptions(rescale_images=True)
    again = replace(data, index=str(convert_nuscenes(copy, VERSION, tmp_path / "again", options=options)))
    plain = replace(data, root=str(smoke_dataset.root), index=str(smoke_dataset.index))
    seen = [
        FrameDataset(one, ModelConfig(), "train", train=False, seed=0, reads=reads).get(0, 0).cameras
        for one in (plain, asked, again)
    ]
    projections = [c.image_aug @ c.intrinsics for c in seen if c is not None]
    assert len(projections) == 3
    for found in projections[1:]:
        np.testing.assert_allclose(found, projections[0], rtol=1e-12)


def test_points_must_be_what_the_format_holds(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    own_files(copy, smoke_dataset)
    path = min((copy / "samples" / "LIDAR_TOP").iterdir())
    points = np.fromfile(path, np.float32).reshape(-1, 5)
    points[0, 3] = 4096.0
    points.tofile(path)
    assert "intensities" in str(fails(copy, tmp_path))
    edit(copy, "sample_annotation", lambda content: content[4].update(num_lidar_pts=-3))
    assert "negative" in str(fails(copy, tmp_path))


def test_sensors_and_scenes_that_were_not_downloaded(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    own_files(copy, smoke_dataset)
    frames = read_stamp(smoke_dataset.index)["frames"]
    for channel in ("CAM_BACK", "RADAR_FRONT"):
        shutil.rmtree(copy / "samples" / channel)
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    facts = read_stamp(index)
    assert facts["missing"] == {"CAM_BACK": frames, "RADAR_FRONT": frames}
    assert facts["frames"] == frames
    assert "CAM_BACK" in summarise(index)
    # Cameras only: the frames are where the LiDAR stood.
    shutil.rmtree(copy / "samples" / "LIDAR_TOP")
    shutil.rmtree(copy / "sweeps")
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    opened, whole = (FrameIndex.open(folder, "val") for folder in (index, smoke_dataset.index))
    assert np.array_equal(opened.global_from_ego, whole.global_from_ego)
    assert np.array_equal(opened.boxes.boxes, whole.boxes.boxes, equal_nan=True)
    data = DataConfig(root=str(copy), version=VERSION, index=str(index))
    seen = FrameDataset(data, ModelConfig(), "val", train=False, seed=0, reads=Reads.of(Camera((64, 176)))).get(0, 0)
    assert seen.cameras is not None
    assert len(seen.cameras.images) == 5
    with pytest.raises(DataError, match="LIDAR_TOP"):
        FrameDataset(data, ModelConfig(), "val", train=False, seed=0, reads=Reads.of(Lidar()))


def test_scenes_of_blobs_that_were_not_downloaded(copy: Path, tmp_path: Path, smoke_dataset: Any, caplog: Any) -> None:
    own_files(copy, smoke_dataset)
    index = FrameIndex.open(smoke_dataset.index, "train")
    scene = index.columns["scene_name"][0]
    lost = [i for i, name in enumerate(index.columns["scene_name"]) if name == scene]
    for i in lost:
        for row in index.key[i]:
            (copy / index.sensors.filename[index.sensors.position[row]]).unlink()
    facts = read_stamp(convert_nuscenes(copy, VERSION, tmp_path / "index"))
    assert facts["missing_frames"] == len(lost)
    assert scene not in FrameIndex.open(tmp_path / "index", "train").columns["scene_name"]
    # Of another scene only the cameras: a LiDAR network goes without it, and says so.
    other = next(name for name in index.columns["scene_name"] if name != scene)
    rest = [i for i, name in enumerate(index.columns["scene_name"]) if name == other]
    for i in rest:
        (copy / index.sensors.filename[index.sensors.position[index.key[i][0]]]).unlink()
    convert_nuscenes(copy, VERSION, tmp_path / "index")
    data = DataConfig(root=str(copy), version=VERSION, index=str(tmp_path / "index"), lidar_sweeps=0)
    frames = FrameDataset(data, ModelConfig(), "train", train=False, seed=0, reads=Reads.of(Lidar()))
    assert other not in frames.scenes
    assert f"{len(rest)} of " in caplog.text


def test_single_files_may_be_missing_if_asked_for(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    own_files(copy, smoke_dataset)
    path, _ = key_file(copy, "CAM_BACK/")
    path.unlink()
    index = convert_nuscenes(copy, VERSION, tmp_path / "index", options=ConvertOptions(partial=True))
    assert read_stamp(index)["missing"] == {"CAM_BACK": 1}


def test_splits_are_compared_with_the_scenes(copy: Path, tmp_path: Path) -> None:
    path = copy / VERSION / "splits.json"
    splits = json.loads(path.read_text())
    path.write_text(json.dumps({**splits, "more": ["scene-nowhere"]}))
    assert "'scene-nowhere' is not in the tables" in str(fails(copy, tmp_path))
    path.write_text(json.dumps({**splits, "more": splits["val"][:1]}))
    assert "is in the splits 'val' and 'more'" in str(fails(copy, tmp_path))
    path.write_text(json.dumps(splits)[:-1] + f', "train": {json.dumps(splits["val"])}' + "}")
    assert "'train' is given twice" in str(fails(copy, tmp_path))


def test_splits_beside_official_tables(copy: Path, tmp_path: Path) -> None:
    """One rule for indices and evaluations: official names are official, others come from `splits.json`."""
    (copy / VERSION).rename(copy / "v1.0-mini")
    (copy / "v1.0-mini" / "labelled.json").unlink()
    names = [record["name"] for record in json.loads((copy / "v1.0-mini" / "scene.json").read_text())]
    official = official_splits()["mini_val"]
    scenes = json.loads((copy / "v1.0-mini" / "scene.json").read_text())
    for record, name in zip(scenes[:2], official, strict=True):
        record["name"] = name
    (copy / "v1.0-mini" / "scene.json").write_text(json.dumps(scenes))
    mine = {"mine": [official[0], names[2]]}
    (copy / "v1.0-mini" / "splits.json").write_text(json.dumps(mine))
    index = convert_nuscenes(copy, "v1.0-mini", tmp_path / "index")
    for split, wanted in (("mini_val", official), ("mine", mine["mine"])):
        opened = FrameIndex.open(index, split)
        assert set(opened.columns["scene_name"]) == set(wanted)
        truth = load_ground_truth(copy, "v1.0-mini", split)
        assert sorted(truth.tokens) == sorted(opened.columns["token"])
    (copy / "v1.0-mini" / "splits.json").write_text(json.dumps({"mini_val": names[2:3]}))
    with pytest.raises(DataError, match="official"):
        convert_nuscenes(copy, "v1.0-mini", tmp_path / "index")


def test_byte_order_marks_change_nothing(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    for path in (copy / VERSION).glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    assert FrameIndex.open(index, "val").columns == FrameIndex.open(smoke_dataset.index, "val").columns
    assert len(load_ground_truth(copy, VERSION, "val").boxes) > 0


def test_every_problem_is_listed(copy: Path, smoke_dataset: Any) -> None:
    own_files(copy, smoke_dataset)
    halved(copy / "samples" / "CAM_BACK")
    files = sorted((copy / "samples" / "LIDAR_TOP").iterdir())
    files[0].unlink()
    files[1].write_bytes(b"123")
    found = examine_dataset(copy, None)
    assert (found.format, found.versions) == ("nuscenes", [VERSION])
    assert found.files["samples/LIDAR_TOP"] == len(files) - 1
    text = "\n".join(found.problems)
    assert "file is missing" in text
    assert "truncated LiDAR file" in text
    assert text.count("image is 88x32") == 10
    assert "more like: image is #x#" in text
    edit(copy, "ego_pose", lambda content: [content[i].update(rotation=[0.0] * 4) for i in (1, 2)])
    edit(copy, "sample_annotation", lambda content: content[3].update(size=[0.0, 1.0, 1.0]))
    text = "\n".join(examine_dataset(copy, VERSION).problems)
    assert text.count("unit length") == 2
    assert "box sizes must be positive" in text
    for table in ("log", "scene"):
        (copy / VERSION / f"{table}.json").write_text("[{]")
    assert len(examine_dataset(copy, VERSION).problems) == 2
    assert "did you mean" in examine_dataset(copy, "v1.0-simm").problems[0]
    assert str(copy) in examine_dataset(copy.parent, None).problems[0]


def test_tables_of_another_width_change_nothing(copy: Path, tmp_path: Path, smoke_dataset: Any) -> None:
    for path in (copy / VERSION).glob("*.json"):
        path.write_bytes(path.read_text(encoding="utf-8").replace("\n", "\r\n").encode("utf-16"))
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    assert FrameIndex.open(index, "val").columns == FrameIndex.open(smoke_dataset.index, "val").columns
    assert len(load_ground_truth(copy, VERSION, "val").boxes) > 0
    (copy / VERSION / "log.json").write_bytes(b"[\xff]")
    assert "cannot be read as text" in str(fails(copy, tmp_path))


@pytest.mark.parametrize("part", ["CAM_FRONT", "LIDAR_TOP", "RADAR_FRONT"])
def test_a_folder_in_the_place_of_a_file(copy: Path, tmp_path: Path, smoke_dataset: Any, part: str) -> None:
    own_files(copy, smoke_dataset)
    path, token = key_file(copy, part)
    path.unlink()
    path.mkdir()
    error = fails(copy, tmp_path)
    assert "cannot be read: [Errno 21]" in str(error)
    assert (error.file, error.token) == (path, token)


@pytest.mark.parametrize(("part", "message"), [("CAM_FRONT", "truncated"), ("RADAR_FRONT", "truncated radar")])
def test_files_that_were_cut_short(copy: Path, tmp_path: Path, smoke_dataset: Any, part: str, message: str) -> None:
    own_files(copy, smoke_dataset)
    path, token = key_file(copy, part)
    path.write_bytes(path.read_bytes()[:-40])
    error = fails(copy, tmp_path)
    assert message in str(error)
    assert (error.file, error.token) == (path, token)


def test_a_folder_of_two_formats_and_parts_of_one(copy: Path, tmp_path: Path) -> None:
    for name in ("velodyne", "calib"):
        (copy / "training" / name).mkdir(parents=True)
    found = examine_dataset(copy, None)
    assert (found.format, found.also) == ("nuscenes", ["kitti"])
    assert "no frame: there is neither" in found.problems[0]
    assert f"--root {copy}" in examine_dataset(copy / "training" / "calib", None).problems[0]
    (tmp_path / "blobs" / "samples").mkdir(parents=True)
    assert "without its tables" in examine_dataset(tmp_path / "blobs", None).problems[0]
