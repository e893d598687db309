"""KITTI in its on-disk format: simulated, converted, read; and what bad files get."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from bevkd.classes import LABEL_INDEX
from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data import FrameDataset
from bevkd.data.index import UNCOUNTED, FrameIndex, read_stamp
from bevkd.data.kitti import Calibration, Objects, convert_kitti, read_calibration, read_folder
from bevkd.data.kitti.boxes import count_points, difficulty, ego_boxes, image_box, placement, rotations
from bevkd.data.kitti.convert import image_size, size_or_guess
from bevkd.data.kitti.objects import COLUMNS, TYPES, placed
from bevkd.data.load import FrameLoader
from bevkd.data.options import ConvertOptions
from bevkd.data.reads import Camera, Lidar, Reads
from bevkd.data.summary import summarise
from bevkd.doctor import examine_dataset
from bevkd.errors import ConfigError, DataError
from bevkd.eval.kitti import evaluate_files
from bevkd.geometry import apply, box_corners
from bevkd.sim import KITTI_SCALES, simulate_kitti
from bevkd.sim.config import LabelledConfig, SplitConfig

TINY = replace(
    KITTI_SCALES["smoke"],
    splits=SplitConfig(train=4, tune=1, val=1, keyframes_per_scene=2),
    labelled=LabelledConfig(count=6, subsets=2),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kitti")
    simulate_kitti(TINY, folder / "data", seed=3)
    convert_kitti(folder / "data", folder / "index")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "data", tmp_path / "data")
    return tmp_path / "data"


def calibration(seed: int) -> Calibration:
    rng = np.random.default_rng(seed)
    rectified_from_ego = np.eye(4)
    ahead = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    rectified_from_ego[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.02, 3)).as_matrix() @ ahead
    rectified_from_ego[:3, 3] = rng.normal(0, 0.3, 3)
    projection = np.array([[700.0, 0, 600, 45], [0, 700, 180, 0.2], [0, 0, 1, 0.003]])
    return Calibration(projection, rectified_from_ego)


def objects(rng: np.random.Generator, n: int) -> Objects:
    values = np.zeros((n, len(COLUMNS) - 1))
    columns = {
        "height": rng.uniform(1, 3, n),
        "width": rng.uniform(0.5, 2.5, n),
        "length": rng.uniform(0.5, 8, n),
        "x": rng.uniform(-10, 10, n),
        "y": rng.uniform(1, 2, n),
        "z": rng.uniform(5, 40, n),
        "rotation_y": rng.uniform(-np.pi, np.pi, n),
    }
    for name, column in columns.items():
        values[:, COLUMNS.index(name) - 1] = column
    return Objects(np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), values)


def test_boxes_follow_the_benchmarks_description() -> None:
    """Corners as the development kit draws them: x along the length, y down from 0 to -h, turned about y."""
    rng, calib = np.random.default_rng(0), calibration(1)
    found = objects(rng, 20)
    boxes, turns = ego_boxes(found, calib), rotations(found, calib)
    for i in range(20):
        x, y, z, angle = (found.column(name)[i] for name in ("x", "y", "z", "rotation_y"))
        height, width, length = (found.column(name)[i] for name in ("height", "width", "length"))
        turn = Rotation.from_rotvec([0, angle, 0]).as_matrix()
        middle = apply(calib.ego_from_rectified, np.array([[x, y - height / 2, z]]))[0]
        np.testing.assert_allclose(boxes[i, :3], middle, atol=1e-9)
        np.testing.assert_allclose(boxes[i, 3:6], [length, width, height])
        nose = calib.ego_from_rectified[:3, :3] @ turn @ [length / 2, 0, 0]
        np.testing.assert_allclose(turns[i] @ [length / 2, 0, 0], nose, atol=1e-9)
        assert boxes[i, 6] == pytest.approx(np.arctan2(nose[1], nose[0]))
        left = turns[i] @ [0, 1, 0]
        np.testing.assert_allclose(np.cross(turns[i] @ [0, 0, 1], turns[i] @ [1, 0, 0]), left, atol=1e-9)
        assert np.linalg.det(turns[i]) == pytest.approx(1.0)


def test_placement_undoes_what_reading_does() -> None:
    """Where the camera stands upright, a box that is written has the numbers it was read from."""
    rng = np.random.default_rng(2)
    upright = np.eye(4)
    upright[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    upright[:3, 3] = (0.1, -0.2, 0.3)
    calib = Calibration(calibration(0).projection, upright)
    found = objects(rng, 50)
    place, angle, alpha = placement(ego_boxes(found, calib), calib)
    np.testing.assert_allclose(place, np.stack([found.column(name) for name in "xyz"], axis=-1), atol=1e-9)
    np.testing.assert_allclose(angle, found.column("rotation_y"), atol=1e-9)
    seen = found.column("rotation_y") - np.arctan2(found.column("x"), found.column("z"))
    np.testing.assert_allclose(np.exp(1j * alpha), np.exp(1j * seen), atol=1e-9)


def test_image_box_is_the_hull_of_the_projected_corners() -> None:
    calib, box = calibration(3), np.array([15.0, 1.0, -1.0, 4.0, 1.8, 1.5, 0.4])
    corners = apply(calib.rectified_from_ego, box_corners(box[None])[0])
    pixels = np.column_stack([corners, np.ones(8)]) @ calib.projection.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    found = image_box(box, calib, (1242, 375))
    assert found is not None
    np.testing.assert_allclose(found[0], [*pixels.min(axis=0), *pixels.max(axis=0)])
    assert found[1] == pytest.approx(0.0)
    left = image_box(np.array([15.0, 12.0, -1.0, 4.0, 1.8, 1.5, 0.4]), calib, (1242, 375))
    assert left is not None
    assert 0 < left[1] < 1
    assert left[0][0] == 0
    assert image_box(np.array([-15.0, 0, -1, 4, 1.8, 1.5, 0]), calib, (1242, 375)) is None


def test_points_are_counted_in_the_turned_box() -> None:
    rng, calib = np.random.default_rng(4), calibration(5)
    found = objects(rng, 8)
    points = np.concatenate([box[:3] + rng.normal(0, 1.5, (300, 3)) for box in ego_boxes(found, calib)]).astype(
        np.float32
    )
    counts = count_points(points, found, calib)
    boxes, turns = ego_boxes(found, calib), rotations(found, calib)
    for i in range(8):
        local = (points - boxes[i, :3]) @ turns[i]
        assert counts[i] == (np.abs(local) <= boxes[i, 3:6] / 2).all(axis=1).sum()
    assert counts.max() > 50


def test_difficulties() -> None:
    rows = [(40, 0, 0.15, 0), (39.9, 0, 0.15, 1), (25, 1, 0.3, 1), (25, 2, 0.3, 2), (25, 0, 0.5, 2), (24.9, 0, 0, 3)]
    rows += [(100, 3, 0, 3), (100, 0, 0.51, 3)]
    values = np.zeros((len(rows), len(COLUMNS) - 1))
    for i, (height, occluded, truncated, _) in enumerate(rows):
        for name, value in (("y2", height), ("occluded", occluded), ("truncated", truncated)):
            values[i, COLUMNS.index(name) - 1] = value
    found = Objects(np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64), values)
    assert difficulty(found).tolist() == [row[3] for row in rows]


def test_same_seed_same_bytes_whatever_the_workers(made: Path, tmp_path: Path) -> None:
    simulate_kitti(TINY, tmp_path / "again", seed=3, workers=2)
    files = sorted(path.relative_to(made / "data") for path in (made / "data").rglob("*") if path.is_file())
    assert len(files) == 12 * 4 + 4 + 2
    assert all((made / "data" / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)


def test_index_says_what_the_files_say(made: Path) -> None:
    facts = read_stamp(made / "index")
    assert facts["splits"] == ["train", "tune", "val"]
    assert facts["labelled_subsets"] == [0, 1]
    index = FrameIndex.open(made / "index", "train+tune+val", sensors=("lidar", "camera"))
    assert len(index) == 12
    assert index.columns["split"] == ["train"] * 8 + ["tune"] * 2 + ["val"] * 2
    labels = read_folder(made / "data/training/label_2", index.columns["token"], scored=False)
    labels = labels.select(placed(labels))
    assert len(labels) == len(index.boxes.labels) > 30
    np.testing.assert_allclose(index.boxes.boxes[:, 5], labels.column("height"))
    assert np.isnan(index.boxes.boxes[:, 7:]).all()
    assert (index.boxes.lidar_points > 0).mean() > 0.9
    assert {0, 1} <= set(index.boxes.difficulty.tolist()) <= {0, 1, 2, 3}
    raw = FrameLoader(index, made / "data", Reads.of(Lidar(), Camera((64, 176)))).load(0)
    assert raw.points is not None
    assert raw.images is not None
    assert raw.points.shape[1] == 5
    assert 0 <= raw.points[:, 3].min() <= raw.points[:, 3].max() <= 1
    assert (raw.images[0].mode, raw.images[0].size) == ("RGB", (621, 188))


def test_projected_boxes_are_the_labelled_ones(made: Path) -> None:
    index = FrameIndex.open(made / "index", "train")
    for frame, token in enumerate(index.columns["token"]):
        calib = read_calibration(made / "data/training/calib" / f"{token}.txt")
        labels = read_folder(made / "data/training/label_2", [token], scored=False)
        labels = labels.select(placed(labels))
        for i, box in enumerate(index.boxes.boxes[index.boxes.start[frame] : index.boxes.start[frame + 1]]):
            found = image_box(box, calib, (621, 188))
            assert found is not None
            corners = [labels.column(name)[i] for name in ("x1", "y1", "x2", "y2")]
            np.testing.assert_allclose(found[0], corners, atol=0.02 * 621)


def test_without_lists_everything_is_for_training(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "ImageSets")
    assert read_stamp(convert_kitti(copy, tmp_path / "index"))["splits"] == ["train"]


def test_the_benchmarks_own_test_list_is_left_out_without_its_frames(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "testing", ignore_errors=True)
    lists = copy / "ImageSets"
    first = (lists / "train.txt").read_text().split()[0]
    for names in ("007000\n007001\n", f"{first}\n"):  # beyond the frames of training, or the name of one of them
        (lists / "test.txt").write_text(names)
        convert_kitti(copy, tmp_path / "index")
        assert "test" not in read_stamp(tmp_path / "index")["splits"]
    held_out = (lists / "val.txt").read_text()
    (lists / "val.txt").unlink()
    (lists / "test.txt").write_text(held_out)  # a held-out part of training
    convert_kitti(copy, tmp_path / "index")
    assert len(FrameIndex.open(tmp_path / "index", "test")) == len(held_out.split())
    (lists / "val.txt").write_bytes("a".encode("utf-16"))
    with pytest.raises(DataError, match=r"val\.txt"):
        convert_kitti(copy, tmp_path / "index")


def test_points_that_the_camera_does_not_see_are_dropped(made: Path) -> None:
    index = FrameIndex.open(made / "index", "train")
    every, seen = (
        FrameLoader(index, made / "data", Reads.of(Lidar(in_view=flag))).load(0).points for flag in (False, True)
    )
    assert every is not None
    assert seen is not None
    camera = FrameLoader(index, made / "data", Reads.of(Lidar())).records(0, "camera")[0]
    calib = read_calibration(made / "data" / "training" / "calib" / f"{index.columns['token'][0]}.txt", "")
    homogeneous = apply(calib.rectified_from_ego, every[:, :3].astype(np.float64))
    image = np.column_stack([homogeneous, np.ones(len(every))]) @ calib.projection.T
    pixel = image[:, :2] / image[:, 2:]
    width, height = index.sensors.size[camera]
    inside = (image[:, 2] > 0) & (pixel >= 0).all(axis=1) & (pixel[:, 0] < width) & (pixel[:, 1] < height)
    assert 0.05 < inside.mean() < 0.5
    assert abs(len(seen) - inside.sum()) <= 2  # single precision at the border
    known = {tuple(row) for row in every[inside].tolist()}
    assert sum(tuple(row) not in known for row in seen.tolist()) <= 2


def test_testing_has_no_labels(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "training", copy / "testing")
    shutil.rmtree(copy / "testing" / "label_2")
    (copy / "ImageSets" / "test.txt").write_text("000000\n000001\n")
    index = FrameIndex.open(convert_kitti(copy, tmp_path / "index", workers=2), "test")
    assert index.columns["token"] == ["test_000000", "test_000001"]
    assert len(index.boxes.labels) == 0


def _labelled_file(root: Path) -> Path:
    return max((root / "training/label_2").glob("*.txt"), key=lambda path: path.stat().st_size)


def test_frames_without_objects_are_valid(copy: Path, tmp_path: Path) -> None:
    path = _labelled_file(copy)
    path.write_text("")
    index = FrameIndex.open(convert_kitti(copy, tmp_path / "index"), "train")
    frame = index.columns["token"].index(path.stem)
    assert index.boxes.start[frame] == index.boxes.start[frame + 1]


def test_what_is_current_is_left_alone(copy: Path, tmp_path: Path) -> None:
    out = convert_kitti(copy, tmp_path / "index")
    before = (out / "frames.parquet").stat().st_mtime_ns
    convert_kitti(copy, out)
    assert (out / "frames.parquet").stat().st_mtime_ns == before
    _labelled_file(copy).write_text("")
    convert_kitti(copy, out)
    assert (out / "frames.parquet").stat().st_mtime_ns != before


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


BAD: list[tuple[str, Callable[[Path], object], str, str | None, str | None]] = [
    ("training/calib/000001.txt", lambda p: p.unlink(), "missing", "000001", None),
    ("training/calib/000001.txt", lambda p: _replace(p, "R0_rect", "R1_rect"), "missing", "000001", "R0_rect"),
    ("training/calib/000001.txt", lambda p: _replace(p, "P2: ", "P2: 1.0 "), "13 values, not 12", "000001", "P2"),
    ("training/calib/000001.txt", lambda p: _replace(p, "P2: ", "P2: nan "), "values", "000001", "P2"),
    ("training/label_2/000001.txt", lambda p: p.write_text("Car 0 0 0\n"), "4 columns, not 15", "000001", None),
    (
        "training/label_2/000001.txt",
        lambda p: p.write_text("Car 0 0 0 1 1 2 2 1.5 -1.6 4 1 1 10 0\n"),
        "negative size",
        "000001",
        "width",
    ),
    ("training/label_2/000001.txt", lambda p: p.unlink(), "cannot be read", "000001", None),
    ("training/velodyne/000001.bin", lambda p: p.write_bytes(p.read_bytes()[:-4]), "truncated", "000001", "filename"),
    ("training/velodyne/000001.bin", lambda p: p.write_bytes(b""), "truncated", "000001", "filename"),
    ("training/image_2/000001.png", lambda p: p.unlink(), "missing", "000001", None),
    ("training/image_2/000001.png", lambda p: p.write_bytes(b"PNG"), "unreadable", "000001", None),
    ("ImageSets/val.txt", lambda p: p.write_text("000999\n"), "not there", "000999", None),
    ("ImageSets/val.txt", lambda p: p.write_text("000000\n"), "split 'train' as well", "000000", None),
    ("labelled.json", lambda p: p.write_text('{"0": ["nowhere"]}'), "does not exist", "nowhere", "0"),
    ("ImageSets", lambda p: (shutil.rmtree(p), p.write_text("x")), "Errno 20", None, None),
    ("ImageSets/val.txt", lambda p: (p.unlink(), p.mkdir()), "Errno 21", None, None),
    ("training/image_2/000001.png", lambda p: p.write_bytes(p.read_bytes()[:-99]), "truncated", "000001", None),
    ("training/image_2/000001.png", lambda p: _deep(p), "8 bits a colour", "000001", None),
]


def _deep(path: Path) -> None:
    """The image with 16 bits a pixel, of which Pillow makes white."""
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 256
    Image.fromarray(grey).save(path)


@pytest.mark.parametrize(("name", "change", "message", "token", "field"), BAD)
def test_bad_files(
    copy: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[Path], object],
    message: str,
    token: str | None,
    field: str | None,
) -> None:
    change(copy / name)
    with pytest.raises(DataError, match=message) as error:
        convert_kitti(copy, tmp_path / "indices" / "index")
    assert (error.value.file, error.value.token, error.value.field) == (copy / name, token, field)
    assert not (tmp_path / "indices").exists() or not any((tmp_path / "indices").iterdir())


def test_no_frames(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frame"):
        convert_kitti(tmp_path, tmp_path / "index")


def _marked(path: Path) -> None:
    """As an editor of Windows saves it: with a byte order mark and its line ends."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def test_byte_order_marks_and_line_ends_change_nothing(copy: Path, made: Path, tmp_path: Path) -> None:
    for path in (*copy.rglob("*.txt"), copy / "labelled.json"):
        _marked(path)
    out = convert_kitti(copy, tmp_path / "index")
    for name in ("frames", "sensors", "boxes"):
        one, other = (pq.read_table(folder / f"{name}.parquet") for folder in (out, made / "index"))
        assert repr(one.to_pylist()) == repr(other.to_pylist())
    names = [path.stem for path in sorted((copy / "training" / "label_2").glob("*.txt"))]
    assert set(read_folder(copy / "training" / "label_2", names, scored=False).kind) <= set(range(len(TYPES)))


