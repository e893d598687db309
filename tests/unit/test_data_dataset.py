from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bevkd.config.schema import (
    AugmentConfig,
    BEVAugmentConfig,
    DataConfig,
    GridConfig,
    ImageAugmentConfig,
    ModelConfig,
)
from bevkd.data import Batch, FrameDataset, Sample, collate, convert_nuscenes
from bevkd.data.batch import normalise
from bevkd.data.reads import Depth, LidarImage, Radar, Reads, reads_of
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import box_corners, invert, points_in_boxes
from bevkd.models.camera.lss_settings import LSSSettings
from bevkd.registry import register_settings


@register_settings("radar_encoder", "only_reads")
@dataclass(frozen=True)
class OnlyReads:
    """Of a radar encoder that nobody builds."""

    kind: str = "only_reads"

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        return Reads.of(Radar(data.radar_sweeps))


MODEL = ModelConfig(
    sensors=("lidar", "camera", "radar"),
    grid=GridConfig(reach=25.6, cell=0.8),
    camera=LSSSettings(image_size=(64, 176), stride=8),
    radar=OnlyReads(),
)
DEPTH = Reads.of(Depth(stride=8))
RANDOM = AugmentConfig(
    bev=BEVAugmentConfig(rotate_deg=45.0, scale=(0.9, 1.1), translate_std=0.5, flip=True),
    image=ImageAugmentConfig(enabled=True, scale=(0.386, 0.55), test_scale=0.44, rotate_deg=5.4, flip=0.5),
)
FLIPS = AugmentConfig(
    variants=4,
    bev=BEVAugmentConfig(flip=True),
    image=ImageAugmentConfig(enabled=False),
)


@pytest.fixture(scope="module")
def data(smoke_dataset: Any) -> DataConfig:
    return DataConfig(
        root=str(smoke_dataset.root),
        version=smoke_dataset.version,
        index=str(smoke_dataset.index),
        lidar_sweeps=2,
        radar_sweeps=1,
        augment=FLIPS,
    )


