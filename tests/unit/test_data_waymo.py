"""The Waymo Open Dataset v2 in its on-disk format: range images, simulated segments, conversion, and bad files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation

from bevkd.classes import LABELS
from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data import FrameDataset
from bevkd.data.index import UNCOUNTED, FrameIndex, read_stamp
from bevkd.data.load import FrameLoader
from bevkd.data.options import ConvertOptions
from bevkd.data.reads import Camera, Depth, Lidar, Reads
from bevkd.data.summary import summarise
from bevkd.data.waymo import Segment, convert, convert_waymo
from bevkd.data.waymo.components import COMPONENTS
from bevkd.data.waymo.range_image import pixels_of, points_from_range_image, uniform_inclinations
from bevkd.data.waymo.schemas import schema
from bevkd.doctor import examine_dataset
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import box_corners, points_in_boxes
from bevkd.sim import WAYMO_SCALES, simulate_waymo
from bevkd.sim.config import LabelledConfig

SMOKE = WAYMO_SCALES["smoke"]
TINY = replace(
    SMOKE,
    splits=replace(SMOKE.splits, train=3, tune=1, val=1, keyframes_per_scene=3),
    labelled=LabelledConfig(count=6, subsets=1),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waymo")
    simulate_waymo(TINY, folder / "data", seed=1)
    convert_waymo(folder / "data", folder / "index")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "data", tmp_path / "data")
    return tmp_path / "data"


def mount(rng: np.random.Generator) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("ZYX", [2.6, *rng.normal(0, 0.01, 2)]).as_matrix()
    out[:3, 3] = (1.4, 0.1, 2.2)
    return out


def test_points_by_hand() -> None:
    """Every pixel of a small image, with the formula written out one pixel at a time."""
    rng = np.random.default_rng(0)
    height, width, matrix = 5, 12, mount(rng)
    beams = np.sort(rng.uniform(-0.3, 0.05, height))
    image = rng.uniform(5, 50, (height, width, 4)).astype(np.float32)
    image[rng.random((height, width)) < 0.3, 0] = -1
    pose = rng.uniform(-0.1, 0.1, (height, width, 6)).astype(np.float32)
    pose[..., 3:] += np.float32(100)
    world = np.eye(4)
    world[:3, :3] = Rotation.from_euler("Z", 0.3).as_matrix()
    world[:3, 3] = (90, 80, 1)
    found = points_from_range_image(image, beams, matrix, pose, world)
    expected = []
    correction = np.arctan2(matrix[1, 0], matrix[0, 0])
    for i in range(height):
        for j in range(width):
            if image[i, j, 0] <= 0:
                continue
            azimuth = (2 * (width - j - 0.5) / width - 1) * np.pi - correction
            beam, r = beams[height - 1 - i], float(image[i, j, 0])
            point = r * np.array([np.cos(azimuth) * np.cos(beam), np.sin(azimuth) * np.cos(beam), np.sin(beam)])
            point = matrix[:3, :3] @ point + matrix[:3, 3]
            roll, pitch, yaw = (float(a) for a in pose[i, j, :3])
            point = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix() @ point + pose[i, j, 3:]
            expected.append([*np.linalg.solve(world, [*point, 1])[:3], *image[i, j, 1:]])
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_range_images_invert(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, beams = mount(rng), np.sort(rng.uniform(-0.3, 0.05, 16))
    image = np.full((16, 90, 4), -1, dtype=np.float32)
    some = rng.random((16, 90)) < 0.7
    image[some, 0] = rng.uniform(2, 70, some.sum())
    points = points_from_range_image(image, beams, matrix)
    row, column, distance = pixels_of(points[:, :3], beams, 90, matrix)
    assert np.array_equal(np.stack([row, column]), np.stack(np.nonzero(some)))
    np.testing.assert_allclose(distance, image[some, 0], atol=1e-5)


def test_uniform_inclinations_are_middles() -> None:
    np.testing.assert_allclose(uniform_inclinations(-1.0, 1.0, 4), [-0.75, -0.25, 0.25, 0.75])


def test_schemas_are_the_official_ones() -> None:
    """Names and types as the published components define them (a sample of each kind)."""
    lidar = schema("lidar")
    assert lidar.field("[LiDARComponent].range_image_return1.values").type == pa.list_(pa.float32())
    assert lidar.field("[LiDARComponent].range_image_return2.shape").type == pa.list_(pa.int32(), 3)
    assert lidar.field("key.frame_timestamp_micros").type == pa.int64()
    assert lidar.field("key.laser_name").type == pa.int8()
    pose = schema("vehicle_pose").field("[VehiclePoseComponent].world_from_vehicle.transform").type
    assert pose == pa.list_(pa.float64(), 16)
    assert schema("lidar_box").field("[LiDARBoxComponent].difficulty_level.detection").type == pa.int8()
    assert schema("lidar_calibration").field("[LiDARCalibrationComponent].beam_inclination.values").nullable
    assert schema("camera_image").field("[CameraImageComponent].image").type == pa.binary()


def test_same_seed_same_bytes_whatever_the_workers(made: Path, tmp_path: Path) -> None:
    simulate_waymo(TINY, tmp_path / "again", seed=1, workers=2)
    files = sorted(path.relative_to(made / "data") for path in (made / "data").rglob("*") if path.is_file())
    assert len(files) == 5 * len(COMPONENTS) + 2
    assert all((made / "data" / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)


def test_index_says_what_the_files_say(made: Path) -> None:
    facts = read_stamp(made / "index")
    assert facts["splits"] == ["train", "tune", "val"]
    index = FrameIndex.open(made / "index", "train", sensors=("lidar", "camera"))
    assert len(index) == 9
    loader = FrameLoader(index, made / "data", Reads.of(Lidar(sweeps=2), Camera((64, 96)), Depth(8)))
    for frame in range(len(index)):
        raw = loader.load(frame)
        mine = slice(index.boxes.start[frame], index.boxes.start[frame + 1])
        assert raw.key_points is not None
        assert raw.points is not None
        assert raw.images is not None
        counts = points_in_boxes(raw.key_points, index.boxes.boxes[mine]).sum(axis=1)
        assert np.array_equal(counts, index.boxes.lidar_points[mine])
        assert len(raw.images) == 5
        assert raw.points[:, 4].max() == pytest.approx(0.1 * min(2, frame % 3), abs=1e-6)
        assert 0 <= raw.points[:, 3].min() <= raw.points[:, 3].max() < 1
    hard = (index.boxes.difficulty == 2) | (index.boxes.lidar_points > 5)
    assert hard.all()
    assert set(index.boxes.difficulty.tolist()) == {1, 2}
    assert np.abs(index.boxes.boxes[:, 7:]).max() > 1
    assert not np.isnan(index.boxes.boxes).any()


def test_sweeps_of_a_still_world_lie_on_each_other(made: Path) -> None:
    """Sweeps are moved by the vehicle's motion: the points of a building do not smear."""
    index = FrameIndex.open(made / "index", "train", sensors=("lidar",))
    loader = FrameLoader(index, made / "data", Reads.of(Lidar(sweeps=2)))
    points = loader.load(2).points
    assert points is not None
    boxes = index.boxes.boxes[index.boxes.start[2] : index.boxes.start[3]]
    still = boxes[np.linalg.norm(boxes[:, 7:], axis=1) < 0.05]
    assert len(still)
    now, before = points[points[:, 4] < 0.05], points[points[:, 4] > 0.15]
    counts = points_in_boxes(now, still).sum(axis=1), points_in_boxes(before, still).sum(axis=1)
    many = counts[0] > 30
    assert many.any()
    assert (counts[1][many] > 0.5 * counts[0][many]).all()