def test_text_of_other_widths_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Car 0 0 0 1 1 2 2 1.5 1.6 4 1 1 10 0\r".encode("utf-16"))
    assert read_folder(tmp_path, ["a"], scored=False).kind.tolist() == [0]


SIZELESS = "Car 0 0 0 1 1 2 2 0 0 0 {x} 1 10 0\n"


@pytest.mark.parametrize("scored", [False, True])
def test_placed_objects_have_a_size(tmp_path: Path, scored: bool) -> None:
    ending = " 0.5\n" if scored else "\n"
    (tmp_path / "a.txt").write_text(SIZELESS.format(x=1).replace("\n", ending))
    with pytest.raises(DataError, match=r"line 1: box sizes must be positive.*field=height"):
        read_folder(tmp_path, ["a"], scored=scored)
    (tmp_path / "a.txt").write_text(SIZELESS.format(x=-1000).replace("\n", ending))
    assert len(read_folder(tmp_path, ["a"], scored=scored)) == 1


def test_files_that_cannot_be_opened(copy: Path, tmp_path: Path) -> None:
    cloud = copy / "training" / "velodyne" / "000003.bin"
    cloud.unlink()
    cloud.mkdir()
    with pytest.raises(DataError, match=r"cannot be read: \[Errno 21\].*token=000003"):
        convert_kitti(copy, tmp_path / "index")
    cloud.rmdir()
    cloud.symlink_to(cloud.name)
    with pytest.raises(DataError, match=r"cannot be read: \[Errno 40\].*token=000003"):
        convert_kitti(copy, tmp_path / "index")
    shutil.rmtree(copy / "training" / "velodyne")
    (copy / "training" / "velodyne").write_text("x")
    with pytest.raises(DataError, match=r"cannot be read: \[Errno 20\].*velodyne"):
        convert_kitti(copy, tmp_path / "index")


