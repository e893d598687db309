"""The index and the merged sweeps against the nuScenes devkit as an independent reader, on a simulated data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data import FrameDataset, Reads
from bevkd.data.index import FrameIndex
from bevkd.data.nuscenes import CLASS_OF_CATEGORY
from bevkd.data.reads import Radar
from bevkd.geometry import apply, invert, pose, wrap_angle

devkit = pytest.importorskip("nuscenes.nuscenes", reason="the nuScenes devkit is not installed")


@pytest.fixture(scope="module")
def nusc(smoke_dataset: Any) -> Any:
    return devkit.NuScenes(smoke_dataset.version, str(smoke_dataset.root), verbose=False)


@pytest.fixture(scope="module")
def index(smoke_dataset: Any) -> FrameIndex:
    return FrameIndex.open(smoke_dataset.index, "train+tune+val+conditions")


def test_every_sample_is_a_frame(nusc: Any, index: FrameIndex) -> None:
    assert set(index.columns["token"]) == {sample["token"] for sample in nusc.sample}
    for i, token in enumerate(index.columns["token"]):
        sample = nusc.get("sample", token)
        scene = nusc.get("scene", sample["scene_token"])
        assert index.columns["scene_name"][i] == scene["name"]
        assert index.columns["description"][i] == scene["description"]
        lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        assert index.timestamp[i] == lidar["timestamp"]
        ego = nusc.get("ego_pose", lidar["ego_pose_token"])
        np.testing.assert_allclose(index.global_from_ego[i], pose(ego["translation"], ego["rotation"]), atol=1e-9)


def test_boxes_and_velocities(nusc: Any, index: FrameIndex) -> None:
    from nuscenes.eval.detection.utils import category_to_detection_name

    moving = 0
    for i, token in enumerate(index.columns["token"]):
        rows = slice(int(index.boxes.start[i]), int(index.boxes.start[i + 1]))
        sample = nusc.get("sample", token)
        assert set(index.boxes.tokens[rows]) == set(sample["anns"])
        ego = nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
        from pyquaternion import Quaternion

        inverse = Quaternion(ego["rotation"]).inverse
        for at in range(rows.start, rows.stop):
            box = nusc.get_box(index.boxes.tokens[at])
            box.velocity = nusc.box_velocity(index.boxes.tokens[at])
            box.translate(-np.array(ego["translation"]))
            box.rotate(inverse)
            heading = box.orientation.rotation_matrix[:, 0]
            width, length, height = box.wlh
            expected = [*box.center, length, width, height, np.arctan2(heading[1], heading[0]), *box.velocity[:2]]
            difference = index.boxes.boxes[at] - expected
            difference[6] = wrap_angle(difference[6])
            np.testing.assert_allclose(difference, np.where(np.isnan(expected), np.nan, 0), atol=1e-9)
            moving += bool(np.linalg.norm(np.nan_to_num(box.velocity)) > 0.5)
            annotation = nusc.get("sample_annotation", index.boxes.tokens[at])
            assert index.boxes.lidar_points[at] == annotation["num_lidar_pts"]
            assert index.boxes.points[at] == annotation["num_lidar_pts"] + annotation["num_radar_pts"]
            assert index.boxes.instances[at] == annotation["instance_token"]
            name = category_to_detection_name(annotation["category_name"])
            assert CLASS_OF_CATEGORY.get(annotation["category_name"]) == name
    assert moving > 10


@pytest.mark.parametrize("sweeps", [0, 2, 4])
def test_lidar_sweeps(nusc: Any, index: FrameIndex, smoke_dataset: Any, sweeps: int) -> None:
    from nuscenes.utils.data_classes import LidarPointCloud

    data = DataConfig(root=str(smoke_dataset.root), index=str(smoke_dataset.index), lidar_sweeps=sweeps)
    ds = FrameDataset(data, ModelConfig(sensors=("lidar",)), "val", train=False, seed=0)
    for i, token in enumerate(ds.tokens):
        sample = nusc.get("sample", token)
        cloud, times = LidarPointCloud.from_file_multisweep(
            nusc, sample, "LIDAR_TOP", "LIDAR_TOP", nsweeps=sweeps + 1, min_distance=0
        )
        sensor = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["calibrated_sensor_token"]
        mount = nusc.get("calibrated_sensor", sensor)
        xyz = apply(pose(mount["translation"], mount["rotation"]), cloud.points[:3].T)
        points = ds._loader.load(int(ds._frames[i])).points
        assert points is not None
        np.testing.assert_allclose(points[: len(xyz), :3], xyz, atol=2e-4)
        np.testing.assert_array_equal(points[: len(xyz), 3], cloud.points[3])
        np.testing.assert_allclose(points[: len(xyz), 4], times[0], atol=1e-5)
        assert (points[:, 4] >= 0).all()
        assert len(points) >= len(xyz)  # beyond the devkit's: the last sweep again where sweeps are missing


def test_radar_sweeps(nusc: Any, smoke_dataset: Any) -> None:
    from nuscenes.utils.data_classes import RadarPointCloud

    data = DataConfig(root=str(smoke_dataset.root), index=str(smoke_dataset.index), radar_sweeps=1)
    ds = FrameDataset(data, ModelConfig(), "val", train=False, seed=0, reads=Reads.of(Radar(1)))
    total = 0
    for i, token in enumerate(ds.tokens):
        sample = nusc.get("sample", token)
        mount = nusc.get(
            "calibrated_sensor", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["calibrated_sensor_token"]
        )
        expected = []
        for channel in sample["data"]:
            if not channel.startswith("RADAR"):
                continue
            cloud, times = RadarPointCloud.from_file_multisweep(nusc, sample, channel, "LIDAR_TOP", 2, min_distance=0)
            xyz = apply(pose(mount["translation"], mount["rotation"]), cloud.points[:3].T)
            speed = np.linalg.norm(cloud.points[8:10], axis=0)
            expected.append(np.column_stack([xyz, cloud.points[5], speed, times[0]]))
        radar = ds._loader.load(int(ds._frames[i])).radar
        assert radar is not None
        found = np.column_stack([radar[:, :4], np.linalg.norm(radar[:, 4:6], axis=1), radar[:, 6]])
        wanted = np.concatenate(expected)
        assert len(found) == len(wanted)
        order = lambda a: a[np.lexsort(np.round(a[:, [0, 1]], 2).T)]  # noqa: E731
        np.testing.assert_allclose(order(found), order(wanted), atol=5e-3)
        total += len(found)
    assert total > 50


def test_projection_of_camera_records(nusc: Any, index: FrameIndex) -> None:
    """Points of the keyframe's ego frame reach the camera through global poses at both time stamps."""
    sensors = index.sensors
    rng = np.random.default_rng(0)
    points = rng.uniform(-30, 30, (20, 3))
    for frame in range(0, len(index), 5):
        for row in index.key[frame]:
            at = sensors.position[row]
            record = nusc.get("sample_data", sensors.token[at])
            assert record["filename"] == sensors.filename[at]
            mount = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
            ego = nusc.get("ego_pose", record["ego_pose_token"])
            world = apply(index.global_from_ego[frame], points)
            expected = apply(
                invert(pose(mount["translation"], mount["rotation"])),
                apply(invert(pose(ego["translation"], ego["rotation"])), world),
            )
            ours = invert(index.global_from_ego[frame]) @ sensors.global_from_ego[at] @ sensors.ego_from_sensor[at]
            np.testing.assert_allclose(apply(invert(ours), points), expected, atol=1e-6)
            if mount["camera_intrinsic"]:
                np.testing.assert_array_equal(sensors.intrinsics[at], mount["camera_intrinsic"])