def same(a: Sample, b: Sample) -> None:
    for name in ("bev_aug", "boxes", "labels", "points", "radar"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert (a.cameras is None) == (b.cameras is None)
    if a.cameras is not None and b.cameras is not None:
        for name in ("images", "intrinsics", "ego_from_camera", "image_aug", "depth"):
            np.testing.assert_array_equal(getattr(a.cameras, name), getattr(b.cameras, name), err_msg=name)
    assert (a.token, a.variant, a.labelled) == (b.token, b.variant, b.labelled)


def test_labelled_lists(data: DataConfig, smoke_dataset: Any) -> None:
    lists = json.loads((smoke_dataset.root / smoke_dataset.version / "labelled.json").read_text())
    for subset, tokens in lists.items():
        few = FrameDataset(data, MODEL, "train", train=True, seed=0, labelled_subset=int(subset))
        every = FrameDataset(data, MODEL, "train", train=True, seed=0, frames="all", labelled_subset=int(subset))
        assert set(few.tokens) == set(tokens)
        assert few.labelled.all()
        assert set(np.array(every.tokens)[every.labelled]) == set(tokens)
        assert (~every.labelled).sum() > 0
    evaluated = FrameDataset(data, MODEL, "train", train=False, seed=0)
    assert evaluated.labelled.all()
    assert set(evaluated.tokens) == set(every.tokens)


def test_boxes_of_unlabelled_frames_stay_hidden(data: DataConfig) -> None:
    ds = FrameDataset(data, MODEL, "train", train=True, seed=0, frames="all")
    batch = collate([ds.get(i, 0) for i in range(len(ds))])
    with_boxes = set(batch.boxes.frame.tolist())
    assert with_boxes
    assert with_boxes <= set(np.flatnonzero(ds.labelled).tolist())
    assert batch.labelled.tolist() == ds.labelled.tolist()
    lists = ds.class_lists()
    assert {i for frames in lists for i in frames} <= set(np.flatnonzero(ds.labelled).tolist())


@pytest.mark.parametrize("cached", [False, True])
def test_replay(data: DataConfig, cached: bool) -> None:
    data = replace(data, memory_cache=cached)
    reads = reads_of(MODEL, data) | DEPTH
    a, b = (FrameDataset(data, MODEL, "train", train=True, seed=7, frames="all", reads=reads) for _ in range(2))
    seen = set()
    for epoch in range(8):
        for i in reversed(range(3)):
            first = a.get(i, epoch)
            same(first, b.get_variant(i, first.variant))
            same(first, a.get(i, epoch))
            seen.add(first.variant)
    assert seen == {0, 1, 2, 3}


def test_cache_changes_nothing(data: DataConfig) -> None:
    for augment in (FLIPS, RANDOM, replace(RANDOM, variants=3)):
        plain, cached = (
            FrameDataset(
                replace(data, augment=augment, memory_cache=c),
                MODEL,
                "train",
                train=True,
                seed=1,
                reads=reads_of(MODEL, data) | DEPTH,
            )
            for c in (False, True)
        )
        for epoch in range(3):
            same(plain.get(0, epoch), cached.get(0, epoch))


def test_flip_variants(data: DataConfig) -> None:
    ds = FrameDataset(data, MODEL, "train", train=True, seed=0)
    plain = FrameDataset(data, MODEL, "train", train=False, seed=0)
    base = plain.get(plain.tokens.index(ds.tokens[0]), 0)
    assert base.points is not None
    for k in range(4):
        sample = ds.get_variant(0, k)
        signs = np.array([-1 if k & 1 else 1, -1 if k >> 1 & 1 else 1])
        np.testing.assert_array_equal(sample.bev_aug, np.diag([*signs, 1, 1]))
        assert sample.points is not None
        np.testing.assert_array_equal(sample.points[:, :2], base.points[:, :2] * signs)
        np.testing.assert_allclose(sample.boxes[:, :2], base.boxes[:, :2] * signs)
        np.testing.assert_allclose(sample.boxes[:, 7:9], base.boxes[:, 7:9] * signs)
        assert sample.radar is not None
        assert base.radar is not None
        np.testing.assert_array_equal(sample.radar[:, [0, 1, 4, 5]], base.radar[:, [0, 1, 4, 5]] * [*signs, *signs])
    with pytest.raises(ConfigError, match="variant 4"):
        ds.get_variant(0, 4)
    with pytest.raises(ConfigError, match="variant 1"):
        plain.get_variant(0, 1)


def test_unlabelled_frames_may_have_fewer_variants(data: DataConfig) -> None:
    few = replace(data, augment=replace(FLIPS, variants=4, unlabelled_variants=2))
    ds = FrameDataset(few, MODEL, "train", train=True, seed=0, frames="all")
    assert [ds.variant_count(i) for i in range(len(ds))] == [4 if flag else 2 for flag in ds.labelled]
    assert 0 < ds.labelled.sum() < len(ds)
    for want, labelled in (({0, 1, 2, 3}, True), ({0, 1}, False)):
        members = np.flatnonzero(ds.labelled == labelled)[:5]
        assert {ds.get(int(i), epoch).variant for i in members for epoch in range(12)} == want
    with pytest.raises(ConfigError, match="variant 2"):
        ds.get_variant(int(np.flatnonzero(~ds.labelled)[0]), 2)
    assert FrameDataset(few, MODEL, "val", train=False, seed=0).variant_count(0) == 1


def test_every_other_sweep(data: DataConfig) -> None:
    only = replace(MODEL, sensors=("lidar",))
    clouds = {}
    for name, sweeps, stride in (("all", 2, 1), ("second", 1, 2), ("first", 1, 1)):
        config = replace(data, lidar_sweeps=sweeps, lidar_sweep_stride=stride)
        points = FrameDataset(config, only, "val", train=False, seed=0).get(0, 0).points
        assert points is not None
        clouds[name] = points
    ages = np.unique(clouds["all"][:, 4])
    assert len(ages) == 3
    np.testing.assert_array_equal(np.unique(clouds["first"][:, 4]), ages[[0, 1]])
    np.testing.assert_array_equal(np.unique(clouds["second"][:, 4]), ages[[0, 2]])
    np.testing.assert_array_equal(clouds["second"], clouds["all"][clouds["all"][:, 4] != ages[1]])


@pytest.mark.parametrize("change", [{"lidar_sweeps": 4, "lidar_sweep_stride": 3}, {"radar_sweeps": 7}])
def test_more_sweeps_than_an_index_lists_are_refused(data: DataConfig, change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="sweeps reach back"):
        FrameDataset(replace(data, **change), MODEL, "val", train=False, seed=0)


def test_evaluation_is_not_augmented(data: DataConfig) -> None:
    ds = FrameDataset(replace(data, augment=RANDOM), MODEL, "val", train=False, seed=0)
    for epoch in range(2):
        sample = ds.get(0, epoch)
        assert sample.variant == 0
        np.testing.assert_array_equal(sample.bev_aug, np.eye(4))
        assert sample.cameras is not None
        np.testing.assert_array_equal(sample.cameras.image_aug, np.tile(np.eye(3), (6, 1, 1)))
        same(sample, ds.get_variant(0, 0))


def test_boxes_follow_the_rules(data: DataConfig) -> None:
    ds = FrameDataset(replace(data, augment=RANDOM), MODEL, "train", train=True, seed=0)
    table = ds.index.boxes
    for i in range(len(ds)):
        sample = ds.get(i, 3)
        assert (np.abs(sample.boxes[:, :2]) <= 25.6).all()
        assert np.isfinite(sample.boxes).all()
        frame = int(ds._frames[i])
        rows = slice(table.start[frame], table.start[frame + 1])
        allowed = (table.points[rows] >= 1) & (table.labels[rows] >= 0)
        assert len(ds.boxes(i)[0]) == allowed.sum()
        assert len(sample.boxes) <= allowed.sum()
    many = FrameDataset(replace(data, min_points=30, classes=("car", "bus")), MODEL, "train", train=True, seed=0)
    for i in range(len(many)):
        boxes, labels = many.boxes(i)
        assert set(labels.tolist()) <= {0, 3}
        frame = int(many._frames[i])
        points = many.index.boxes.points[many.index.boxes.start[frame] : many.index.boxes.start[frame + 1]]
        assert len(boxes) <= (points >= 30).sum()


def test_lidar_points_are_in_their_boxes_under_augmentation(data: DataConfig) -> None:
    data = replace(data, augment=RANDOM, lidar_sweeps=0, min_points=10)
    ds = FrameDataset(data, replace(MODEL, sensors=("lidar",)), "train", train=True, seed=0)
    hit = total = 0
    for epoch in range(3):
        for i in range(len(ds)):
            sample = ds.get(i, epoch)
            assert sample.points is not None
            inner = sample.boxes[np.abs(sample.boxes[:, :2]).max(axis=1) < 20]
            counts = points_in_boxes(sample.points, inner, margin=0.05).sum(axis=1)
            hit, total = hit + int((counts >= 5).sum()), total + len(inner)
    assert total > 20
    assert hit >= 0.95 * total


def test_camera_geometry_of_the_batch(data: DataConfig) -> None:
    """Image augmentation, BEV augmentation and camera poses agree: boxes project to the same source pixels."""
    data = replace(data, augment=RANDOM)
    augmented = FrameDataset(data, MODEL, "train", train=True, seed=0)
    plain = FrameDataset(data, MODEL, "train", train=False, seed=0)
    i = 0
    a, b = augmented.get(i, 1), plain.get(plain.tokens.index(augmented.tokens[i]), 0)
    assert a.cameras is not None
    assert b.cameras is not None
    assert not np.allclose(a.bev_aug, np.eye(4))
    back = np.linalg.inv(a.bev_aug)
    centres = a.boxes[:, :3] @ back[:3, :3].T + back[:3, 3]
    distance = np.linalg.norm(centres[:, None] - b.boxes[None, :, :3], axis=-1).min(axis=1)
    assert (distance < 1e-6).all()
    np.testing.assert_array_equal(a.cameras.ego_from_camera, b.cameras.ego_from_camera)
    assert not np.allclose(a.cameras.image_aug, b.cameras.image_aug)


def test_only_the_sensors_asked_for(data: DataConfig) -> None:
    camera = replace(MODEL, sensors=("camera",))
    ds = FrameDataset(data, camera, "train", train=True, seed=0)
    batch = collate([ds.get(0, 0)])
    assert batch.points is None
    assert batch.radar is None
    assert batch.cameras is not None
    assert batch.cameras.depth is None
    more = reads_of(replace(MODEL, sensors=("lidar", "camera")), data)
    both = FrameDataset(data, camera, "train", train=True, seed=0, reads=more)
    assert collate([both.get(0, 0)]).points is not None
    taught = replace(camera, camera=replace(camera.camera, depth_weight=3.0))
    assert FrameDataset(data, taught, "train", train=False, seed=0).reads == reads_of(camera, data)
    depth = FrameDataset(data, taught, "train", train=True, seed=0)
    batch = collate([depth.get(0, 0)])
    assert batch.points is None
    assert batch.cameras is not None
    assert batch.cameras.depth is not None
    assert batch.cameras.depth.shape == (1, 6, 8, 22)
    with_lidar = FrameDataset(data, MODEL, "train", train=True, seed=0, reads=reads_of(MODEL, data) | DEPTH)
    other = collate([with_lidar.get(0, 0)])
    assert other.cameras is not None
    assert other.cameras.depth is not None
    torch.testing.assert_close(batch.cameras.depth, other.cameras.depth)
    assert (batch.cameras.depth > 0).float().mean() > 0.2
    with pytest.raises(ConfigError, match="camera"):
        FrameDataset(data, MODEL, "train", train=True, seed=0, reads=DEPTH)


def test_lidar_images_are_there_for_models_that_read_them(data: DataConfig) -> None:
    camera = replace(MODEL, sensors=("camera",))
    reader = replace(camera, camera=replace(camera.camera, input="lidar"))
    ds = FrameDataset(data, reader, "train", train=True, seed=0, reads=reads_of(reader, data) | DEPTH)
    batch = collate([ds.get(0, 0), ds.get(1, 0)])
    assert batch.points is None
    assert batch.cameras is not None
    assert batch.cameras.lidar is not None
    assert batch.cameras.depth is not None
    height, width = reader.camera.image_size
    assert batch.cameras.lidar.shape == (2, 6, height, width)
    # The nearest point of a block is that of its pixels.
    stride = reader.camera.stride
    far = torch.where(batch.cameras.lidar > 0, batch.cameras.lidar, torch.inf)
    nearest = -torch.nn.functional.max_pool2d(-far.flatten(0, 1), stride).unflatten(0, (2, 6))
    torch.testing.assert_close(torch.where(nearest.isinf(), 0.0, nearest), batch.cameras.depth)
    plain = collate([FrameDataset(data, camera, "train", train=True, seed=0).get(0, 0)])
    assert plain.cameras is not None
    assert plain.cameras.lidar is None
    more = reads_of(camera, data) | Reads.of(LidarImage())
    asked = collate([FrameDataset(data, camera, "train", train=True, seed=0, reads=more).get(0, 0)])
    assert asked.cameras is not None
    assert asked.cameras.lidar is not None
    with pytest.raises(ConfigError, match="camera"):
        FrameDataset(data, MODEL, "train", train=True, seed=0, reads=Reads.of(LidarImage()))


def test_depth_agrees_with_the_points(data: DataConfig) -> None:
    data = replace(data, lidar_sweeps=0)
    ds = FrameDataset(data, MODEL, "val", train=False, seed=0, reads=reads_of(MODEL, data) | DEPTH)
    sample = ds.get(0, 0)
    assert sample.cameras is not None
    assert sample.cameras.depth is not None
    assert sample.points is not None
    for n in range(6):
        m = invert(sample.cameras.ego_from_camera[n])
        local = sample.points[:, :3] @ m[:3, :3].T + m[:3, 3]
        pixel = local @ sample.cameras.intrinsics[n].T
        with np.errstate(all="ignore"):
            u, v = pixel[:, 0] / pixel[:, 2], pixel[:, 1] / pixel[:, 2]
        for row, column in zip(*np.nonzero(sample.cameras.depth[n]), strict=True):
            d = sample.cameras.depth[n, row, column]
            block = (local[:, 2] > 0) & (u // 8 == column) & (v // 8 == row)
            if block.any() and d < 20:  # points beyond the grid are not in `points`
                assert d >= local[block, 2].min() - 1e-3


def test_collate(data: DataConfig) -> None:
    ds = FrameDataset(data, MODEL, "train", train=True, seed=0)
    samples = [ds.get(i, 0) for i in range(3)]
    batch = collate(samples)
    assert isinstance(batch, Batch)
    assert batch.tokens == ds.tokens[:3]
    assert batch.cameras is not None
    assert batch.points is not None
    assert batch.point_frame is not None
    images = torch.stack([torch.from_numpy(s.cameras.images) for s in samples if s.cameras is not None])
    assert torch.equal(batch.cameras.images, images.permute(0, 1, 4, 2, 3))
    assert batch.cameras.images.dtype == torch.uint8
    there = batch.to("cpu")
    assert there.cameras is not None
    mean, std = torch.tensor(data.image_mean), torch.tensor(data.image_std)
    expected = ((images.float() - mean) / std).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(there.cameras.images, expected, atol=1e-5, rtol=1e-5)
    assert there.cameras.images[0].is_contiguous(memory_format=torch.channels_last)
    again = there.to("cpu").cameras
    assert again is not None
    assert torch.equal(again.images, there.cameras.images)
    assert there.labelled_flags == batch.labelled_flags
    for k, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.points[batch.point_frame == k].numpy(), sample.points)
        mine = batch.boxes.select(batch.boxes.frame == k)
        np.testing.assert_allclose(mine.boxes.numpy(), sample.boxes, rtol=1e-6)
        assert mine.labels.tolist() == sample.labels.tolist()
    assert batch.boxes.scores.eq(1).all()
    for tensor in (batch.points, batch.radar, batch.boxes.boxes, batch.bev_aug, batch.cameras.intrinsics):
        assert tensor is not None
        assert tensor.dtype == torch.float32
    with pytest.raises(ValueError, match="empty"):
        collate([])
    with pytest.raises(ValueError, match=r"sample \w+ is not labelled and has \d+ boxes"):
        collate([replace(samples[0], labelled=False)])


def test_normalised_images_have_the_bits_of_one_channel_at_a_time() -> None:
    config = DataConfig()
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, 16, 16).expand(2, 3, 3, 16, 16)
    found = normalise(images, config.image_mean, config.image_std)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    for channel, (mean, std) in enumerate(zip(config.image_mean, config.image_std, strict=True)):
        one = torch.mul(images[:, :, channel], 1.0 / std)
        assert torch.equal(found[:, :, channel], one.sub_(mean / std))


