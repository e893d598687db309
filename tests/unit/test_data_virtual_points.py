"""Virtual points: their geometry, their files and those of masks, the command that makes them, and the reader."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bevkd.classes import CLASSES
from bevkd.cli.app import app
from bevkd.config.schema import AugmentConfig, BEVAugmentConfig, DataConfig, ModelConfig
from bevkd.data import FrameDataset, collate, convert_nuscenes
from bevkd.data.augment import BEVTransform
from bevkd.data.batch import Batch
from bevkd.data.index import LIDAR_SWEEPS
from bevkd.data.inputs.lidar_virtual import KEY, LidarVirtualReader, _say_once
from bevkd.data.reads import Camera, Depth, Lidar, LidarVirtual, Reads
from bevkd.data.virtual.files import (
    AGE,
    COLUMNS,
    LABEL,
    as_points,
    read_virtual,
    virtual_name,
    write_virtual,
)
from bevkd.data.virtual.make import Recipe, make_virtual_points
from bevkd.data.virtual.places import MANIFEST, folder_of
from bevkd.data.virtual.points import View, VirtualSweep, virtual_sweep
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import invert, points_in_boxes, pose, quaternion_from_yaw
from bevkd.instance_masks import Instance, masks_name, read_masks, write_masks
from bevkd.io import read_json
from bevkd.sim import SCALES

FRAMES = sum(SCALES["smoke"].splits.scenes.values()) * SCALES["smoke"].splits.keyframes_per_scene
K = np.array([[50.0, 0.0, 20.0], [0.0, 50.0, 10.0], [0.0, 0.0, 1.0]])
SIZE = (20, 40)
# A camera that looks along x of the sensor frame, half a metre to the left of its origin.
LOOKS_AHEAD = np.array([[0, 0, 1, 0.2], [-1, 0, 0, 0.5], [0, -1, 0, -0.1], [0, 0, 0, 1.0]])


def box_mask(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[rows, columns] = True
    return mask


def at_pixel(column: float, row: float, depth: float, matrix: np.ndarray = LOOKS_AHEAD) -> list[float]:
    """A place in the sensor frame that the camera sees at an image coordinate."""
    local = np.linalg.inv(K) @ [column, row, 1.0] * depth
    return [*(matrix @ [*local, 1.0])[:3], 7.0]


def view(*instances: Instance, matrix: np.ndarray = LOOKS_AHEAD, seed: int = 0) -> View:
    return View(matrix, K, SIZE, instances, np.random.default_rng(seed))


def project(places: np.ndarray, matrix: np.ndarray = LOOKS_AHEAD) -> tuple[np.ndarray, np.ndarray]:
    """Image coordinates and depths of places in the sensor frame."""
    local = np.concatenate([places, np.ones((len(places), 1))], axis=1) @ invert(matrix)[:3].T
    return (local @ K.T)[:, :2] / local[:, 2:], local[:, 2]


def test_virtual_points_by_hand() -> None:
    """Three pixels of a mask, two LiDAR points in it at 10 and 20 m, one outside of it, one behind the camera."""
    points = np.float32(
        [
            at_pixel(5.5, 8.5, 10.0),
            at_pixel(9.5, 8.5, 20.0),
            at_pixel(30.5, 8.5, 5.0),
            [-10.0, 0.5, 0.0, 1.0],
        ]
    )
    mask = np.zeros(SIZE, dtype=bool)
    mask[8, [5, 6, 9]] = True
    found = virtual_sweep(points, [view(Instance(3, 0.75, mask))], per_instance=50)
    assert found.index.tolist() == [0, 1]
    np.testing.assert_array_equal(found.painted[:, :4], points[:2])
    values = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0.75]
    assert found.painted[:, 4:].tolist() == [values] * 2
    assert found.virtual[:, 3:].tolist() == [values] * 3
    pixel, depth = project(found.virtual[:, :3].astype(np.float64))
    np.testing.assert_allclose(pixel, [[5.5, 8.5], [6.5, 8.5], [9.5, 8.5]], atol=1e-4)
    np.testing.assert_allclose(depth, [10.0, 10.0, 20.0], atol=1e-5)  # pixel 6 is nearer to 5 than to 9
    # On the optical axis of this camera x is the depth; seen from the sensor, 0.2 m more.
    assert found.virtual[0, 0] == pytest.approx(10.2, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_virtual_points_lie_in_their_mask_at_the_depth_of_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = pose(rng.uniform(-1, 1, 3), quaternion_from_yaw(rng.uniform(-1, 1))) @ LOOKS_AHEAD
    spread = np.stack([rng.uniform(0, 40, 300), rng.uniform(0, 20, 300), rng.uniform(2, 50, 300)], axis=1)
    points = np.float32([at_pixel(*one, matrix=matrix) for one in spread])
    masks = [box_mask(slice(2, 9), slice(3, 15)), box_mask(slice(6, 18), slice(10, 38))]  # they overlap
    instances = [Instance(k, 0.5 + 0.1 * k, mask) for k, mask in enumerate(masks)]
    found = virtual_sweep(points, [view(*instances, matrix=matrix, seed=seed)], per_instance=40)
    pixel, depth = project(points[:, :3].astype(np.float64), matrix)
    cell = np.floor(pixel).astype(int)
    owner = np.array([next((k for k in (0, 1) if masks[k][v, u]), -1) for u, v in cell])
    assert found.index.tolist() == np.flatnonzero(owner >= 0).tolist()
    assert len(found.virtual) == 80
    for k in (0, 1):
        mine = found.virtual[found.virtual[:, 3 + k] == 1]
        assert np.allclose(mine[:, -1], 0.5 + 0.1 * k)
        at, far = project(mine[:, :3].astype(np.float64), matrix)
        where = np.floor(at).astype(int)
        np.testing.assert_allclose(at, where + 0.5, atol=2e-3)
        assert len({tuple(one) for one in where.tolist()}) == len(where) == 40, "no pixel twice"
        assert masks[k][where[:, 1], where[:, 0]].all()
        candidates = np.flatnonzero(owner == k)
        apart = ((where[:, None] - cell[candidates][None]) ** 2).sum(axis=2)
        np.testing.assert_allclose(far, depth[candidates[apart.argmin(axis=1)]], rtol=1e-5)


def test_masks_without_a_point_have_no_virtual_points() -> None:
    points = np.float32([at_pixel(5.5, 8.5, 10.0)])
    far = Instance(0, 1.0, box_mask(slice(0, 3), slice(30, 35)))
    assert len(virtual_sweep(points, [view(far)], 50).virtual) == 0
    # Of two masks over the same point the first has it, and the second none.
    both = [Instance(k, 1.0, box_mask(slice(8, 9), slice(4, 7))) for k in (0, 1)]
    found = virtual_sweep(points, [view(*both)], 50)
    assert (found.virtual[:, 3] == 1).all()
    assert len(found.virtual) == 3
    for nothing in (virtual_sweep(points, [], 50), virtual_sweep(points[:0], [view(far)], 50)):
        assert [len(part) for part in (nothing.virtual, nothing.painted, nothing.index)] == [0, 0, 0]
        assert nothing.virtual.shape[1] == 14
        assert nothing.painted.shape[1] == 15


def test_a_point_in_two_images_has_the_larger_values() -> None:
    points = np.float32([at_pixel(5.5, 8.5, 10.0)])
    mask = box_mask(slice(8, 9), slice(4, 7))
    found = virtual_sweep(points, [view(Instance(0, 0.9, mask)), view(Instance(2, 0.4, mask))], 50)
    assert found.painted[0, 4:].tolist() == pytest.approx([1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0.9])
    assert len(found.virtual) == 6
    assert found.virtual[:, 3:].sum(axis=0)[[0, 2]].tolist() == [3, 3]  # each as its own image says


def test_points_of_a_score_of_zero_are_painted() -> None:
    points = np.float32([at_pixel(5.5, 8.5, 10.0)])
    assert len(virtual_sweep(points, [view(Instance(1, 0.0, box_mask(slice(8, 9), slice(4, 7))))], 50).painted) == 1


def some_sweep(rng: np.random.Generator, virtual: int = 6, painted: int = 4) -> VirtualSweep:
    def values(count: int) -> np.ndarray:
        return np.concatenate([np.eye(10)[rng.integers(0, 10, count)], rng.uniform(0, 1, (count, 1))], axis=1)

    places = [rng.uniform(-40, 40, (count, 3)) for count in (virtual, painted)]
    return VirtualSweep(
        np.concatenate([places[0], values(virtual)], axis=1).astype(np.float32),
        np.concatenate([places[1], rng.uniform(0, 255, (painted, 1)), values(painted)], axis=1).astype(np.float32),
        np.sort(rng.choice(1000, painted, replace=False)),
    )


@pytest.mark.parametrize("counts", [(6, 4), (0, 0), (5, 0)])
def test_files_hold_what_was_written(tmp_path: Path, counts: tuple[int, int]) -> None:
    sweep = some_sweep(np.random.default_rng(0), *counts)
    for name in ("a", "b"):
        write_virtual(tmp_path / f"{name}.npz", sweep)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_virtual(tmp_path / "a.npz")
    for part in ("virtual", "painted", "index"):
        np.testing.assert_array_equal(getattr(found, part), getattr(sweep, part))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:  # the names of the public pipeline
        assert {name: arrays[name].shape for name in arrays.files} == {
            "virtual_points": (counts[0], 14),
            "real_points": (counts[1], 15),
            "real_points_indice": (counts[1],),
        }


def test_the_17_columns_by_hand() -> None:
    """DistillBEV's spec, 2.1: xyz, intensity, 11 semantic values, label, dt."""
    values = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0.5]
    sweep = VirtualSweep(np.float32([[1, 2, 3, *values]]), np.float32([[4, 5, 6, 90, *values]]), np.array([3]))
    quarter = pose([10, 0, 0], quaternion_from_yaw(np.pi / 2))
    found = as_points(sweep, quarter, 0.25)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[5, 4, 6, 90, *values, 0, 0.25], [8, 1, 3, -1, *values, -1, 0.25]], atol=1e-6)


