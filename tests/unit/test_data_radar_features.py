"""Radar points with their states: the 45 columns, ego motion, augmentation, and the reader on a simulated data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_data_points import write_radar

from bevkd.config.schema import AugmentConfig, BEVAugmentConfig, DataConfig, ImageAugmentConfig, ModelConfig
from bevkd.data import FrameDataset, collate
from bevkd.data.augment import BEVTransform
from bevkd.data.batch import Batch
from bevkd.data.index import RADAR_SWEEPS
from bevkd.data.inputs.base import Change
from bevkd.data.inputs.radar_features import KEY, RadarFeaturesReader
from bevkd.data.load import RawFrame
from bevkd.data.radar import FEATURES, STATES, RadarFilter, merge_radar, read_radar, read_radar_states, state_features
from bevkd.data.reads import Radar, RadarFeatures, Reads
from bevkd.data.sample import Sample
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import Area, invert, pose, quaternion_from_yaw

EVERYWHERE = Area(-100, 100, -100, 100)


def test_columns_by_hand() -> None:
    """The order of CRKD's spec, 2.3: 7 numbers, dyn_prop (8), ambig_state (5), invalid_state (18), pdh0 (7)."""
    numbers = [1.5, -2.0, 0.5, 12.5, 3.0, -4.0, 0.25]
    row = state_features(np.float32([[*numbers, 2, 3, 17, 3]]))[0]
    assert FEATURES == len(row) == 45
    assert row[:7].tolist() == numbers
    assert row[7:15].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert row[15:20].tolist() == [0, 0, 0, 1, 0]
    assert row[20:38].tolist() == [0] * 17 + [1]
    assert row[38:].tolist() == [1, 1, 1, 0, 0, 0, 0]  # bit i: pdh0 > i
    assert state_features(np.float32([[*numbers, 0, 0, 0, 0]]))[0, 38:].sum() == 0
    assert state_features(np.float32([[*numbers, 0, 0, 0, 7]]))[0, 38:].sum() == 7
    assert state_features(np.zeros((0, 11), np.float32)).shape == (0, 45)