def test_boxes_are_seen_by_the_cameras(made: Path) -> None:
    """A box with many points is in front of a camera whose picture it falls into."""
    index = FrameIndex.open(made / "index", "train", sensors=("camera",))
    loader = FrameLoader(index, made / "data", Reads.of(Camera((64, 96))))
    raw = loader.load(0)
    assert raw.ego_from_camera is not None
    assert raw.intrinsics is not None
    assert raw.images is not None
    ahead = np.array([20.0, 0.0, 1.0, 2, 2, 2, 0])
    for n, side in ((0, 0.0), (1, 45.0), (2, -45.0), (3, 90.0), (4, -90.0)):
        turn = np.deg2rad(side)
        box = np.array([20 * np.cos(turn), 20 * np.sin(turn), *ahead[2:]])
        corners = box_corners(box[None])[0]
        local = np.column_stack([corners, np.ones(8)]) @ np.linalg.inv(raw.ego_from_camera[n]).T
        assert (local[:, 2] > 0).all()
        pixels = local[:, :3] @ raw.intrinsics[n].T
        width, height = raw.images[n].size
        assert (np.abs(pixels[:, 0] / pixels[:, 2] - width / 2) < width / 4).all()
        assert (pixels[:, 1] / pixels[:, 2] > 0).all()
        assert (pixels[:, 1] / pixels[:, 2] < height).all()