def test_reflectances_and_calibrations_must_fit(copy: Path, tmp_path: Path) -> None:
    cloud = copy / "training" / "velodyne" / "000001.bin"
    points = np.fromfile(cloud, np.float32).reshape(-1, 4)
    for column, value, message in ((3, 255.0, "intensities from .* to 255"), (0, 1e6, "farther than any LiDAR")):
        bad = points.copy()
        bad[5, column] = value
        bad.tofile(cloud)
        with pytest.raises(DataError, match=message) as error:
            convert_kitti(copy, tmp_path / "index")
        assert (error.value.file, error.value.token) == (cloud, "000001")
    points.tofile(cloud)
    image = copy / "training" / "image_2" / "000001.png"
    with Image.open(image) as picture:
        picture.resize((picture.width // 2, picture.height // 2)).save(image)
    with pytest.raises(DataError, match="does not fit an image"):
        convert_kitti(copy, tmp_path / "index")


def test_other_layouts_of_points_by_option(copy: Path, tmp_path: Path) -> None:
    for path in (copy / "training" / "velodyne").glob("*.bin"):
        points = np.fromfile(path, np.float32).reshape(-1, 4)
        np.pad(points, ((0, 0), (0, 1))).tofile(path)
    options = ConvertOptions(point_columns=5)
    out = convert_kitti(copy, tmp_path / "index", options=options)
    index = FrameIndex.open(out, "train")
    loaded = FrameLoader(index, copy, Reads.of(Lidar())).load(0).points
    size = (copy / index.sensors.filename[0]).stat().st_size
    assert loaded is not None
    assert len(loaded) == size / 20


def test_jpegs_and_sensors_that_were_not_downloaded(copy: Path, tmp_path: Path, made: Path) -> None:
    images = copy / "training" / "image_2"
    for path in images.glob("*.png"):
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".jpg"))
        path.unlink()
    index = FrameIndex.open(convert_kitti(copy, tmp_path / "jpeg"), "train")
    assert {Path(name).suffix for name in index.sensors.filename} == {".bin", ".jpg"}
    assert FrameLoader(index, copy, Reads.of(Camera((64, 176)))).load(0).images
    # One image less is an error, unless it is said that parts are missing.
    next(images.glob("*.jpg")).unlink()
    with pytest.raises(DataError, match="--partial"):
        convert_kitti(copy, tmp_path / "index")
    out = convert_kitti(copy, tmp_path / "index", options=ConvertOptions(partial=True))
    assert read_stamp(out)["missing"] == {"training/image_2": 1}
    # Cameras only: points in boxes were never counted.
    shutil.rmtree(copy / "training" / "velodyne")
    out = convert_kitti(copy, tmp_path / "index", options=ConvertOptions(partial=True))
    frames = read_stamp(made / "index")["frames"]
    assert read_stamp(out)["missing"]["training/velodyne"] == frames - 1
    opened = FrameIndex.open(out, "train")
    assert set(opened.sensors.modality) == {"camera"}
    assert (opened.boxes.points >= UNCOUNTED).all()
    assert len(opened.boxes.labels)
    # LiDAR only.
    shutil.copytree(made / "data" / "training" / "velodyne", copy / "training" / "velodyne")
    shutil.rmtree(images)
    opened = FrameIndex.open(convert_kitti(copy, tmp_path / "index"), "train")
    assert set(opened.sensors.modality) == {"lidar"}
    with pytest.raises(DataError, match="lidar_in_view"):
        FrameLoader(opened, copy, Reads.of(Lidar(in_view=True))).load(0)