def test_frames_between_keyframes_are_unlabelled(smoke_dataset: Any, tmp_path: Path, data: DataConfig) -> None:
    """A data set without labelled lists, whose cameras recorded between keyframes, like the real nuScenes."""
    root = tmp_path / "data"
    shutil.copytree(smoke_dataset.root / smoke_dataset.version, root / "v1.0-own")
    for name in ("samples", "sweeps"):
        shutil.copytree(smoke_dataset.root / name, root / name, copy_function=os.link)
    (root / "v1.0-own" / "labelled.json").unlink()
    path = root / "v1.0-own" / "sample_data.json"
    records = json.loads(path.read_text())
    lidar = [r for r in records if "LIDAR_TOP" in r["filename"] and not r["is_key_frame"]]
    keys = {(r["sample_token"], r["filename"].split("/")[1]): r for r in records if r["is_key_frame"]}
    for k, sweep in enumerate(lidar[:-1]):  # the last one finds no camera record close enough
        for channel in {c for _, c in keys if c.startswith("CAM_")}:
            source = keys[sweep["sample_token"], channel]
            records.append(
                {**source, "token": f"{k:04d}{channel}", "is_key_frame": False, "timestamp": sweep["timestamp"] + 9}
            )
    for r in records:
        if r["sample_token"] == lidar[-1]["sample_token"] and "CAM" in r["filename"]:
            r["timestamp"] += 10_000_000
    path.write_text(json.dumps(records))
    index = convert_nuscenes(root, "v1.0-own", tmp_path / "index")
    data = replace(data, root=str(root), version="v1.0-own", index=str(index))
    few = FrameDataset(data, MODEL, "train", train=True, seed=0)
    assert few.labelled.all()
    assert len(few) == 16
    found = []
    for split in ("train", "tune", "val", "conditions"):
        ds = FrameDataset(data, MODEL, split, train=True, seed=0, frames="all")
        between = np.flatnonzero(~ds.labelled)
        assert {ds.tokens[i] for i in between} == {ds.tokens[i] for i in range(len(ds)) if not ds.labelled[i]}
        found += [ds.tokens[i] for i in between]
        sample = ds.get(int(between[0]), 0)
        assert sample.points is not None
        assert sample.cameras is not None
        assert len(sample.boxes) == 0
        assert sample.points[:, 4].min() == 0
        sensors = ds.index.sensors
        for at in ds._loader.records(int(ds._frames[between[0]]), "camera"):
            assert abs(sensors.timestamp[at] - ds.index.timestamp[ds._frames[between[0]]]) <= 250_000
    dropped = {lidar[-1]["token"]}
    assert dropped.isdisjoint(found)
    assert set(found) <= {r["token"] for r in lidar}
    assert len(found) >= 0.8 * len(lidar)


