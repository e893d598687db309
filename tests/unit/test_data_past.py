"""Cameras with a past: lists of the index, geometry of both times, what is drawn, and what goes wrong."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bevkd.api.frame import PlainFrame
from bevkd.config import identity, load_run
from bevkd.config.schema import AugmentConfig, BEVAugmentConfig, DataConfig, ImageAugmentConfig, ModelConfig, PastConfig
from bevkd.data import Batch, FrameDataset, PastCameras, Reads, Sample, collate, convert_nuscenes
from bevkd.data.augment import own_stream, variant_generator
from bevkd.data.batch import REPEATED_S
from bevkd.data.index import FrameIndex, read_stamp
from bevkd.data.inputs.camera_past import KEY, CameraPastReader
from bevkd.data.nuscenes import past as lists
from bevkd.data.options import ConvertOptions
from bevkd.data.past import FILE
from bevkd.data.reads import Camera, CameraPast, Depth, reads_of
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import pose
from bevkd.models.camera.lss_settings import LSSSettings

VERSION = "v1.0-own"
CHANNELS = ("CAM_FRONT", "CAM_BACK")  # the second one fires 20 ms later
HEIGHT, WIDTH = 48, 96
SIZE = (32, 64)
SPOT = np.array([9.0, 3.0, 1.2])  # a lamp that stands still; world frame, m
START_US = 1_500_000_000_000_000
AXES = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # camera axes of one that looks along x
INTRINSICS = np.array([[40.0, 0.0, 48.0], [0.0, 40.0, 24.0], [0.0, 0.0, 1.0]])
RANDOM = AugmentConfig(
    bev=BEVAugmentConfig(rotate_deg=45.0, scale=(0.9, 1.1), translate_std=0.5, flip=True),
    image=ImageAugmentConfig(enabled=True, scale=(0.9, 1.1), test_scale=1.0, rotate_deg=5.4, flip=0.5),
)
READS = Reads.of(Camera(SIZE), CameraPast())


def yaw_quaternion(yaw: float) -> list[float]:
    return [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]


def ego_at(us: int) -> tuple[list[float], list[float]]:
    """Translation and rotation: 4 m/s along a curve."""
    s = (us - START_US) * 1e-6
    return [4.0 * s - 6.0, 0.3 * s * s, 0.0], yaw_quaternion(0.12 * s)


def camera_mount(channel: str) -> tuple[list[float], list[float]]:
    from scipy.spatial.transform import Rotation

    turn = np.eye(3) if channel == "CAM_FRONT" else np.diag([-1.0, -1.0, 1.0])
    x, y, z, w = Rotation.from_matrix(turn @ AXES).as_quat()
    return [1.5 if channel == "CAM_FRONT" else -0.5, 0.1, 1.5], [w, x, y, z]


def global_from_camera(channel: str, us: int) -> np.ndarray:
    return pose(*map(np.array, ego_at(us))) @ pose(*map(np.array, camera_mount(channel)))


def picture(channel: str, us: int) -> Image.Image:
    """Grey, a little brighter with time, with the lamp where it is seen from there."""
    pixels = np.full((HEIGHT, WIDTH, 3), 20, dtype=np.uint8)
    local = np.linalg.inv(global_from_camera(channel, us)) @ [*SPOT, 1.0]
    if local[2] > 0.5:
        u, v, w = INTRINSICS @ local[:3]
        column, row = math.floor(u / w), math.floor(v / w)
        if 1 <= column < WIDTH - 1 and 1 <= row < HEIGHT - 1:
            pixels[row - 1 : row + 2, column - 1 : column + 2] = 255
    return Image.fromarray(pixels)


def write_root(
    root: Path,
    keyframes: int = 7,
    camera_us: Callable[[int], list[int]] | None = None,
    scenes: int = 1,
) -> Path:
    """A data set in nuScenes layout: keyframes at 2 Hz, one LiDAR, two cameras.

    Args:
        root: its folder.
        keyframes: of each scene.
        camera_us: times of the first camera beside those of keyframes, by scene.
        scenes: how many.
    """
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("sample", "scene", "sample_data", "ego_pose")}
    sensors = ("LIDAR_TOP", *CHANNELS)
    mounts = {"LIDAR_TOP": ([0.0, 0.0, 1.8], yaw_quaternion(0.0)), **{c: camera_mount(c) for c in CHANNELS}}
    for scene in range(scenes):
        tokens = [f"sample{scene}-{k:03d}" for k in range(keyframes)]
        name = f"scene-{scene + 1:04d}"
        tables["scene"].append({"token": name, "name": name, "description": "Parked cars", "log_token": "log"})
        begin = START_US + scene * 60_000_000
        times = {k: begin + 500_000 * k for k in range(keyframes)}
        tables["sample"] += [
            {"token": token, "timestamp": times[k], "scene_token": name} for k, token in enumerate(tokens)
        ]
        between = camera_us(begin) if camera_us is not None else []
        for channel in sensors:
            lag = {"LIDAR_TOP": 0, "CAM_FRONT": -35_000, "CAM_BACK": -15_000}[channel]
            more = [] if channel == "LIDAR_TOP" else between
            for us, key in sorted([*((t, True) for t in times.values()), *((t, False) for t in more)]):
                at = us + lag
                k = min(keyframes - 1, max(0, math.ceil((us - begin) / 500_000)))
                ending = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
                filename = f"{'samples' if key else 'sweeps'}/{channel}/{scene}_{at}.{ending}"
                path = root / filename
                path.parent.mkdir(parents=True, exist_ok=True)
                if channel == "LIDAR_TOP":
                    path.write_bytes(np.ones((4, 5), dtype=np.float32).tobytes())
                else:
                    picture(channel, at).save(path, quality=95, subsampling=0)
                token = f"{channel}-{scene}-{at}"
                translation, rotation = ego_at(at)
                tables["ego_pose"].append({"token": token, "translation": translation, "rotation": rotation})
                size = (0, 0) if channel == "LIDAR_TOP" else (HEIGHT, WIDTH)
                tables["sample_data"].append(
                    {
                        "token": token, "sample_token": tokens[k], "ego_pose_token": token,
                        "calibrated_sensor_token": channel, "timestamp": at, "is_key_frame": key,
                        "height": size[0], "width": size[1], "filename": filename,
                    }
                )  # fmt: skip
    tables["calibrated_sensor"] = [
        {
            "token": c, "sensor_token": c, "translation": mounts[c][0], "rotation": mounts[c][1],
            "camera_intrinsic": [] if c == "LIDAR_TOP" else INTRINSICS.tolist(),
        }
        for c in sensors
    ]  # fmt: skip
    tables["sensor"] = [
        {"token": c, "channel": c, "modality": "lidar" if c == "LIDAR_TOP" else "camera"} for c in sensors
    ]
    tables["log"] = [{"token": "log", "location": "here"}]
    for name in ("sample_annotation", "instance", "category", "attribute", "visibility"):
        tables[name] = []
    folder = root / VERSION
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "splits.json").write_text(json.dumps({"all": [row["name"] for row in tables["scene"]]}))
    return root


def at_12_hz(keyframes: int, before: int = 0) -> Callable[[int], list[int]]:
    """Times between keyframes, and `before` of them before the first one."""

    def times(begin: int) -> list[int]:
        periods = range(-before, 6 * (keyframes - 1))
        return [begin + round(k * 1e6 / 12) for k in periods if k % 6 or k < 0]

    return times


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("swept") / "data", camera_us=at_12_hz(7))


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("sparse") / "data")


@pytest.fixture
def copy(swept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / "data"))


def config(root: Path, index: Path, **options: Any) -> DataConfig:
    return DataConfig(root=str(root), version=VERSION, index=str(index), train_split="all", **options)


def frames(root: Path, out: Path, reads: Reads = READS, train: bool = False, **options: Any) -> FrameDataset:
    index = convert_nuscenes(root, VERSION, out)
    model = ModelConfig(sensors=("camera",))
    return FrameDataset(config(root, index, **options), model, "all", train=train, seed=3, reads=reads)


def past_of(sample: Sample | Batch) -> PastCameras:
    batch = collate([sample]) if isinstance(sample, Sample) else sample
    found = batch.extra[KEY]
    assert isinstance(found, PastCameras)
    return found


def names_of(index: FrameIndex, frame: int) -> list[list[str]]:
    assert index.past is not None
    sensors = index.sensors
    return [[sensors.token[sensors.position[row]] for row in one] for one in index.past.sets(frame, 2).tolist()]


def opened(root: Path, out: Path, **options: Any) -> FrameIndex:
    index = convert_nuscenes(root, VERSION, out, **options)
    return FrameIndex.open(index, "all", sensors=("camera",), camera_past=True)


def token_of(channel: str, us: int) -> str:
    return f"{channel}-0-{us + {'CAM_FRONT': -35_000, 'CAM_BACK': -15_000}[channel]}"


def set_at(us: int) -> list[str]:
    return [token_of(channel, us) for channel in CHANNELS]


# Which sets an index lists.


def test_every_third_record_of_12_hz(swept: Path, tmp_path: Path) -> None:
    index = opened(swept, tmp_path / "index")
    for k in range(7):
        times = [START_US + round((6 * k - 3 * n) * 1e6 / 12) for n in range(1, 10) if 6 * k - 3 * n >= 0]
        assert names_of(index, k) == [set_at(t) for t in times], k


def test_nine_sets_are_listed(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", keyframes=2, camera_us=at_12_hz(2, before=40))
    index = opened(root, tmp_path / "index")
    ages = [round((index.timestamp[0] - 35_000 - int(one[0].split("-")[2])) * 1e-6, 3) for one in names_of(index, 0)]
    assert ages == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25]


def test_earlier_keyframes_where_nothing_lies_between(sparse: Path, tmp_path: Path) -> None:
    index = opened(sparse, tmp_path / "index")
    for k in range(7):
        assert names_of(index, k) == [set_at(START_US + 500_000 * n) for n in range(k - 1, -1, -1)]


def test_scenes_do_not_look_into_each_other(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", keyframes=2, scenes=2)
    index = opened(root, tmp_path / "index")
    assert [len(names_of(index, frame)) for frame in range(4)] == [0, 1, 0, 1]


def test_a_missing_record_leaves_its_place_to_a_neighbour(copy: Path, tmp_path: Path) -> None:
    """Of the second camera: the nearest record takes part, with its own pose; of the first: the list shifts by it."""
    third = START_US + round(9 * 1e6 / 12)  # of keyframe 2 the first set
    data = json.loads((copy / VERSION / "sample_data.json").read_text())
    path = {row["token"]: copy / row["filename"] for row in data}
    path[token_of("CAM_BACK", third)].unlink()
    index = opened(copy, tmp_path / "one")
    other = {token_of("CAM_BACK", START_US + round(k * 1e6 / 12)) for k in (8, 10)}
    first, last = names_of(index, 2)[0]
    assert first == token_of("CAM_FRONT", third)
    assert last in other
    path[token_of("CAM_FRONT", third)].unlink()
    index = opened(copy, tmp_path / "two")
    assert names_of(index, 2)[0] == [token_of("CAM_FRONT", START_US + round(8 * 1e6 / 12)), *sorted(other)[:1]]
    assert read_stamp(tmp_path / "two")["missing_sweeps"] == 2


def test_a_set_that_is_not_whole_gives_way_to_an_older_one(copy: Path, tmp_path: Path) -> None:
    for k in range(7, 12):  # half a second without the second camera: keyframe 2 has its own image alone
        (copy / f"sweeps/CAM_BACK/0_{START_US + round(k * 1e6 / 12) - 15_000}.jpg").unlink()
    index = opened(copy, tmp_path / "index")
    second = names_of(index, 2)
    assert second[0] == [
        token_of("CAM_FRONT", START_US + round(7 * 1e6 / 12)),
        token_of("CAM_BACK", START_US + 500_000),
    ]
    times = [int(one[0].split("-")[2]) for one in second]
    assert all(later - earlier > 200_000 for later, earlier in pairwise(times))


def test_frames_whose_cameras_differ(copy: Path, tmp_path: Path) -> None:
    """Keyframe 6 without its second camera: its sets have one record each."""
    (copy / f"samples/CAM_BACK/0_{START_US + 3_000_000 - 15_000}.jpg").unlink()
    index = convert_nuscenes(copy, VERSION, tmp_path / "index", options=ConvertOptions(partial=True))
    found = FrameIndex.open(index, "all", sensors=("camera",), camera_past=True)
    assert found.past is not None
    assert found.past.sets(6, 1).shape == (9, 1)
    assert found.past.sets(5, 2).shape == (9, 2)


def test_no_record_is_listed_twice_or_after_its_frame(swept: Path, tmp_path: Path) -> None:
    index = opened(swept, tmp_path / "index")
    for frame in range(len(index)):
        listed = names_of(index, frame)
        for n in range(2):
            times = [int(one[n].split("-")[2]) for one in listed]
            assert times == sorted(set(times), reverse=True)
            assert all(t < index.timestamp[frame] - 200_000 for t in times)


def test_the_nearest_time() -> None:
    times = np.array([10, 20, 40])
    wanted = np.array([-5, 14, 16, 20, 31, 99])
    assert lists._nearest(times, wanted).tolist() == [0, 0, 1, 1, 2, 2]
    assert lists._nearest(times[:1], wanted).tolist() == [0] * 6


# Which of them a sample looks at.


def seconds_drawn(ds: FrameDataset, i: int, epochs: int = 60) -> Counter[float]:
    return Counter(round(float(past_of(ds.get(i, e)).seconds), 2) for e in range(epochs))


def test_training_draws_from_the_places_that_are_there(swept: Path, tmp_path: Path) -> None:
    ds = frames(swept, tmp_path / "index", train=True)
    assert set(seconds_drawn(ds, 6, 120)) == {0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25}
    assert set(seconds_drawn(ds, 2)) == {0.75, 1.0}
    assert set(seconds_drawn(ds, 1)) == {0.5}  # the oldest, where none is old enough
    assert set(seconds_drawn(ds, 0)) == {round(REPEATED_S, 2)}


def test_a_test_looks_a_second_and_a_half_back(swept: Path, sparse: Path, tmp_path: Path) -> None:
    for name, root in (("swept", swept), ("sparse", sparse)):
        ds = frames(root, tmp_path / name)
        found = [round(float(past_of(ds.get(i, 0)).seconds), 3) for i in range(7)]
        assert found == [round(REPEATED_S, 3), 0.5, 1.0, 1.5, 1.5, 1.5, 1.5], name


def test_places_of_keyframes_are_those_of_their_times(sparse: Path, tmp_path: Path) -> None:
    ds = frames(sparse, tmp_path / "index", train=True)
    assert set(seconds_drawn(ds, 6)) == {1.0, 1.5, 2.0}


def test_places_are_settings(swept: Path, tmp_path: Path) -> None:
    reads = Reads.of(Camera(SIZE), CameraPast(train=(0, 1), test=8))
    assert set(seconds_drawn(frames(swept, tmp_path / "a", reads, train=True), 6)) == {0.25, 0.5}
    assert round(float(past_of(frames(swept, tmp_path / "a", reads).get(6, 0)).seconds), 3) == 2.25


# Geometry.


def test_poses_are_those_of_the_tables(swept: Path, tmp_path: Path) -> None:
    ds = frames(swept, tmp_path / "index", train=True, augment=RANDOM)
    past = past_of(collate([ds.get(6, 0)]))
    us = ds.timestamps[6] - 35_000 - round(float(past.seconds) * 1e6)
    assert past.seconds.dtype == torch.float32
    for n, channel in enumerate(CHANNELS):
        at = us + (20_000 if channel == "CAM_BACK" else 0)  # a microsecond is 4 micrometres
        expected = np.linalg.inv(ds.global_from_ego[6]) @ global_from_camera(channel, at)
        found = past.now_from_past[0].double() @ past.ego_from_camera[0, n].double()
        np.testing.assert_allclose(found, expected, atol=2e-4)
    # The ego frame of the past is where the vehicle was when the first camera took its image.
    there = ds.global_from_ego[6] @ past.now_from_past[0].double().numpy()
    np.testing.assert_allclose(there[:3, 3], ego_at(us)[0], atol=2e-4)
    np.testing.assert_allclose(past.ego_from_camera[0, 0], pose(*map(np.array, camera_mount("CAM_FRONT"))), atol=1e-5)


def ray(pixel: np.ndarray, image_aug: np.ndarray, intrinsics: np.ndarray, global_from_cam: np.ndarray) -> Any:
    """Origin and direction in the world of a pixel of an augmented image."""
    local = np.linalg.inv(intrinsics) @ np.linalg.inv(image_aug) @ [*pixel, 1.0]
    direction = global_from_cam[:3, :3] @ local
    return global_from_cam[:3, 3], direction / np.linalg.norm(direction)


def lamp(image: torch.Tensor) -> np.ndarray | None:
    """Centre (u, v) of what is bright in an image (3, H, W) of bytes."""
    bright = image.float().mean(0) - 20
    bright[bright < 60] = 0
    if bright.sum() < 500:
        return None
    rows, columns = torch.meshgrid(torch.arange(bright.shape[0]), torch.arange(bright.shape[1]), indexing="ij")
    place = torch.stack([(bright * (columns + 0.5)).sum(), (bright * (rows + 0.5)).sum()]) / bright.sum()
    return place.double().numpy()


def test_a_still_lamp_stands_in_one_place_at_both_times(swept: Path, tmp_path: Path) -> None:
    """Through augmented pixels, both image matrices, intrinsics and poses, within a pixel or so."""
    augment = replace(RANDOM, image=replace(RANDOM.image, scale=(0.95, 1.05)))
    ds = frames(swept, tmp_path / "index", train=True, augment=augment)
    now_seen = then_seen = 0
    for i in range(2, 7):
        for epoch in range(8):
            batch = collate([ds.get(i, epoch)])
            past, cameras = past_of(batch), batch.cameras
            assert cameras is not None
            world = ds.global_from_ego[i]
            now = world @ cameras.ego_from_camera[0, 0].double().numpy()
            then = world @ (past.now_from_past[0].double() @ past.ego_from_camera[0, 0].double()).numpy()
            for view, camera in ((cameras, now), (past, then)):
                pixel = lamp(view.images[0, 0])
                if pixel is None:
                    continue
                aug, k = view.image_aug[0, 0].double().numpy(), view.intrinsics[0, 0].double().numpy()
                origin, direction = ray(pixel, aug, k, camera)
                off = SPOT - origin
                distance = np.linalg.norm(off - (off @ direction) * direction)
                assert distance < 0.045 * (off @ direction), (i, epoch, view is past)
                now_seen, then_seen = now_seen + (view is cameras), then_seen + (view is past)
    assert now_seen > 5
    assert then_seen > 15


def test_the_current_images_stand_in_where_there_are_no_earlier_ones(swept: Path, tmp_path: Path) -> None:
    for train in (False, True):
        ds = frames(swept, tmp_path / "index", train=train, augment=RANDOM)
        batch = collate([ds.get(0, 1), ds.get(6, 1)])
        past, cameras = past_of(batch), batch.cameras
        assert cameras is not None
        assert past.repeated.tolist() == [True, False]
        assert past.repeated.dtype == torch.bool
        assert past.seconds[0] == torch.tensor(1 / 12)
        assert torch.equal(past.now_from_past[0], torch.eye(4))
        assert torch.equal(past.ego_from_camera[0], cameras.ego_from_camera[0])
        assert torch.equal(past.intrinsics, cameras.intrinsics)
        same = torch.equal(past.images[0], cameras.images[0]) and torch.equal(past.image_aug[0], cameras.image_aug[0])
        assert same is not train  # in training its augmentation is drawn for itself
        assert not torch.equal(past.images[1], cameras.images[1])


# What is drawn.


def assert_same(one: Sample, other: Sample) -> None:
    for name in ("bev_aug", "boxes", "labels", "points", "radar"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.cameras is not None
    assert other.cameras is not None
    for f in fields(one.cameras):
        np.testing.assert_array_equal(getattr(one.cameras, f.name), getattr(other.cameras, f.name), err_msg=f.name)


def assert_same_past(one: Sample, other: Sample) -> None:
    assert one.extra.keys() == other.extra.keys()
    assert len(one.extra) == 7
    for name, held in one.extra.items():
        np.testing.assert_array_equal(held, other.extra[name], err_msg=name)
        assert held.dtype == other.extra[name].dtype


@pytest.fixture(scope="module")
def smoke(smoke_dataset: Any) -> DataConfig:
    return DataConfig(
        root=str(smoke_dataset.root), version=smoke_dataset.version, index=str(smoke_dataset.index), lidar_sweeps=2,
        past=PastConfig((1, 1), 1), augment=replace(RANDOM, variants=3),
    )  # fmt: skip


MODEL = ModelConfig(sensors=("lidar", "camera"), camera=LSSSettings(image_size=(64, 176), stride=8))
SIM_PAST = CameraPast((1, 1), 1)


@pytest.mark.parametrize("variants", [0, 3])
def test_draws_of_other_inputs_stay_as_they_are(smoke: DataConfig, variants: int) -> None:
    data = replace(smoke, augment=replace(RANDOM, variants=variants))
    plain = reads_of(MODEL, data) | Reads.of(Depth(8))
    more = plain | Reads.of(SIM_PAST)
    without, given = (FrameDataset(data, MODEL, "train", train=True, seed=1, reads=r) for r in (plain, more))
    for i in range(3):
        for epoch in range(2):
            assert_same(without.get(i, epoch), given.get(i, epoch))


def test_variants_are_replayed(smoke: DataConfig) -> None:
    reads = reads_of(MODEL, smoke) | Reads.of(SIM_PAST)
    one, other = (FrameDataset(smoke, MODEL, "train", train=True, seed=s, reads=reads) for s in (1, 2))
    for variant in range(3):
        assert_same_past(one.get_variant(0, variant), other.get_variant(0, variant))
    drawn = [one.get_variant(0, variant).extra["camera_past.image_aug"] for variant in range(3)]
    assert not np.allclose(drawn[0], drawn[1])
    current = one.get_variant(0, 0).cameras
    assert current is not None
    assert not np.allclose(drawn[0], current.image_aug)


def test_the_place_is_replayed(swept: Path, tmp_path: Path) -> None:
    augment = replace(RANDOM, variants=12)
    one, other = (frames(swept, tmp_path / "index", train=True, augment=augment) for _ in range(2))
    ages = [float(past_of(one.get_variant(6, v)).seconds) for v in range(12)]
    assert ages == [float(past_of(other.get_variant(6, v)).seconds) for v in range(12)]
    assert len(set(ages)) > 3


def test_a_stream_of_its_own_draws_nothing_from_the_other() -> None:
    rng, plain = variant_generator("a", 1), variant_generator("a", 1)
    mine = own_stream(rng, "x").random(4)
    assert rng.random() == plain.random()
    np.testing.assert_array_equal(own_stream(rng, "x").random(4), mine)  # whatever was drawn meanwhile
    assert not np.allclose(own_stream(rng, "y").random(4), mine)
    assert not np.allclose(own_stream(variant_generator("a", 2), "x").random(4), mine)
    assert not np.allclose(plain.random(4), mine)


@pytest.mark.parametrize("augment", [AugmentConfig(), RANDOM, replace(RANDOM, variants=3)])
def test_a_memory_cache_changes_nothing(swept: Path, tmp_path: Path, augment: AugmentConfig) -> None:
    plain, cached = (
        frames(swept, tmp_path / "index", train=True, augment=augment, memory_cache=cache) for cache in (False, True)
    )
    for epoch in range(6):
        for i in (0, 1, 6):
            one, other = plain.get(i, epoch), cached.get(i, epoch)
            assert_same(one, other)
            assert_same_past(one, other)
    cached.forget()
    assert_same_past(plain.get(6, 0), cached.get(6, 0))


def test_samples_on_disk_carry_it(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    augment = replace(RANDOM, variants=3)
    plain = frames(swept, tmp_path / "index", train=True, augment=augment)
    stored = frames(swept, tmp_path / "index", train=True, augment=augment, store_gb=1.0)
    made = [stored.get_variant(i, 1) for i in (0, 6)]
    monkeypatch.setattr(CameraPastReader, "augment", None)  # nothing is made again
    for i, one in zip((0, 6), made, strict=True):
        read = stored.get_variant(i, 1)
        assert_same_past(one, read)
        assert_same(one, read)
        assert torch.equal(past_of(one).images, past_of(read).images)
        assert (past_of(one).seconds, past_of(one).repeated) == (past_of(read).seconds, past_of(read).repeated)
    monkeypatch.undo()
    assert_same_past(plain.get_variant(6, 1), stored.get_variant(6, 1))


# Batches.


def test_a_batch_on_its_way(smoke: DataConfig) -> None:
    camera = Camera((64, 176), smoke.image_mean, smoke.image_std)
    reads = Reads.of(camera, SIM_PAST)
    ds = FrameDataset(smoke, ModelConfig(sensors=("camera",)), "train", train=True, seed=1, reads=reads)
    batch = collate([ds.get(i, 0) for i in range(2)])
    past = past_of(batch)
    assert past.images.dtype == torch.uint8
    assert past.images.shape == (2, 6, 3, 64, 176)
    assert (past.now_from_past.shape, past.seconds.shape, past.repeated.shape) == ((2, 4, 4), (2,), (2,))
    there = batch.to("cpu")
    moved = past_of(there)
    mean, std = torch.tensor(smoke.image_mean), torch.tensor(smoke.image_std)
    expected = (past.images.float() - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(moved.images, expected, atol=1e-5, rtol=1e-5)
    assert moved.mean is None
    again = past_of(there.to("cpu"))
    for f in fields(PastCameras):
        if f.name not in ("images", "mean", "std"):
            assert torch.equal(getattr(moved, f.name), getattr(past, f.name)), f.name
    assert torch.equal(again.images, moved.images)
    nested = replace(batch, teacher=batch).to("cpu").teacher
    assert nested is not None
    assert torch.equal(past_of(nested).images, moved.images)


def test_an_example_is_like_a_batch() -> None:
    from bevkd.registry import lookup

    declared = {"camera": Camera(SIZE), KEY: CameraPast()}
    batch = Batch(["a"], [0], torch.ones(1, dtype=torch.bool), torch.eye(4)[None], boxes=None)  # type: ignore[arg-type]
    for name, one in declared.items():
        lookup("input", name).example(one, batch, 25.0, 100)
    past = past_of(batch)
    assert past.images.shape == (1, 6, 3, *SIZE)
    assert (past.now_from_past.shape, past.seconds.shape, past.repeated.tolist()) == ((1, 4, 4), (1,), [False])


def test_plain_arrays_have_no_past() -> None:
    images = np.full((2, *SIZE, 3), 9, dtype=np.uint8)
    poses = np.stack([pose(*map(np.array, camera_mount(c))) for c in CHANNELS])
    calibration = {"intrinsics": np.tile(INTRINSICS * [[0.5], [0.5], [1]], (2, 1, 1)), "ego_from_camera": poses}
    frame = PlainFrame(READS, None, images, calibration, None)
    past = past_of(frame.sample(MODEL.grid.area))
    assert past.repeated.tolist() == [True]
    assert (past.images == 9).all()


# The simulated data set.


def test_every_simulated_keyframe_has_an_earlier_set(smoke: DataConfig) -> None:
    reads = Reads.of(Camera((64, 176)), SIM_PAST)
    for split in ("train", "val"):
        ds = FrameDataset(smoke, MODEL, split, train=False, seed=0, reads=reads)
        for i in range(len(ds)):
            past = past_of(ds.get(i, 0))
            assert not past.repeated.any()
            assert abs(float(past.seconds) - 5 / 12) < 0.002
            # The vehicle drives ahead, if at all.
            assert past.now_from_past[0, 0, 3] < 0.01


def test_scales_look_at_what_the_simulator_writes() -> None:
    for scale, wanted in (("smoke", PastConfig((1, 1), 1)), ("sim", PastConfig((1, 1), 1)), ("paper", PastConfig())):
        assert load_run("camera_base", scale, 0).data.past == wanted


def test_frames_between_keyframes_are_not_made_of_it(smoke_dataset: Any) -> None:
    assert not (smoke_dataset.index / "unlabelled.parquet").exists()
    assert read_stamp(smoke_dataset.index)["unlabelled"] == 0


def test_frames_between_keyframes_have_a_past(copy: Path, tmp_path: Path) -> None:
    """Of a data set without labelled lists; a LiDAR sweep and its cameras look back like a keyframe."""
    folder = copy / VERSION
    data, poses = (json.loads((folder / f"{name}.json").read_text()) for name in ("sample_data", "ego_pose"))
    key = next(row for row in data if row["filename"].startswith("samples/LIDAR_TOP") and str(START_US) in row["token"])
    at = START_US + 2_750_000
    data.append({**key, "token": "sweep", "timestamp": at, "is_key_frame": False, "ego_pose_token": "sweep"})
    poses.append({"token": "sweep", "translation": ego_at(at)[0], "rotation": ego_at(at)[1]})
    (folder / "sample_data.json").write_text(json.dumps(data))
    (folder / "ego_pose.json").write_text(json.dumps(poses))
    index = convert_nuscenes(copy, VERSION, tmp_path / "index")
    ds = FrameDataset(
        config(copy, index), ModelConfig(sensors=("camera",)), "all", train=True, seed=0, frames="all",
        reads=Reads.of(Camera(SIZE), CameraPast((1, 1), 1)),
    )  # fmt: skip
    assert ds.tokens[-1] == "sweep"
    assert abs(float(past_of(ds.get(7, 0)).seconds) - 0.5) < 1e-3
    assert abs(float(past_of(ds.get(6, 0)).seconds) - 0.5) < 1e-3


# Settings and identities.


@pytest.mark.parametrize("setting", ["data.past.train=[0, 3]", "data.past.test=2"])
def test_settings_count_only_where_a_past_is_read(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same, changed = (identity(load_run("camera_base", "sim", 0, more)) for more in ((), [setting]))
    assert same == changed
    assert "past" not in same["data"]
    plain = LSSSettings.reads
    monkeypatch.setattr(LSSSettings, "reads", lambda self, model, data: plain(self, model, data) | READS_PAST)
    same, changed = (identity(load_run("camera_base", "sim", 0, more)) for more in ((), [setting]))
    assert same != changed


READS_PAST = Reads.of(CameraPast())


@pytest.mark.parametrize("setting", ["data.past.train=[3, 2]", "data.past.train=[0, 9]", "data.past.test=-1"])
def test_places_have_a_range(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.past"):
        load_run("camera_base", "sim", 0, [setting])


def test_a_past_needs_a_camera() -> None:
    with pytest.raises(ConfigError, match="'camera_past' needs 'camera'"):
        Reads.of(CameraPast()).check()


# What goes wrong.


def test_an_index_of_before_is_to_be_made_again(swept: Path, tmp_path: Path) -> None:
    index = convert_nuscenes(swept, VERSION, tmp_path / "index")
    kept = {path.name: path.read_bytes() for path in index.iterdir()}
    (index / FILE).unlink()
    with pytest.raises(DataError, match="convert the data set again") as error:
        FrameDataset(config(swept, index), ModelConfig(sensors=("camera",)), "all", train=False, seed=0, reads=READS)
    assert error.value.file == index / FILE
    plain = Reads.of(Camera(SIZE))  # what reads no past does not mind
    FrameDataset(config(swept, index), ModelConfig(sensors=("camera",)), "all", train=False, seed=0, reads=plain)
    convert_nuscenes(swept, VERSION, index)  # although nothing else has changed
    assert {path.name: path.read_bytes() for path in index.iterdir()} == kept


def test_nothing_is_learnt_of_motion_where_no_frame_has_a_past(swept: Path, tmp_path: Path) -> None:
    ds = frames(swept, tmp_path / "index", train=True)
    with pytest.raises(DataError, match="no usable box"):
        ds.require_targets()
    with pytest.raises(DataError, match="none of 1 frames has earlier images") as error:
        ds.require_targets(1)  # the first frame of a scene
    assert (error.value.file, error.value.field) == (tmp_path / "index" / FILE, "sets")

    def emptied(tokens: list[str], sets: list[list[int]]) -> None:
        sets[:] = [[] for _ in sets]

    damage(tmp_path / "index" / FILE, emptied)
    looked_at = FrameDataset(
        config(swept, tmp_path / "index"), ModelConfig(sensors=("camera",)), "all", train=False, seed=0, reads=READS
    )
    assert past_of(collate([looked_at.get(6, 0)])).repeated.tolist() == [True], "a test may look at single keyframes"


def damage(path: Path, change: Callable[[list[str], list[list[int]]], Any]) -> None:
    table = pq.read_table(path)
    tokens, sets = table["token"].to_pylist(), table["sets"].to_pylist()
    change(tokens, sets)
    columns = [pa.array(tokens, pa.string()), pa.array(sets, pa.list_(pa.int32()))]
    pq.write_table(pa.Table.from_arrays(columns, schema=table.schema), path)


@pytest.mark.parametrize(
    ("change", "token"),
    [
        (lambda tokens, sets: sets[6].reverse(), "sample0-006"),  # of other cameras
        (lambda tokens, sets: sets[6].append(3), "sample0-006"),  # no whole set
        (lambda tokens, sets: sets[6].__setitem__(0, 10**6), "sample0-006"),  # no such record
        (lambda tokens, sets: sets[6].__setitem__(0, 0), "sample0-006"),  # a LiDAR record
        (lambda tokens, sets: sets[2].__setitem__(1, -1), "sample0-002"),
        (lambda tokens, sets: sets.__setitem__(1, sets[6][:2]), "sample0-001"),  # of later ones
        (lambda tokens, sets: tokens.__setitem__(4, "other"), "sample0-004"),
        (lambda tokens, sets: sets.__setitem__(5, None), None),
    ],
)
def test_damaged_lists_are_refused(swept: Path, tmp_path: Path, change: Any, token: str | None) -> None:
    index = convert_nuscenes(swept, VERSION, tmp_path / "index")
    damage(index / FILE, change)
    with pytest.raises(DataError) as error:
        FrameIndex.open(index, "all", sensors=("camera",), camera_past=True)
    assert (error.value.file, error.value.token) == (index / FILE, token)


def fifth(root: Path) -> tuple[Path, str]:
    """The image of the first camera that keyframe 6 looks back at when it is tested, and its token."""
    at = START_US + 1_500_000 - 35_000
    return root / f"samples/CAM_FRONT/0_{at}.jpg", f"CAM_FRONT-0-{at}"


@pytest.mark.parametrize("what", ["gone", "cut", "gif", "size", "link"])
def test_a_bad_earlier_image_is_named(copy: Path, tmp_path: Path, what: str) -> None:
    ds = frames(copy, tmp_path / "index")
    path, token = fifth(copy)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif what == "gif":
        Image.new("RGB", (WIDTH, HEIGHT)).save(path, format="GIF")
    elif what == "size":
        Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(path)
    else:
        moved = path.rename(tmp_path / "outside.jpg")
        if what == "link":
            path.symlink_to(moved)
    with pytest.raises(DataError) as error:
        ds.get(6, 0)
    assert (error.value.file, error.value.token) == (path, token)
    ds.get(5, 0)  # others are as they were


def test_resized_earlier_images_take_their_intrinsics_along(copy: Path, tmp_path: Path) -> None:
    path, _ = fifth(copy)
    ds = frames(copy, tmp_path / "index", rescale_images=True)
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(path)
    past = past_of(ds.get(6, 0))
    np.testing.assert_allclose(past.intrinsics[0, 0], np.diag([0.5, 0.5, 1.0]) @ INTRINSICS)
    np.testing.assert_allclose(past.intrinsics[0, 1], INTRINSICS)


def test_sweeps_that_were_not_downloaded(copy: Path, tmp_path: Path) -> None:
    """Earlier keyframes serve, as for LiDAR sweeps."""
    shutil.rmtree(copy / "sweeps")
    index = opened(copy, tmp_path / "index")
    assert names_of(index, 3) == [set_at(START_US + 500_000 * n) for n in (2, 1, 0)]