def resave(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        content = {name: arrays[name].copy() for name in arrays.files}
    change(content)
    with open(path, "wb") as stream:
        np.savez(stream, **content)


@pytest.mark.parametrize(
    ("change", "message", "field"),
    [
        (lambda c: c.pop("real_points"), "no such array: real_points", "real_points"),
        (lambda c: c.update(virtual_points=c["virtual_points"][:, :13]), r"shape \(N, 14\)", "virtual_points"),
        (lambda c: c.update(virtual_points=c["virtual_points"].astype(int)), "a float array", "virtual_points"),
        (lambda c: c.update(real_points_indice=c["real_points_indice"][1:]), "N = 4", "real_points_indice"),
        (lambda c: c["virtual_points"].__setitem__((2, 0), np.nan), "row 2 is not a place", "virtual_points"),
        (lambda c: c["real_points"].__setitem__((1, 1), 1e9), "row 1 is not a place", "real_points"),
        (lambda c: c["real_points"].__setitem__((0, 14), 1.5), "row 0 is no class values", "real_points"),
        (lambda c: c["virtual_points"].__setitem__((0, 5), -0.1), "row 0 is no class values", "virtual_points"),
        (lambda c: c["real_points_indice"].__setitem__(0, -1), "row 0 is not the number", "real_points_indice"),
        (lambda c: c.update(real_points=np.array([{}], dtype=object)), "Python objects", "real_points"),
    ],
)
def test_malformed_files(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str, field: str) -> None:
    path = tmp_path / "x.npz"
    write_virtual(path, some_sweep(np.random.default_rng(0)))
    resave(path, change)
    with pytest.raises(DataError, match=message) as caught:
        read_virtual(path, "some token")
    assert (caught.value.file, caught.value.token, caught.value.field) == (path, "some token", field)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match="missing"):
        read_virtual(path)
    write_virtual(path, some_sweep(np.random.default_rng(0), 500, 300))
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:200] + b"\xff" * 200 + whole[400:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            read_virtual(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("virtual_points", "real_points", "real_points_indice"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + b"\x10\x00" + b"{'descr': '<f4'}")
    with pytest.raises(DataError, match="cannot be read"):
        read_virtual(path)


def test_masks_by_hand(tmp_path: Path) -> None:
    masks = [box_mask(slice(2, 9), slice(3, 15)), box_mask(slice(0, 20), slice(0, 1))]
    path = tmp_path / masks_name("samples/CAM_FRONT/x.jpg")
    assert path.relative_to(tmp_path).as_posix() == "samples/CAM_FRONT_MASKS/x.jpg.json"
    write_masks(path, [("car", 0.875, masks[0]), ("pedestrian", 1, masks[1])])
    found = list(read_masks(path, SIZE))
    assert [(one.label, one.score) for one in found] == [(0, 0.875), (8, 1.0)]
    for one, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(one.mask, mask)
    write_masks(path, [])
    assert list(read_masks(path, SIZE)) == []
    assert virtual_name("sweeps/LIDAR_TOP/x.pcd.bin") == "sweeps/LIDAR_TOP_VIRTUAL/x.pcd.bin.npz"


@pytest.mark.parametrize(
    ("change", "message", "field"),
    [
        (lambda c: c.pop("instances"), "wants {'instances'", "instances"),
        (lambda c: c.update(instances={}), "wants {'instances'", "instances"),
        (lambda c: c["instances"].append(3), "a record of class", "instances.1"),
        (lambda c: c["instances"][0].update({"class": "cars"}), "did you mean 'car'", "instances.0.class"),
        (lambda c: c["instances"][0].update({"class": 0}), "unknown class 0", "instances.0.class"),
        (lambda c: c["instances"][0].update(score=1.5), "from 0 to 1, not 1.5", "instances.0.score"),
        (lambda c: c["instances"][0].update(score=True), "from 0 to 1, not True", "instances.0.score"),
        (lambda c: c["instances"][0].pop("score"), "not None", "instances.0.score"),
        (lambda c: c["instances"][0].pop("mask"), "needs `size` and `counts`", "instances.0.mask"),
        (lambda c: c["instances"][0]["mask"].update(size=[40, 20]), "20x40 pixels in an image of", "instances.0.mask"),
        (lambda c: c["instances"][0]["mask"].update(counts="AAAA"), "damaged|add up", "instances.0.mask"),
    ],
)  # fmt: skip
def test_malformed_masks(tmp_path: Path, change: Callable[[Any], Any], message: str, field: str) -> None:
    path = tmp_path / "x.json"
    write_masks(path, [("car", 0.5, box_mask(slice(2, 9), slice(3, 15)))])
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        list(read_masks(path, SIZE, "some token"))
    assert (caught.value.file, caught.value.token, caught.value.field) == (path, "some token", field)


@pytest.fixture(scope="module")
def made(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the simulated data set and its index, with masks and virtual points."""
    folder = tmp_path_factory.mktemp("virtual")
    shutil.copytree(smoke_dataset.root, folder / "data")
    convert_nuscenes(folder / "data", smoke_dataset.version, folder / "index")
    result = CliRunner().invoke(
        app, ["virtual-points", "--index", str(folder / "index"), "--root", str(folder / "data")]
    )
    assert result.exit_code == 0, result.output
    assert f"masks of {6 * FRAMES} simulated images" in result.output
    assert f"beside {FRAMES} sweeps" in result.output
    return folder


@pytest.fixture(scope="module")
def data(made: Path) -> DataConfig:
    where = {"root": str(made / "data"), "version": "v1.0-sim", "index": str(made / "index")}
    return DataConfig(**where, augment=AugmentConfig(variants=4, bev=BEVAugmentConfig(flip=True)))


def frames(data: DataConfig, *more: Any, train: bool = False, **declared: Any) -> FrameDataset:
    reads = Reads.of(Lidar(**declared), LidarVirtual(**declared), *more)
    return FrameDataset(data, ModelConfig(), "train" if train else "val", train=train, seed=0, reads=reads)


def test_virtual_points_stand_in_the_boxes(data: DataConfig) -> None:
    """In a simulated data set most virtual points of a class lie in a box of it, a little grown."""
    inside = total = 0
    found = frames(data)
    for i in range(len(found)):
        points = found._loader.load(int(found._frames[i])).extra[KEY]
        points = points[(points[:, LABEL] == -1) & (np.hypot(points[:, 0], points[:, 1]) < 20)]
        boxes, labels = found.boxes(i)
        grown = boxes.copy()
        grown[:, 3:6] += 0.4
        held = points_in_boxes(points, grown)
        right = points[:, 4 + labels].T == 1
        inside, total = inside + int((held & right).any(axis=0).sum()), total + len(points)
    assert total > 1000
    assert inside / total > 0.8, (inside, total)


def test_painted_points_are_those_of_the_sweep(data: DataConfig) -> None:
    found = frames(data)
    raw = found._loader.load(int(found._frames[0]))
    assert raw.points is not None
    painted = raw.extra[KEY][raw.extra[KEY][:, LABEL] == 0]
    assert len(painted) > 50
    rows = {tuple(row) for row in raw.points[:, :4].tolist()}
    assert all(tuple(row) in rows for row in painted[:, :4].tolist())
    assert (painted[:, 4:14].sum(axis=1) >= 1).all()


def test_augmentation_moves_them_as_it_moves_boxes(data: DataConfig) -> None:
    found = frames(data, train=True)
    for variant in range(4):
        sample = found.get_variant(0, variant)
        raw = found._loader.load(int(found._frames[0])).extra[KEY]
        moved = raw[:, :3] @ sample.bev_aug[:3, :3].T + sample.bev_aug[:3, 3]
        inside = (np.abs(moved[:, :2]) <= 54.0).all(axis=1)
        np.testing.assert_allclose(sample.extra[KEY][:, :3], moved[inside], atol=1e-4)
        np.testing.assert_array_equal(sample.extra[KEY][:, 3:], raw[inside, 3:])
    flips = {tuple(np.sign(np.diag(found.get_variant(0, v).bev_aug))[:2]) for v in range(4)}
    assert len(flips) > 1
    assert BEVTransform(flip_x=True).matrix()[0, 0] == -1


def test_batches(data: DataConfig) -> None:
    found = frames(data, train=True)
    batch = collate([found.get(i, 0) for i in range(3)])
    points, frame = batch.extra[KEY]["points"], batch.extra[KEY]["frame"]
    assert (points.dtype, points.shape) == (torch.float32, (len(frame), COLUMNS))
    assert frame.tolist() == sorted(frame.tolist())
    assert set(points[:, LABEL].tolist()) == {0.0, -1.0}
    assert (points[points[:, LABEL] == -1][:, 3] == -1).all()
    made = replace(batch, extra={})
    LidarVirtualReader.example(LidarVirtual(2), made, 50.0, 3000)
    for name, part in batch.extra[KEY].items():
        assert made.extra[KEY][name].dtype == part.dtype
        assert made.extra[KEY][name].shape[1:] == part.shape[1:]
    assert len(made.extra[KEY]["points"]) == 3 * (300 + 2000)
    empty: Batch = collate([replace(found.get(0, 0), extra={KEY: found.get(0, 0).extra[KEY][:0]}), found.get(1, 0)])
    assert set(empty.extra[KEY]["frame"].tolist()) == {1}


def test_depth_targets_are_of_raw_points(data: DataConfig) -> None:
    """The maps of a frame with virtual points are those of the frame without (DistillBEV spec, 12.6)."""
    more = (Camera((64, 176)), Depth(8))
    reads = Reads.of(Lidar(), *more)
    plain = FrameDataset(data, ModelConfig(), "val", train=False, seed=0, reads=reads)
    both = frames(data, *more)
    for i in range(len(plain)):
        one, two = plain.get(i, 0), both.get(i, 0)
        assert one.cameras is not None
        assert two.cameras is not None
        assert len(two.extra[KEY]) > 0
        assert one.cameras.depth is not None
        assert float(one.cameras.depth.max()) > 0
        np.testing.assert_array_equal(one.cameras.depth, two.cameras.depth)
        np.testing.assert_array_equal(one.points, two.points)


def test_sweeps_without_a_file_are_counted_once(
    data: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Masks are of keyframes: earlier sweeps have none. Then a key sweep loses its own."""
    _say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = frames(data, sweeps=2)
    assert caplog.text.count("earlier sweeps have no file of virtual points") == 1
    assert "12 of 12 earlier sweeps" in caplog.text
    raw = found._loader.load(0)
    assert raw.points is not None
    assert set(np.unique(raw.extra[KEY][:, AGE])) == {0.0}
    assert len(np.unique(raw.points[:, 4])) == 3

    root = tmp_path / "data"
    shutil.copytree(data.root, root)
    sensors, at = found.index.sensors, found._loader.records(0, "lidar")[0]
    (root / virtual_name(sensors.filename[at])).unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        lacking = frames(replace(data, root=str(root)))
    assert "1 of 6 frames have no file" in caplog.text
    sample = lacking.get(0, 0)
    assert len(sample.extra[KEY]) == 0
    np.testing.assert_array_equal(sample.points, frames(data).get(0, 0).points)

    shutil.rmtree(root / "samples" / "LIDAR_TOP_VIRTUAL")
    with pytest.raises(DataError, match="no frame has virtual points; make them with `bevkd virtual-points") as caught:
        frames(replace(data, root=str(root)))
    assert str(caught.value.file).endswith(".pcd.bin.npz")
    assert caught.value.token
    with pytest.raises(ConfigError, match="lidar_sweeps"):
        frames(data, sweeps=LIDAR_SWEEPS + 1)


def test_repeated_sweeps_bring_their_virtual_points(data: DataConfig, tmp_path: Path) -> None:
    """Where there are fewer earlier sweeps than asked for, the last is repeated, and what its masks add with it."""
    root = tmp_path / "data"
    shutil.copytree(data.root, root)
    found = frames(data, sweeps=4)
    sensors = found.index.sensors
    assert len(found.index.lidar_sweeps[0]) == 2
    last = sensors.position[found.index.lidar_sweeps[0][-1]]
    write_virtual(root / virtual_name(sensors.filename[last]), some_sweep(np.random.default_rng(0), 6, 4))
    points = frames(replace(data, root=str(root)), sweeps=4)._loader.load(0).extra[KEY]
    assert (points[:, AGE] > 0).sum() == 3 * 10  # once as itself, twice repeated


def test_objects_are_pasted_with_their_lidar_points_alone(data: DataConfig, tmp_path: Path) -> None:
    shutil.copytree(data.index, tmp_path / "index")
    wanted = dict.fromkeys(CLASSES, 4)
    augment = replace(data.augment, variants=0, gt_paste=wanted)
    pasted = frames(replace(data, index=str(tmp_path / "index"), augment=augment), train=True)
    new = total = 0
    for i in range(len(pasted)):
        sample = pasted.get(i, 0)
        own = frames(data, train=True).boxes(i)[0]
        assert sample.points is not None
        boxes = sample.boxes[len(own) :] if len(sample.boxes) > len(own) else sample.boxes[:0]
        total += len(boxes)
        held = points_in_boxes(sample.extra[KEY], boxes)
        assert not held.any(), "no virtual point stands in a pasted object"
        new += int(points_in_boxes(sample.points, boxes).sum())
    assert total > 20
    assert new > 100
    with pytest.raises(ConfigError, match="LiDAR-only"):
        frames(replace(data, augment=augment), Camera((64, 176)), train=True)


def test_the_same_masks_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """Whatever there was before, and however many processes; another seed draws other pixels."""
    folder = made / "data" / "samples" / "LIDAR_TOP_VIRTUAL"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.copytree(made / "data", tmp_path / "data")
    index = convert_nuscenes(tmp_path / "data", "v1.0-sim", tmp_path / "index")
    copy = tmp_path / "data" / "samples" / "LIDAR_TOP_VIRTUAL"
    make_virtual_points(index, tmp_path / "data", workers=2)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    manifest = read_json(folder_of(index) / MANIFEST)
    assert manifest["sweeps"] == FRAMES
    assert manifest["per_instance"] == 50

    victim = sorted(copy.iterdir())[0]
    victim.unlink()
    times = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    again = make_virtual_points(index, tmp_path / "data")
    assert {key: manifest[key] for key in ("sweeps", "without", "virtual")} == vars(again)
    assert victim.read_bytes() == before[victim.name]
    assert {p.name: p.stat().st_mtime_ns for p in copy.iterdir() if p != victim} == times, "others are kept"
    make_virtual_points(index, tmp_path / "data", Recipe(seed=1))
    other = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert other.keys() == before.keys()
    assert other != before


def test_images_without_masks(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    index = convert_nuscenes(tmp_path / "data", "v1.0-sim", tmp_path / "index")
    shutil.rmtree(tmp_path / "data" / "samples" / "LIDAR_TOP_VIRTUAL")
    channels = [path for path in (tmp_path / "data" / "samples").iterdir() if path.name.endswith("_MASKS")]
    assert len(channels) == 6
    names = sorted(path.name for path in channels[0].iterdir())
    for channel in channels:  # the first frame loses all of its masks
        sorted(channel.iterdir())[0].unlink()
    found = make_virtual_points(index, tmp_path / "data")
    assert (found.sweeps, found.without) == (FRAMES - 1, 1), names
    for channel in channels:
        shutil.rmtree(channel)
    with pytest.raises(DataError, match="no image has a file of instance masks") as caught:
        make_virtual_points(index, tmp_path / "data", restart=True)
    assert str(caught.value.file).endswith(".jpg.json")
    assert not (folder_of(index) / MANIFEST).exists()


def test_a_damaged_mask_is_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    index = convert_nuscenes(tmp_path / "data", "v1.0-sim", tmp_path / "index")
    victim = sorted((tmp_path / "data" / "samples" / "CAM_FRONT_MASKS").iterdir())[3]
    victim.write_text('{"instances": [{"class": "tank", "score": 1, "mask": {}}]}')
    result = CliRunner().invoke(
        app, ["virtual-points", "--index", str(index), "--root", str(tmp_path / "data"), "--restart", "--seed", "1"]
    )
    assert result.exit_code == 0, "masks of a simulated data set are made anew with --restart"
    victim.write_text('{"instances": [{"class": "tank", "score": 1, "mask": {}}]}')
    with pytest.raises(DataError, match="unknown class 'tank'") as caught:
        make_virtual_points(index, tmp_path / "data", restart=True)
    assert caught.value.file == victim
    assert caught.value.field == "instances.0.class"
