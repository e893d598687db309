"""Two real KITTI frames: boxes project onto the labelled rectangles, and points fall into them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bevkd.config.schema import DataConfig, GridConfig, ModelConfig
from bevkd.data import FrameDataset
from bevkd.data.kitti import convert_kitti, read_calibration, read_folder
from bevkd.data.kitti.boxes import image_box
from bevkd.data.kitti.objects import placed
from bevkd.geometry import apply, box_corners, points_in_boxes

GRID = GridConfig(x=(0.0, 80.0), y=(-40.0, 40.0), cell=0.4, z_min=-3.0, z_max=2.0)


@pytest.fixture(scope="module")
def root(shared_real: Path) -> Path:
    return shared_real / "kitti"


@pytest.fixture(scope="module")
def dataset(root: Path, tmp_path_factory: pytest.TempPathFactory) -> FrameDataset:
    index = convert_kitti(root, tmp_path_factory.mktemp("real") / "index")
    data = DataConfig(
        kind="kitti",
        root=str(root),
        index=str(index),
        lidar_sweeps=0,
        min_points=0,
        classes=("car", "truck", "pedestrian", "cyclist"),
    )
    model = ModelConfig(sensors=("lidar", "camera"), grid=GRID)
    return FrameDataset(data, model, "train", train=False, seed=0)


def test_the_frames(dataset: FrameDataset) -> None:
    assert dataset.tokens == ["000000", "000001"]
    boxes = dataset.index.boxes
    assert boxes.start.tolist() == [0, 1, 4]
    assert boxes.labels.tolist() == [8, 1, 0, 10]  # pedestrian; truck, car, cyclist: regions of no care have no box
    assert np.isnan(boxes.boxes[:, 7:]).all()
    # The pedestrian is large and free: its height is 165 pixels, its truncation 0. The car and the cyclist are 22 and
    # 30 pixels high, the cyclist's occlusion is not known (3).
    assert boxes.difficulty.tolist() == [0, 1, 3, 3]
    points = dataset._loader.load(0).points
    assert points is not None
    assert points.shape == (115_384, 5)


def test_points_in_boxes_are_plausible(dataset: FrameDataset) -> None:
    """Near things have hundreds of points, far ones few; the box, not its neighbourhood, holds them."""
    boxes = dataset.index.boxes
    assert boxes.lidar_points.tolist() == [376, 70, 9, 18]
    for frame in range(2):
        points = dataset._loader.load(frame).points
        mine = slice(boxes.start[frame], boxes.start[frame + 1])
        assert points is not None
        counted = points_in_boxes(points, boxes.boxes[mine]).sum(axis=1)
        assert (np.abs(counted - boxes.lidar_points[mine]) <= 2).all()
        raised = boxes.boxes[mine].copy()
        raised[:, 2] += 3.0
        assert (points_in_boxes(points, raised).sum(axis=1) < 0.4 * counted).all()


def test_boxes_project_onto_the_labelled_rectangles(dataset: FrameDataset, root: Path) -> None:
    boxes = dataset.index.boxes
    for frame, token in enumerate(dataset.tokens):
        calib = read_calibration(root / "training" / "calib" / f"{token}.txt")
        labels = read_folder(root / "training" / "label_2", [token], scored=False)
        labels = labels.select(placed(labels))
        image = dataset._loader.load(frame).images
        assert image is not None
        width, height = image[0].size
        for i, box in enumerate(boxes.boxes[boxes.start[frame] : boxes.start[frame + 1]]):
            found = image_box(box, calib, (width, height))
            assert found is not None
            labelled = np.array([labels.column(name)[i] for name in ("x1", "y1", "x2", "y2")])
            low, high = np.maximum(found[0][:2], labelled[:2]), np.minimum(found[0][2:], labelled[2:])
            both = np.prod(high - low)
            union = np.prod(found[0][2:] - found[0][:2]) + np.prod(labelled[2:] - labelled[:2]) - both
            assert both / union > 0.75


def test_the_camera_of_the_index_is_the_one_of_the_file(dataset: FrameDataset, root: Path) -> None:
    """Pixels through `intrinsics` and `ego_from_camera` are those through `P2 @ R0_rect @ Tr_velo_to_cam`."""
    raw = dataset._loader.load(1)
    assert raw.ego_from_camera is not None
    assert raw.intrinsics is not None
    calib = read_calibration(root / "training" / "calib" / "000001.txt")
    corners = box_corners(dataset.index.boxes.boxes[1:])[:, :, :3].reshape(-1, 3)
    ours = apply(np.linalg.inv(raw.ego_from_camera[0]), corners) @ raw.intrinsics[0].T
    whole = np.column_stack([apply(calib.rectified_from_ego, corners), np.ones(len(corners))]) @ calib.projection.T
    np.testing.assert_allclose(ours[:, :2] / ours[:, 2:], whole[:, :2] / whole[:, 2:], atol=1e-6)
