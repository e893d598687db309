"""One real nuScenes keyframe: points fall into the boxes as annotated, boxes project where the devkit puts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data import FrameDataset, Reads, collate, convert_nuscenes
from bevkd.data.index import matrices
from bevkd.data.reads import Lidar
from bevkd.geometry import apply, box_corners, invert, points_in_boxes, pose


@pytest.fixture(scope="module")
def root(shared_real: Path) -> Path:
    return shared_real / "nuscenes"


@pytest.fixture(scope="module")
def dataset(root: Path, tmp_path_factory: pytest.TempPathFactory) -> FrameDataset:
    index = convert_nuscenes(root, "v1.0-mini", tmp_path_factory.mktemp("real") / "index")
    data = DataConfig(root=str(root), version="v1.0-mini", index=str(index), lidar_sweeps=0, min_points=0)
    return FrameDataset(data, ModelConfig(sensors=("lidar", "camera")), "mini_train", train=False, seed=0)


def full_corners(dataset: FrameDataset) -> dict[str, np.ndarray]:
    """Corners (8, 3) in the ego frame by annotation token, with the whole rotation of the annotation."""
    import pyarrow.parquet as pq

    table = pq.read_table(dataset.index.folder / "boxes.parquet")
    boxes, quaternions = matrices(table["box"], 9), matrices(table["rotation"], 4)
    out = {}
    for token, box, quaternion in zip(table["token"].to_pylist(), boxes, quaternions, strict=True):
        local = box_corners(np.array([[0, 0, 0, *box[3:6], 0, 0, 0]]))[0]
        out[token] = apply(pose(box[:3], quaternion), local)
    return out


def test_the_keyframe(dataset: FrameDataset) -> None:
    assert dataset.tokens == ["ca9a282c9e77460f8360f564131a8af5"]
    assert dataset.scenes == ["scene-0061"]
    assert (dataset.weather, dataset.lighting) == (["clear"], ["day"])
    assert len(dataset.index.boxes.labels) == 68
    assert (dataset.index.boxes.labels >= 0).all()
    assert np.isnan(dataset.index.boxes.boxes[:, 7:]).all()
    points = dataset._loader.load(0).points
    assert points is not None
    assert points.shape == (34_688, 5)


def test_points_in_boxes_as_annotated(dataset: FrameDataset) -> None:
    points = dataset._loader.load(0).points
    assert points is not None
    counted = points_in_boxes(points, dataset.index.boxes.boxes).sum(axis=1)
    annotated = dataset.index.boxes.lidar_points
    assert (np.abs(counted - annotated) <= 2).sum() >= 66
    assert annotated.sum() > 900


def test_projected_boxes_equal_the_devkit(dataset: FrameDataset, root: Path) -> None:
    devkit = pytest.importorskip("nuscenes.nuscenes", reason="the nuScenes devkit is not installed")
    from nuscenes.utils.geometry_utils import BoxVisibility, view_points

    nusc = devkit.NuScenes("v1.0-mini", str(root), verbose=False)
    sensors, corners = dataset.index.sensors, full_corners(dataset)
    cameras = dataset._loader.records(0, "camera")
    poses = dataset._loader.ego_from_sensor(0, cameras)
    compared = 0
    for at, ego_from_camera in zip(cameras, poses, strict=True):
        path, boxes, intrinsic = nusc.get_sample_data(sensors.token[at], box_vis_level=BoxVisibility.ANY)
        assert Path(path) == dataset._loader.root / sensors.filename[at]
        for box in boxes:
            expected: Any = view_points(box.corners(), intrinsic, normalize=True)[:2].T
            pixels = apply(invert(ego_from_camera), corners[box.token]) @ sensors.intrinsics[at].T
            ours = pixels[:, :2] / pixels[:, 2:]
            distance = np.linalg.norm(ours[:, None] - expected[None], axis=-1)
            assert distance.min(axis=1).max() < 1e-3  # the two order corners differently
            assert distance.min(axis=0).max() < 1e-3
            compared += 1
    assert compared > 60


def test_upright_boxes_lie_on_the_same_pixels(dataset: FrameDataset) -> None:
    """Dropping the ego vehicle's roll and pitch, as detectors do, moves corners little and centres not at all."""
    boxes = dataset.index.boxes.boxes
    whole = full_corners(dataset)
    for token, box, upright in zip(dataset.index.boxes.tokens, boxes, box_corners(boxes), strict=True):
        np.testing.assert_allclose(whole[token].mean(axis=0), box[:3], atol=1e-9)
        assert np.abs(whole[token] - upright).max() < 0.03 * box[3:6].max()


def test_a_batch_at_paper_size(dataset: FrameDataset) -> None:
    batch = collate([dataset.get(0, 0)])
    assert batch.cameras is not None
    assert batch.cameras.images.shape == (1, 6, 3, 256, 704)
    np.testing.assert_allclose(batch.cameras.image_aug[0, 0], [[0.44, 0, 0], [0, 0.44, -140], [0, 0, 1]], atol=1e-6)
    # Objects with many points are in view: their centres project into at least one of the augmented images.
    cameras = batch.cameras
    boxes = dataset.index.boxes.boxes[dataset.index.boxes.lidar_points > 5]
    seen = np.zeros(len(boxes), dtype=bool)
    for n in range(6):
        local = apply(invert(cameras.ego_from_camera[0, n].double().numpy()), boxes[:, :3])
        pixel = local @ cameras.intrinsics[0, n].double().numpy().T
        pixel = pixel / pixel[:, 2:] @ cameras.image_aug[0, n].double().numpy().T
        seen |= (local[:, 2] > 0) & (pixel[:, 0] > 0) & (pixel[:, 0] < 704) & (pixel[:, 1] > 0) & (pixel[:, 1] < 256)
    assert seen.all()


def test_missing_sweeps_repeat_the_key_sweep(dataset: FrameDataset) -> None:
    reads = Reads.of(Lidar(sweeps=2))
    frames = FrameDataset(dataset.data, dataset.model, "mini_train", train=False, seed=0, reads=reads)
    three = frames._loader.load(0).points
    assert three is not None
    assert len(three) == 3 * 34_688
    assert (three[:, 4] == 0).all()