def test_frames_must_have_the_sensors(smoke_dataset: Any, tmp_path: Path, data: DataConfig) -> None:
    root = tmp_path / "data"
    shutil.copytree(smoke_dataset.root / smoke_dataset.version, root / "v1.0-own")
    for name in ("samples", "sweeps"):
        shutil.copytree(smoke_dataset.root / name, root / name, copy_function=os.link)
    path = root / "v1.0-own" / "sample_data.json"
    records = json.loads(path.read_text())
    index = FrameDataset(data, MODEL, "val", train=False, seed=0).index
    token = index.columns["token"][0]
    path.write_text(
        json.dumps([r for r in records if not (r["sample_token"] == token and "CAM_BACK/" in r["filename"])])
    )
    data = replace(data, index=str(convert_nuscenes(root, "v1.0-own", tmp_path / "index")))
    with pytest.raises(DataError, match="camera records"):
        FrameDataset(data, MODEL, "val", train=False, seed=0)
    FrameDataset(data, replace(MODEL, sensors=("lidar",)), "val", train=False, seed=0)


def test_every_second_keyframe_of_each_scene(data: DataConfig) -> None:
    every = FrameDataset(data, MODEL, "train", train=True, seed=0, labelled_subset=-1)
    thinned = replace(data, train_stride=2)
    half = FrameDataset(thinned, MODEL, "train", train=True, seed=0, labelled_subset=-1)
    first = {}
    for token, scene in zip(every.tokens, every.scenes, strict=True):
        first.setdefault(scene, token)
    assert half.tokens == list(first.values())  # the first of two keyframes per scene
    assert len(FrameDataset(thinned, MODEL, "val", train=False, seed=0)) == len(
        FrameDataset(data, MODEL, "val", train=False, seed=0)
    )