def test_testing_has_no_boxes(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "validation", copy / "testing")
    shutil.rmtree(copy / "testing" / "lidar_box")
    index = FrameIndex.open(convert_waymo(copy, tmp_path / "index"), "test")
    assert len(index) == 3
    assert len(index.boxes.labels) == 0


def test_workers_make_no_difference(copy: Path, made: Path, tmp_path: Path) -> None:
    out = convert_waymo(copy, tmp_path / "index", workers=2)
    for name in ("frames", "sensors", "boxes"):
        assert pq.read_table(out / f"{name}.parquet").equals(pq.read_table(made / "index" / f"{name}.parquet"))


def test_an_interrupted_conversion_goes_on(copy: Path, made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    original, seen = convert.segment_tables, []

    def fail_on_third(root: Path, segment: str, split: str) -> Any:
        seen.append(segment)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(root, segment, split)

    out = tmp_path / "indices" / "index"
    monkeypatch.setattr(convert, "segment_tables", fail_on_third)
    with pytest.raises(KeyboardInterrupt):
        convert_waymo(copy, out)
    assert not out.exists()
    convert_waymo(copy, out)
    assert len(seen) == 3 + 3  # the first two of five were not looked at again
    assert [path.name for path in out.parent.iterdir()] == ["index"]
    assert pq.read_table(out / "boxes.parquet").equals(pq.read_table(made / "index" / "boxes.parquet"))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def column(name: str, change: Callable[[list[Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        def one(table: pa.Table) -> pa.Table:
            values = table[name].to_pylist()
            change(values)
            at = table.schema.get_field_index(name)
            return table.set_column(at, name, pa.array(values, table.schema.field(name).type))

        rewrite(path, one)

    return apply


def words(name: str) -> Callable[[Path], None]:
    """A column of text instead of numbers."""

    def apply(path: Path) -> None:
        def one(table: pa.Table) -> pa.Table:
            return table.set_column(table.schema.get_field_index(name), name, pa.array(["many"] * len(table)))

        rewrite(path, one)

    return apply


def corrupt(path: Path) -> None:
    """Break the data pages, not the footer."""
    content = bytearray(path.read_bytes())
    content[200:600] = bytes(400)
    path.write_bytes(bytes(content))


SIZE, POSE = "[LiDARBoxComponent].box.size.x", "[VehiclePoseComponent].world_from_vehicle.transform"
POINTS = "[LiDARBoxComponent].num_lidar_points_in_box"
BEAMS = "[LiDARCalibrationComponent].beam_inclination.values"
CENTRE, RETURN = "[CameraCalibrationComponent].intrinsic.c_u", "[LiDARComponent].range_image_return2.values"
BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("stats", lambda p: p.unlink(), "component is missing"),
    ("lidar_box", lambda p: p.unlink(), "component is missing"),
    ("camera_calibration", lambda p: p.unlink(), "component is missing"),
    ("camera_image", lambda p: p.write_bytes(b"PAR1"), "cannot be read as Parquet"),
    ("vehicle_pose", lambda p: rewrite(p, lambda t: t.drop_columns([POSE])), "column is missing"),
    ("vehicle_pose", column(POSE, lambda v: v[1].__setitem__(3, float("nan"))), "is not a 4x4 matrix of a rotation"),
    ("vehicle_pose", lambda p: rewrite(p, lambda t: t.slice(0, 0)), "no frame"),
    ("lidar_box", column(SIZE, lambda v: v.__setitem__(2, -1.0)), "sizes must be positive"),
    ("lidar_box", column("key.frame_timestamp_micros", lambda v: v.__setitem__(2, 5)), "frame that is not there"),
    ("lidar", lambda p: rewrite(p, lambda t: t.slice(5)), "no row for the frame"),
    ("stats", lambda p: rewrite(p, lambda t: t.slice(1)), "no row for the frame"),
    ("lidar_box", words(POINTS), "column is not numeric"),
    ("lidar_box", corrupt, "broken row group|cannot be read"),
    ("lidar_calibration", lambda p: p.unlink(), "component is missing"),
    ("lidar_calibration", lambda p: rewrite(p, lambda t: t.slice(1)), "calibration is missing"),
    ("lidar_calibration", column(BEAMS, lambda v: v[0].__setitem__(1, None)), "inclinations are missing"),
    ("lidar_pose", lambda p: p.unlink(), "component is missing"),
    ("lidar_pose", lambda p: rewrite(p, lambda t: t.slice(1)), "no row for the frame"),
    ("lidar", lambda p: rewrite(p, lambda t: t.drop_columns([RETURN])), "column is missing"),
    ("camera_calibration", column(CENTRE, lambda v: v.__setitem__(0, None)), "invertible 3x3"),
    ("vehicle_pose", column(POSE, lambda v: v.__setitem__(1, [0.0] * 16)), "is not a 4x4 matrix of a rotation"),
]


@pytest.mark.parametrize(("component", "change", "message"), BAD)
def test_bad_components(
    copy: Path, tmp_path: Path, component: str, change: Callable[[Path], object], message: str
) -> None:
    path = sorted((copy / "training" / component).glob("*.parquet"))[1]
    change(path)
    out = tmp_path / "indices" / "index"
    with pytest.raises(DataError, match=message) as error:
        convert_waymo(copy, out)
    assert error.value.file == path
    assert not out.exists()


def test_velocities_follow_the_axes_of_the_vehicle(made: Path) -> None:
    """Waymo's speeds are along the axes of the world; an object moves from frame to frame as the index says."""
    index = FrameIndex.open(made / "index", "train")
    boxes, turned = index.boxes, 0
    for i in range(len(index) - 1):
        if index.columns["scene_name"][i] != index.columns["scene_name"][i + 1]:
            continue
        seconds = (index.timestamp[i + 1] - index.timestamp[i]) * 1e-6
        now, then = (
            {boxes.instances[row]: row for row in range(boxes.start[k], boxes.start[k + 1])} for k in (i, i + 1)
        )
        poses = index.global_from_ego[i], index.global_from_ego[i + 1]
        for instance in now.keys() & then.keys():
            a, b = boxes.boxes[now[instance]], boxes.boxes[then[instance]]
            places = [pose[:2, :2] @ box[:2] + pose[:2, 3] for pose, box in zip(poses, (a, b), strict=True)]
            moved = (places[1] - places[0]) / seconds
            assert np.abs(poses[0][:2, :2] @ a[7:] - moved).max() < 0.3
            turned += np.hypot(*moved) > 2 and abs(poses[0][1, 0]) > 0.3
    assert turned > 5


def test_lidar_only_downloads_are_indexed(copy: Path, tmp_path: Path, made: Path) -> None:
    for component in ("camera_image", "camera_calibration", "stats"):
        for folder in copy.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder / component)
    index = FrameIndex.open(convert_waymo(copy, tmp_path / "index"), "train")
    assert set(index.sensors.modality) == {"lidar"}
    assert set(index.columns["weather"]) == {""}
    whole = FrameIndex.open(made / "index", "train")
    assert np.array_equal(index.boxes.boxes, whole.boxes.boxes, equal_nan=True)


def test_an_index_that_lost_a_part_is_made_again(copy: Path, tmp_path: Path) -> None:
    out = convert_waymo(copy, tmp_path / "index")
    (out / "frames.parquet").unlink()  # as Snakemake does before it makes an output again
    convert_waymo(copy, out)
    assert len(FrameIndex.open(out, "train")) > 0
    (out / "notes.txt").write_text("mine")
    (out / "frames.parquet").unlink()
    with pytest.raises(DataError, match="not empty"):
        convert_waymo(copy, out)


def test_a_label_that_is_corrected_in_place_enters_the_index(copy: Path, tmp_path: Path) -> None:
    """Neither size nor statistics of its file need change."""
    out = convert_waymo(copy, tmp_path / "index")
    before = FrameIndex.open(out, "train").boxes.boxes.copy()
    path = sorted((copy / "training" / "lidar_box").glob("*.parquet"))[0]
    name = "[LiDARBoxComponent].box.center.x"
    table = pq.read_table(path)
    values = table[name].to_pylist()
    assert values[0] != values[1]
    values[:2] = values[1::-1]
    sizes = []
    for content in (table, table.set_column(table.column_names.index(name), name, pa.array(values))):
        pq.write_table(content, path, compression="none", use_dictionary=False)
        convert_waymo(copy, out)
        sizes.append(path.stat().st_size)
    assert sizes[0] == sizes[1]
    assert not np.array_equal(FrameIndex.open(out, "train").boxes.boxes, before, equal_nan=True)


def test_points_without_the_pose_of_their_pixels_are_refused(copy: Path) -> None:
    path = sorted((copy / "training" / "lidar_pose").glob("*.parquet"))[0]
    time = pq.read_table(path)["key.frame_timestamp_micros"][0].as_py()
    column("[LiDARPoseComponent].range_image_return1.values", lambda v: v.__setitem__(0, None))(path)
    with pytest.raises(DataError, match="pixel poses are missing") as error:
        Segment(copy, f"training/{path.stem}").points(time)
    assert error.value.file == path
    assert error.value.field == "laser 1"


def test_bad_range_images(copy: Path) -> None:
    path = sorted((copy / "training" / "lidar").glob("*.parquet"))[0]
    name = f"training/{path.stem}"
    time = pq.read_table(path)["key.frame_timestamp_micros"][0].as_py()
    assert len(Segment(copy, name).points(time)) > 1000
    with pytest.raises(DataError, match="no row for the frame"):
        Segment(copy, name).points(time + 1)
    column("[LiDARComponent].range_image_return1.shape", lambda v: v.__setitem__(0, [2, 3, 4]))(path)
    with pytest.raises(DataError, match="do not make an image") as error:
        Segment(copy, name).points(time)
    assert error.value.file == path
    assert str(time) in str(error.value.token)


def test_broken_row_group_is_met_when_its_frame_is_read(copy: Path) -> None:
    path = sorted((copy / "training" / "lidar").glob("*.parquet"))[0]
    times = sorted(set(pq.read_table(path)["key.frame_timestamp_micros"].to_pylist()))
    group = pq.ParquetFile(path).metadata.row_group(1)
    values = next(
        group.column(i) for i in range(group.num_columns) if "return1.values" in group.column(i).path_in_schema
    )
    content = bytearray(path.read_bytes())
    start = values.dictionary_page_offset or values.data_page_offset
    content[start + 40 : start + 400] = bytes(360)
    path.write_bytes(bytes(content))
    segment = Segment(copy, f"training/{path.stem}")
    assert len(segment.points(times[0])) > 1000
    with pytest.raises(DataError, match="broken row group") as error:
        segment.points(times[1])
    assert error.value.file == path


def test_unreadable_picture(copy: Path) -> None:
    path = sorted((copy / "training" / "camera_image").glob("*.parquet"))[0]
    time = pq.read_table(path)["key.frame_timestamp_micros"][0].as_py()
    column("[CameraImageComponent].image", lambda v: v.__setitem__(0, v[0][:100]))(path)
    segment = Segment(copy, f"training/{path.stem}")
    with pytest.raises(DataError, match="unreadable image") as error:
        segment.image(time, 1)
    assert (error.value.file, error.value.field) == (path, "camera 1")
    assert segment.image(time, 2).size == (96, 64)


def test_no_segments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no segment"):
        convert_waymo(tmp_path, tmp_path / "index")


def _rewrite(path: Path, field: str, change: Callable[[list[Any]], pa.Array]) -> None:
    table = pq.read_table(path)
    at = next(i for i, name in enumerate(table.schema.names) if name.endswith(field))
    values = change(table.column(at).to_pylist())
    pq.write_table(table.set_column(at, table.schema.names[at], values), path)


def _segment_files(root: Path, component: str) -> list[Path]:
    return sorted((root / "training" / component).glob("*.parquet"))


def test_sensors_and_labels_of_single_segments(copy: Path, tmp_path: Path, made: Path) -> None:
    whole = FrameIndex.open(made / "index", "train")
    for component in ("lidar", "lidar_pose", "lidar_calibration"):
        _segment_files(copy, component)[0].unlink()
    for component in ("camera_image", "camera_calibration"):
        _segment_files(copy, component)[1].unlink()
    facts = read_stamp(convert_waymo(copy, tmp_path / "index"))
    assert facts["missing"] == {"camera": 3, "lidar": 3}
    index = FrameIndex.open(tmp_path / "index", "train")
    assert index.columns["token"] == whole.columns["token"]
    data = DataConfig(kind="waymo", root=str(copy), index=str(tmp_path / "index"), classes=("vehicle",), lidar_sweeps=0)
    for reads in (Reads.of(Lidar()), Reads.of(Camera((64, 96)))):
        frames = FrameDataset(data, ModelConfig(), "train", train=True, seed=0, labelled_subset=-1, reads=reads)
        assert len(frames) == len(whole) - 3
        frames.get(0, 0)
    # A part of the LiDAR alone is of no use: an error, unless it is said that parts are missing.
    _segment_files(copy, "lidar_pose")[0].unlink()
    with pytest.raises(DataError, match="lidar_pose"):
        convert_waymo(copy, tmp_path / "index")
    facts = read_stamp(convert_waymo(copy, tmp_path / "index", options=ConvertOptions(partial=True)))
    assert facts["missing"] == {"camera": 3, "lidar": 6}


def test_segments_without_labels_by_option(copy: Path, tmp_path: Path) -> None:
    (copy / "labelled.json").unlink()
    path = _segment_files(copy, "lidar_box")[0]
    path.unlink()
    with pytest.raises(DataError, match="component is missing"):
        convert_waymo(copy, tmp_path / "index")
    out = convert_waymo(copy, tmp_path / "index", options=ConvertOptions(missing_labels="unlabelled"))
    index = FrameIndex.open(out, "train")
    assert sum(held is None for held in index.subsets) == 3
    data = DataConfig(kind="waymo", root=str(copy), index=str(out), classes=("vehicle",), lidar_sweeps=0)
    frames = FrameDataset(data, ModelConfig(), "train", train=True, seed=0)
    assert path.stem not in frames.scenes


def test_own_types_and_boxes_that_nobody_counted(copy: Path, tmp_path: Path) -> None:
    for path in _segment_files(copy, "lidar_box"):
        _rewrite(path, ".type", lambda kinds: pa.array([7 if kind == 1 else kind for kind in kinds], pa.int8()))
        _rewrite(path, "num_lidar_points_in_box", lambda counts: pa.nulls(len(counts), pa.int64()))
    out = convert_waymo(copy, tmp_path / "index")
    assert "type_7" in summarise(out)
    boxes = FrameIndex.open(out, "train", categories={"type_7": "vehicle"}).boxes
    assert {LABELS[i] for i, name in zip(boxes.labels, boxes.category, strict=True) if name == "type_7"} == {"vehicle"}
    assert (boxes.points >= UNCOUNTED).all()


def test_images_of_another_size_than_calibrated(copy: Path, tmp_path: Path) -> None:
    for path in _segment_files(copy, "camera_calibration"):
        _rewrite(path, ".width", lambda widths: pa.array([2 * width for width in widths], pa.int32()))
    with pytest.raises(DataError, match="its calibration was made for"):
        convert_waymo(copy, tmp_path / "index")
    out = convert_waymo(copy, tmp_path / "index", options=ConvertOptions(rescale_images=True))
    index = FrameIndex.open(out, "train")
    raw = FrameLoader(index, copy, Reads.of(Camera((64, 96)))).load(0)
    assert raw.intrinsics is not None
    at = index.sensors.position[index.key[0][1]]
    np.testing.assert_allclose(raw.intrinsics[0, 0], index.sensors.intrinsics[at, 0] / 2)
    with pytest.raises(ConfigError, match="no number of columns"):
        convert_waymo(copy, tmp_path / "index", options=ConvertOptions(point_columns=4))


def test_every_problem_is_listed(copy: Path) -> None:
    first, second = _segment_files(copy, "lidar_box")[:2]
    _rewrite(first, "size.x", lambda sizes: pa.array([0.0 for _ in sizes]))
    second.write_bytes(b"not Parquet")
    _segment_files(copy, "lidar_calibration")[0].unlink()
    found = examine_dataset(copy, None)
    assert found.format == "waymo"
    assert found.files["training/lidar_box"] == 3
    text = "\n".join(found.problems)
    for words in ("box sizes must be positive", "cannot be read as Parquet", "lidar_calibration"):
        assert words in text


def test_labels_that_are_changed_in_place_make_another_index(copy: Path, tmp_path: Path) -> None:
    """Neither the size nor the statistics of the file tell."""

    def write(shift: float) -> None:
        table = pq.read_table(path)
        at = next(i for i, name in enumerate(table.schema.names) if name.endswith("center.x"))
        values = np.asarray(table.column(at))
        inner = int(np.argsort(values)[len(values) // 2])
        values = np.where(np.arange(len(values)) == inner, values + shift, values)
        table = table.set_column(at, table.schema.names[at], pa.array(values))
        pq.write_table(table, path, compression="none", use_dictionary=False)

    path = _segment_files(copy, "lidar_box")[0]
    write(0.0)
    before, size = read_stamp(convert_waymo(copy, tmp_path / "index"))["source"], path.stat().st_size
    write(1e-3)
    assert path.stat().st_size == size
    assert read_stamp(convert_waymo(copy, tmp_path / "index"))["source"] != before


def test_segments_without_poses_are_not_passed_over(copy: Path, tmp_path: Path, caplog: Any) -> None:
    path = _segment_files(copy, "vehicle_pose")[0]
    path.unlink()
    with pytest.raises(DataError, match="component is missing") as error:
        convert_waymo(copy, tmp_path / "index")
    assert error.value.file == path
    facts = read_stamp(convert_waymo(copy, tmp_path / "index", options=ConvertOptions(partial=True)))
    assert facts["frames"] == 12  # `labelled.json` may name frames that were left out
    assert "1 segments without vehicle_pose" in caplog.text


def test_a_set_whose_labels_are_not_published_is_no_problem(copy: Path) -> None:
    shutil.move(copy / "validation", copy / "domain_adaptation_testing")
    shutil.rmtree(copy / "domain_adaptation_testing" / "lidar_box")
    for name in ("training", "tuning"):
        shutil.rmtree(copy / name)
    (copy / "labelled.json").unlink()
    assert examine_dataset(copy, None).problems == []