def test_nothing_is_filtered_unless_asked_for(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = [
        {"x": 1, "y": 2, "z": 3, "rcs": 4, "vx_comp": 5, "vy_comp": 6, "dyn_prop": 1, "ambig_state": 3, "pdh0": 2},
        {"x": 2, "invalid_state": 17, "dyn_prop": 7, "ambig_state": 0, "pdh0": 7},
        {"x": float("nan")},
        {"x": 3, "ambig_state": 5},  # none of the sensor's states
        {"x": 4, "pdh0": -1},
    ]
    path = write_radar(tmp_path / "r.pcd", rows)
    found = read_radar_states(path)
    np.testing.assert_array_equal(found, np.float32([[1, 2, 3, 4, 5, 6, 1, 3, 0, 2], [2, *[0] * 5, 7, 0, 17, 7]]))
    kept = read_radar_states(path, keep=RadarFilter())
    np.testing.assert_array_equal(kept[:, :6], read_radar(path)[:1])  # which looks at no pdh0
    assert len(kept) == 1
    assert [name for name, _ in STATES] == ["dyn_prop", "ambig_state", "invalid_state", "pdh0"]
    with pytest.raises(DataError, match="speed beyond"):
        read_radar_states(write_radar(tmp_path / "fast.pcd", [{"vx_comp": 1e6}]))


def test_a_turning_vehicle_is_compensated() -> None:
    """An object with a known course, seen from a vehicle that turns and drives, by a radar that looks to the left."""
    velocity, at_key, age = np.array([3.0, -1.0]), np.array([20.0, 10.0]), 0.3
    ego_key = pose([100.0, 50.0, 0.0], quaternion_from_yaw(0.7))
    ego_then = pose([97.0, 48.5, 0.0], quaternion_from_yaw(0.4))
    sensor = pose([2.4, 0.8, 0.5], quaternion_from_yaw(1.6))
    place = np.array([*(at_key - age * velocity), 0.5, 1.0])  # where it was when it was seen, in the world
    global_from_sensor = ego_then @ sensor
    seen = invert(global_from_sensor) @ place
    turned = global_from_sensor[:2, :2].T @ velocity
    points = np.float32([[*seen[:3], 7.0, *turned, 0, 3, 0, 1]])
    sweep = (points, invert(ego_key) @ global_from_sensor, age)
    moved = merge_radar([sweep], advance=True, states=4)[0]
    want = (invert(ego_key) @ np.array([*at_key, 0.5, 1.0]))[:3]
    np.testing.assert_allclose(moved[:3], want, atol=2e-5)
    np.testing.assert_allclose(moved[4:6], ego_key[:2, :2].T @ velocity, atol=1e-5)
    assert moved[[3, 6, 7, 8, 9, 10]].tolist() == pytest.approx([7.0, 0.3, 0, 3, 0, 1])
    still = merge_radar([sweep], states=4)[0]
    assert np.linalg.norm(still[:2] - moved[:2]) == pytest.approx(age * np.linalg.norm(velocity), abs=1e-5)
    assert merge_radar([], states=4).shape == (0, 11)


def augmented(points: np.ndarray, change: BEVTransform, **declared: Any) -> np.ndarray:
    """What the reader makes of points (R, 11) under a change of the scene."""
    loader: Any = SimpleNamespace()
    reader = RadarFeaturesReader(RadarFeatures(**declared), loader)
    raw, sample = RawFrame(extra={KEY: points}), SimpleNamespace(extra={})
    before = points.copy()
    reader.augment(0, raw, sample, Change(change.matrix(), EVERYWHERE))  # type: ignore[arg-type]
    np.testing.assert_array_equal(points, before)
    return np.asarray(sample.extra[KEY])


@pytest.mark.parametrize(
    "change",
    [
        BEVTransform(flip_x=True),
        BEVTransform(flip_y=True),
        BEVTransform(rotate=0.6),
        BEVTransform(scale=1.1),
        BEVTransform(rotate=-0.3, scale=0.9, translate=(0.5, -0.2, 0.1), flip_x=True, flip_y=True),
    ],
)
def test_velocities_go_with_the_boxes(change: BEVTransform) -> None:
    points = np.float32([[10, 5, 1, 8, 3, -2, 0.1, 0, 3, 0, 1], [-7, 4, 0, -5, 0, 6, 0, 1, 3, 4, 2]])
    boxes = np.zeros((2, 9))
    boxes[:, :3], boxes[:, 7:] = points[:, :3], points[:, 4:6]
    found, want = augmented(points, change), change.boxes(boxes)
    np.testing.assert_allclose(found[:, :3], want[:, :3], atol=1e-5)
    np.testing.assert_allclose(found[:, 4:6], want[:, 7:], atol=1e-5)
    rest = [3, 6, 7, 8, 9, 10]
    np.testing.assert_array_equal(found[:, rest], points[:, rest])


def test_the_released_augmentation_takes_the_wrong_columns() -> None:
    points = np.float32([[10, 5, 1, 8, 3, -2, 0.1, 0, 3, 0, 1]])
    found = augmented(points, BEVTransform(flip_y=True), released_augment=True)[0]
    assert found[3:6].tolist() == [8, -3, -2]  # mirrored left and right, vx is negated in place of vy
    found = augmented(points, BEVTransform(flip_x=True), released_augment=True)[0]
    assert found[3:6].tolist() == [-8, 3, -2]


@pytest.fixture(scope="module")
def data(smoke_dataset: Any) -> DataConfig:
    where = {"root": str(smoke_dataset.root), "version": smoke_dataset.version, "index": str(smoke_dataset.index)}
    augment = AugmentConfig(variants=4, image=ImageAugmentConfig(enabled=False), bev=BEVAugmentConfig(flip=True))
    return DataConfig(**where, augment=augment)


def frames(data: DataConfig, train: bool = False, **declared: Any) -> FrameDataset:
    reads = Reads.of(RadarFeatures(**declared))
    return FrameDataset(data, ModelConfig(), "train" if train else "val", train=train, seed=0, reads=reads)


def test_sweeps_of_a_data_set(data: DataConfig) -> None:
    key, both = frames(data), frames(data, sweeps=1)
    ages = [np.unique(np.round(both._loader.load(i).extra[KEY][:, 6], 2)) for i in range(2)]
    assert all(len(age) > 5 for age in ages), "five radars, each with its own times"
    assert max(age.max() for age in ages) > 0.07
    filtered = FrameDataset(
        data, ModelConfig(), "val", train=False, seed=0, reads=Reads.of(Radar(1), RadarFeatures(1, True, False))
    )
    for i in range(len(key)):
        one, two = key._loader.load(i).extra[KEY], both._loader.load(i).extra[KEY]
        np.testing.assert_array_equal(two[: len(one)], one)
        raw = filtered._loader.load(i)
        assert raw.radar is not None
        np.testing.assert_array_equal(raw.extra[KEY][:, :7], raw.radar)  # as the reader without states has them
        assert len(raw.radar) < len(two)
    with pytest.raises(ConfigError, match="radar_sweeps"):
        frames(data, sweeps=RADAR_SWEEPS + 1)


def test_points_stand_where_objects_are(data: DataConfig) -> None:
    """Older points of fast objects come closer to the box of the keyframe when they are moved."""
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for advance in gaps:
        found = frames(data, sweeps=1, advance=advance)
        for i in range(len(found)):
            points = found._loader.load(int(found._frames[i])).extra[KEY]
            points = points[points[:, 6] > 0.08]
            boxes, _ = found.boxes(i)
            for box in boxes[np.linalg.norm(boxes[:, 7:9], axis=1) > 5]:
                local = points[:, :2] - box[:2]
                along = np.abs(local @ [np.cos(box[6]), np.sin(box[6])]) - box[3] / 2
                across = np.abs(local @ [-np.sin(box[6]), np.cos(box[6])]) - box[4] / 2
                outside = np.hypot(np.maximum(along, 0), np.maximum(across, 0))
                gaps[advance] += outside[outside < 2].tolist()
    assert np.mean(gaps[True]) < np.mean(gaps[False])


def test_batches(data: DataConfig) -> None:
    train = frames(data, train=True, sweeps=1)
    batch = collate([train.get(i, 0) for i in range(3)])
    points, frame = batch.extra[KEY]["points"], batch.extra[KEY]["frame"]
    assert (points.dtype, points.shape) == (torch.float32, (len(frame), FEATURES))
    assert frame.tolist() == sorted(frame.tolist())
    assert set(frame.tolist()) == {0, 1, 2}
    for start, stop in ((7, 15), (15, 20), (20, 38)):
        assert (points[:, start:stop].sum(1) == 1).all()
    assert (points[:, 38:].diff(dim=1) <= 0).all(), "ordinal: no bit without those before it"
    assert (points[:, :2].abs() <= 54.0).all()


def test_a_sample_is_stored_as_it_is(data: DataConfig) -> None:
    sample: Sample = frames(data).get(0, 0)
    assert isinstance(sample.extra[KEY], np.ndarray)
    assert sample.extra[KEY].shape[1] == 11
    empty = replace(sample, extra={KEY: sample.extra[KEY][:0]})
    batch: Batch = collate([empty, sample])
    assert set(batch.extra[KEY]["frame"].tolist()) == {1}


def test_an_example_has_the_form_of_a_batch(data: DataConfig) -> None:
    batch = collate([frames(data).get(0, 0)])
    made = replace(batch, extra={})
    RadarFeaturesReader.example(RadarFeatures(2), made, 50.0, 0)
    for name, part in batch.extra[KEY].items():
        assert made.extra[KEY][name].dtype == part.dtype
        assert made.extra[KEY][name].shape[1:] == part.shape[1:]
    assert len(made.extra[KEY]["points"]) == 1500


def test_states_tell_targets_from_false_alarms(data: DataConfig) -> None:
    """In simulated scans: of points in boxes fewer are said to be doubtful than of all the others."""
    inside: list[np.ndarray] = []
    outside: list[np.ndarray] = []
    found = frames(data)
    for i in range(len(found)):
        points = found._loader.load(int(found._frames[i])).extra[KEY]
        boxes, _ = found.boxes(i)
        local = points[:, None, :2] - boxes[None, :, :2]
        near = (np.linalg.norm(local, axis=2) < np.linalg.norm(boxes[:, 3:5], axis=1) / 2).any(axis=1)
        inside.append(points[near])
        outside.append(points[~near])
    rows = [np.concatenate(part) for part in (inside, outside)]
    for column, doubtful in ((8, lambda c: c != 3), (9, lambda c: c != 0), (10, lambda c: c > 2)):
        shares = [doubtful(part[:, column]).mean() for part in rows]
        assert shares[0] < 0.7 * shares[1], (column, shares)
    devkit = [((part[:, 8] == 3) & (part[:, 9] == 0)).mean() for part in rows]
    assert devkit[0] > 0.75 > devkit[1] > 0.3