def test_an_area_ahead_cuts_points_and_boxes(data: DataConfig) -> None:
    ahead = replace(MODEL, sensors=("lidar",), grid=GridConfig(x=(0.0, 25.6), y=(-12.8, 12.8), cell=0.8))
    around = FrameDataset(data, replace(MODEL, sensors=("lidar",)), "val", train=False, seed=0)
    cut = FrameDataset(data, ahead, "val", train=False, seed=0)
    kept = 0
    for whole, part in zip(around, cut, strict=True):
        assert whole.points is not None
        assert part.points is not None
        x, y = whole.points[:, 0], whole.points[:, 1]
        assert len(part.points) == ((x >= 0) & (x <= 25.6) & (np.abs(y) <= 12.8)).sum()
        x, y = whole.boxes[:, 0], whole.boxes[:, 1]
        np.testing.assert_array_equal(part.boxes, whole.boxes[(x >= 0) & (np.abs(y + 1e-12) <= 12.8)])
        kept += len(part.boxes)
    assert kept > 0


def test_which_boxes_are_in_range_is_a_setting(data: DataConfig) -> None:
    """With a corner inside, and the centre too; or with a corner alone (UniDistill spec, 3)."""
    grid = GridConfig(reach=12.8, cell=0.8)
    model = ModelConfig(sensors=("lidar",), grid=grid)
    kept = {}
    for rule in ("centre", "corner"):
        frames = FrameDataset(replace(data, box_range=rule), model, "val", train=False, seed=0)
        kept[rule] = [frames.get(i, 0).boxes for i in range(len(frames))]
    more = 0
    for i, (centre, corner) in enumerate(zip(kept["centre"], kept["corner"], strict=True)):
        every = frames.boxes(i)[0]
        corners = box_corners(every)
        low, high = [-12.8, -12.8, grid.z_min], [12.8, 12.8, grid.z_max]
        wanted = ((corners >= low) & (corners <= high)).all(axis=2).any(axis=1)
        np.testing.assert_allclose(corner, every[wanted], atol=1e-5)
        inside = (np.abs(every[:, :2]) < 12.8).all(axis=1)
        np.testing.assert_allclose(centre, every[wanted & inside], atol=1e-5)
        more += len(corner) - len(centre)
    assert more > 0, "a test of nothing"