def test_frames_without_a_label_file_by_option(copy: Path, tmp_path: Path) -> None:
    (copy / "labelled.json").unlink()
    (copy / "training" / "label_2" / "000001.txt").unlink()
    out = convert_kitti(copy, tmp_path / "index", options=ConvertOptions(missing_labels="unlabelled"))
    assert read_stamp(out)["without_labels"] == 1
    index = FrameIndex.open(out, "train")
    at = index.columns["token"].index("000001")
    assert index.subsets[at] is None
    assert all(held == [0] for i, held in enumerate(index.subsets) if i != at)
    data = DataConfig(kind="kitti", root=str(copy), index=str(out), classes=("car",), lidar_sweeps=0)
    for subset in (0, -1):
        frames = FrameDataset(data, ModelConfig(), "train", train=True, seed=0, labelled_subset=subset)
        assert "000001" not in frames.tokens
        everything = FrameDataset(
            data, ModelConfig(), "train", train=True, seed=0, labelled_subset=subset, frames="all"
        )
        assert everything.labelled[everything.tokens.index("000001")] == False  # noqa: E712 - a NumPy value


def test_own_types_keep_their_names(copy: Path, tmp_path: Path, made: Path) -> None:
    for path in (copy / "training" / "label_2").glob("*.txt"):
        path.write_text(re.sub("^Car ", "my_Car ", path.read_text(), flags=re.MULTILINE))
    out = convert_kitti(copy, tmp_path / "index")
    plain = FrameIndex.open(out, "train").boxes
    mine = [i for i, name in enumerate(plain.category) if name == "my_Car"]
    assert mine
    assert set(plain.labels[mine]) == {-1}
    mapped = FrameIndex.open(out, "train", categories={"MY_CAR": "car"}).boxes
    assert set(mapped.labels[mine]) == {LABEL_INDEX["car"]}
    assert "my_Car" in summarise(out)
    assert "have no class" in summarise(out)
    kept = convert_kitti(copy, tmp_path / "kept", options=ConvertOptions(categories={"my_car": "car"}))
    assert (FrameIndex.open(kept, "train").boxes.labels == mapped.labels).all()
    names = [path.stem for path in (copy / "training" / "label_2").glob("*.txt")]
    read = read_folder(copy / "training" / "label_2", names, scored=False, categories={"my_Car": "car"})
    assert TYPES.index("car") in read.kind
    results = tmp_path / "results"
    results.mkdir()
    for path in (copy / "training" / "label_2").glob("*.txt"):
        lines = [
            f"{line} 1.0" for line in path.read_text().replace("my_Car", "Car").splitlines() if "DontCare" not in line
        ]
        (results / path.name).write_text("\n".join(lines))
    found = [
        evaluate_files(folder / "training" / "label_2", results, tmp_path / "metrics.json", categories=own)
        for folder, own in ((made / "data", None), (copy, {"my_car": "car"}))
    ]
    assert found[0] == found[1]


