from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import Polygon

from bevkd.classes import CLASS_INDEX
from bevkd.config.schema import AugmentConfig, DataConfig, GridConfig, ModelConfig
from bevkd.data import FrameDataset
from bevkd.data.paste import GTPaste, LabelledCloud, build_paste_database, rectangles_overlap
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import box_corners_bev, points_in_boxes

CAR, CONE = CLASS_INDEX["car"], CLASS_INDEX["traffic_cone"]


def random_boxes(rng: np.random.Generator, n: int, spread: float = 20.0) -> np.ndarray:
    return np.concatenate(
        [rng.uniform(-spread, spread, (n, 2)), np.zeros((n, 1)), rng.uniform(1, 5, (n, 3)),
         rng.uniform(-np.pi, np.pi, (n, 1)), np.zeros((n, 2))], axis=1,
    )  # fmt: skip


def cloud(token: str, boxes: np.ndarray, labels: list[int], per_box: int, rng: np.random.Generator) -> LabelledCloud:
    """`per_box` points at the centre of every box, and ground far below."""
    points = np.repeat(boxes[:, :3], per_box, axis=0) + rng.uniform(-0.1, 0.1, (per_box * len(boxes), 3))
    ground = np.concatenate([rng.uniform(-25, 25, (500, 2)), np.full((500, 1), -9.0)], axis=1)
    xyz = np.concatenate([points, ground])
    return LabelledCloud(
        token, np.concatenate([xyz, np.ones((len(xyz), 2))], axis=1).astype(np.float32), boxes, np.array(labels)
    )


def test_overlap_agrees_with_polygons() -> None:
    rng = np.random.default_rng(0)
    a, b = (box_corners_bev(random_boxes(rng, n, 6)) for n in (40, 50))
    expected = [[Polygon(x).intersection(Polygon(y)).area > 1e-9 for y in b] for x in a]
    np.testing.assert_array_equal(rectangles_overlap(a, b), expected)
    assert 0.1 < np.mean(expected) < 0.9


@pytest.fixture
def database(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    frames = []
    for k in range(6):
        boxes = random_boxes(rng, 4)
        frames.append(cloud(f"f{k}", boxes, [CAR, CAR, CONE, CONE], 8, rng))
    poor = cloud("poor", random_boxes(rng, 3), [CAR] * 3, 4, rng)
    return build_paste_database([*frames, poor], tmp_path / "db", min_points=5)


def test_objects_reach_the_wanted_number_without_collisions(database: Path) -> None:
    paste = GTPaste(database, {"car": 4, "traffic_cone": 3})
    assert len(paste) >= 24
    rng = np.random.default_rng(2)
    frame = cloud("new", random_boxes(rng, 2), [CAR, CONE], 30, rng)
    reached = []
    for seed in range(20):
        points, boxes, labels = paste.paste(frame.points, frame.boxes, frame.labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(boxes[:2], frame.boxes)
        corners = box_corners_bev(boxes)
        pasted = rectangles_overlap(corners[2:], corners)
        assert pasted.sum() == len(boxes) - 2  # each overlaps with itself only
        counts = np.bincount(labels, minlength=10)
        assert counts[CAR] <= 4
        assert counts[CONE] <= 3
        reached.append((counts[CAR], counts[CONE]))
        inside = points_in_boxes(points, boxes)
        assert (inside.sum(axis=1)[2:] >= 5).all()
        assert points.shape[1] == 5
    assert max(reached) == (4, 3)


def test_seeded(database: Path) -> None:
    paste = GTPaste(database, {"car": 4})
    frame = cloud("new", np.zeros((0, 9)), [], 0, np.random.default_rng(0))
    frame = replace(frame, labels=np.zeros(0, dtype=np.int64))
    first, again, other = (
        paste.paste(frame.points, frame.boxes, frame.labels, np.random.default_rng(s))[1] for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


def test_points_under_a_pasted_object_disappear(database: Path) -> None:
    paste = GTPaste(database, {"car": 1})
    surface = np.mgrid[-25:25:0.25, -25:25:0.25].reshape(2, -1).T
    points = np.concatenate([surface, np.zeros((len(surface), 3))], axis=1).astype(np.float32)
    new_points, boxes, _ = paste.paste(points, np.zeros((0, 9)), np.zeros(0, dtype=np.int64), np.random.default_rng(0))
    assert len(boxes) == 1
    inside = new_points[points_in_boxes(new_points, boxes)[0]]
    assert len(inside) >= 5
    assert (inside[:, 3] == 1).all()  # the crop's points, none of the surface


def test_nothing_to_paste(database: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="enough points"):
        build_paste_database([], tmp_path / "empty")
    assert not any(p.name.startswith(".") for p in tmp_path.iterdir())
    with pytest.raises(ConfigError, match="did you mean 'car'"):
        GTPaste(database, {"carr": 3})
    with pytest.raises(DataError, match="cannot be read"):
        GTPaste(tmp_path / "nowhere", {"car": 3})


def test_pasting_in_the_data_set(smoke_dataset: Any) -> None:
    model = ModelConfig(sensors=("lidar",), grid=GridConfig(reach=25.6, cell=0.8))
    data = DataConfig(
        root=str(smoke_dataset.root),
        version=smoke_dataset.version,
        index=str(smoke_dataset.index),
        lidar_sweeps=1,
        augment=AugmentConfig(gt_paste={"car": 12, "pedestrian": 12}),
    )
    plain = FrameDataset(replace(data, augment=AugmentConfig()), model, "train", train=True, seed=0)
    ds = FrameDataset(data, model, "train", train=True, seed=0, frames="all")
    more = 0
    for i in range(len(ds)):
        sample = ds.get(i, 0)
        if not ds.labelled[i]:
            assert len(sample.boxes) == 0
            continue
        before = plain.get(plain.tokens.index(sample.token), 0)
        more += len(sample.boxes) - len(before.boxes)
        np.testing.assert_array_equal(sample.boxes, ds.get(i, 0).boxes)
        np.testing.assert_array_equal(sample.boxes[: len(before.boxes)], before.boxes)
    assert more > len(plain)
    assert FrameDataset(data, model, "val", train=False, seed=0)._paste is None
    with pytest.raises(ConfigError, match="LiDAR-only"):
        FrameDataset(data, replace(model, sensors=("lidar", "camera")), "train", train=True, seed=0)
    unseen = replace(data, augment=replace(data.augment, paste_unseen=True))
    both = FrameDataset(unseen, replace(model, sensors=("lidar", "camera")), "train", train=True, seed=0)
    seen = FrameDataset(unseen, model, "train", train=True, seed=0)
    for i in range(len(both)):
        np.testing.assert_array_equal(both.get(i, 0).boxes, seen.get(i, 0).boxes)