def test_results_of_frames_whose_images_were_not_downloaded(made: Path, tmp_path: Path) -> None:
    image = made / "data" / "training" / "image_2" / "000000.png"
    known = read_calibration(made / "data" / "training" / "calib" / "000000.txt")
    exact = size_or_guess(image, "000000", known)
    assert exact == image_size(image, "000000")
    guess = size_or_guess(tmp_path / image.name, "000000", known)
    assert np.allclose(guess, exact, rtol=0.2)


def test_every_problem_is_listed(copy: Path) -> None:
    (copy / "training" / "calib" / "000000.txt").unlink()
    (copy / "training" / "velodyne" / "000001.bin").write_bytes(b"123")
    (copy / "training" / "label_2" / "000001.txt").write_text("Car\n")
    (copy / "ImageSets" / "val.txt").write_text("000999\n000998\n")
    found = examine_dataset(copy, None)
    assert found.format == "kitti"
    assert found.files["training/velodyne"] == read_frames(copy)
    text = "\n".join(found.problems)
    for words in ("calib/000000.txt", "truncated LiDAR", "1 columns, not 15", "000999", "000998"):
        assert words in text
    assert len(found.problems) == 5


def read_frames(copy: Path) -> int:
    return len(list((copy / "training" / "velodyne").glob("*.bin")))


def test_intrinsics_are_not_rescaled_by_a_guess(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KITTI does not say for which size"):
        convert_kitti(copy, tmp_path / "index", options=ConvertOptions(rescale_images=True))


def test_names_of_matrices_of_other_kitti_sets(copy: Path, tmp_path: Path) -> None:
    path = copy / "training" / "calib" / "000001.txt"
    _replace(path, "R0_rect", "R_rect")
    with pytest.raises(DataError, match="did you mean 'R_rect'"):
        convert_kitti(copy, tmp_path / "index")
