"""The simulated dataset on disk, read by the official devkit."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevkd.classes import CLASSES
from bevkd.sim import SCALES, simulate_nuscenes
from bevkd.sim.rig import CAMERAS, CHANNELS, LIDAR, RADARS

os.environ.setdefault("MPLBACKEND", "Agg")
nuscenes = pytest.importorskip("nuscenes", reason="the nuScenes devkit is the oracle here")
from nuscenes.eval.common.utils import quaternion_yaw  # noqa: E402
from nuscenes.eval.detection.utils import category_to_detection_name  # noqa: E402
from nuscenes.utils.data_classes import LidarPointCloud, RadarPointCloud  # noqa: E402
from nuscenes.utils.geometry_utils import points_in_box, view_points  # noqa: E402
from pyquaternion import Quaternion  # noqa: E402

SMOKE = SCALES["smoke"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim") / "nuscenes"
    simulate_nuscenes(SMOKE, out, seed=0)
    return out


@pytest.fixture(scope="module")
def nusc(root: Path) -> Any:
    return nuscenes.NuScenes(version="v1.0-sim", dataroot=str(root), verbose=False)


def test_tables_have_the_expected_size(nusc: Any, root: Path) -> None:
    scenes = sum(SMOKE.splits.scenes.values())
    frames = scenes * SMOKE.splits.keyframes_per_scene
    assert len(nusc.scene) == scenes
    assert len(nusc.sample) == frames
    cameras = 6 * (1 + 1 + SMOKE.camera.sweeps)  # one more: `bevkd.sim.past`
    per_frame = (1 + SMOKE.lidar.sweeps) + cameras + 5 * (1 + SMOKE.radar.sweeps)
    assert len(nusc.sample_data) == len(nusc.ego_pose) == frames * per_frame
    assert {r["channel"] for r in nusc.sensor} == set(CHANNELS)
    assert len(nusc.category) == 23
    assert len(nusc.attribute) == 8
    assert [v["token"] for v in nusc.visibility] == ["1", "2", "3", "4"]
    for table in nusc.table_names:
        tokens = [record["token"] for record in getattr(nusc, table)]
        assert len(tokens) == len(set(tokens))
        if table != "visibility":
            assert all(len(t) == 32 and int(t, 16) >= 0 for t in tokens), table
    for record in nusc.sample_data:
        assert (root / record["filename"]).is_file()
    on_disk = sum(1 for f in ("samples", "sweeps") for p in (root / f).rglob("*") if p.is_file())
    assert on_disk == len(nusc.sample_data)


def test_splits_and_labelled_lists(nusc: Any, root: Path) -> None:
    splits = json.loads((root / "v1.0-sim" / "splits.json").read_text())
    assert {k: len(v) for k, v in splits.items()} == {"train": 8, "tune": 2, "val": 3, "conditions": 4}
    names = [name for split in splits.values() for name in split]
    assert sorted(names) == sorted(s["name"] for s in nusc.scene)
    labelled = json.loads((root / "v1.0-sim" / "labelled.json").read_text())
    assert list(labelled) == ["0", "1", "2"]
    for tokens in labelled.values():
        assert len(set(tokens)) == SMOKE.labelled.count
        seen = set()
        for token in tokens:
            sample = nusc.get("sample", token)
            assert nusc.get("scene", sample["scene_token"])["name"] in splits["train"]
            for annotation in (nusc.get("sample_annotation", t) for t in sample["anns"]):
                if annotation["num_lidar_pts"] > 0:
                    seen.add(category_to_detection_name(annotation["category_name"]))
        assert seen == set(CLASSES)


def test_lidar_points_in_boxes_are_counted_as_the_devkit_counts(nusc: Any) -> None:
    total = with_points = 0
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"][LIDAR])
        points = LidarPointCloud.from_file(path).points
        for box in boxes:
            expected = nusc.get("sample_annotation", box.token)["num_lidar_pts"]
            assert points_in_box(box, points[:3]).sum() == expected, box
            total, with_points = total + 1, with_points + (expected > 0)
    assert total > 200
    assert with_points > 0.7 * total


def test_lidar_file_layout(nusc: Any, root: Path) -> None:
    record = nusc.get("sample_data", nusc.sample[0]["data"][LIDAR])
    points = np.fromfile(root / record["filename"], dtype=np.float32).reshape(-1, 5)
    assert np.isfinite(points).all()
    assert set(np.unique(points[:, 4])) <= set(range(SMOKE.lidar.rings))
    assert points[:, 3].min() >= 0
    assert points[:, 3].max() <= 255
    elevation = np.rad2deg(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    nominal = np.linspace(*SMOKE.lidar.elevation_deg, SMOKE.lidar.rings)[points[:, 4].astype(int)]
    np.testing.assert_allclose(elevation, nominal, atol=0.01)
    # The ground lies a sensor height below.
    height = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])["translation"][2]
    low = points[points[:, 4] < 4]
    assert abs(np.median(low[:, 2]) + height) < 0.1


def test_sensor_chains_are_consistent(nusc: Any) -> None:
    chains = defaultdict(list)
    for record in nusc.sample_data:
        scene = nusc.get("sample", record["sample_token"])["scene_token"]
        chains[scene, record["channel"]].append(record)
    assert len(chains) == len(nusc.scene) * len(CHANNELS)
    for (_, channel), records in chains.items():
        first = [r for r in records if r["prev"] == ""]
        assert len(first) == 1
        walked, current = [], first[0]
        while True:
            walked.append(current)
            if current["next"] == "":
                break
            following = nusc.get("sample_data", current["next"])
            assert following["prev"] == current["token"]
            assert following["timestamp"] > current["timestamp"]
            assert f"__{channel}__{current['timestamp']}." in current["filename"]
            assert current["filename"].startswith("samples/" if current["is_key_frame"] else "sweeps/")
            current = following
        assert len(walked) == len(records)
        assert sum(r["is_key_frame"] for r in walked) == SMOKE.splits.keyframes_per_scene
        # A sweep belongs to the keyframe that follows.
        for record, after in pairwise(walked):
            if not record["is_key_frame"]:
                assert record["sample_token"] == after["sample_token"]
    for sample in nusc.sample:
        assert set(sample["data"]) == set(CHANNELS)
        assert nusc.get("sample_data", sample["data"][LIDAR])["timestamp"] == sample["timestamp"]
        for channel in CHANNELS:
            assert abs(nusc.get("sample_data", sample["data"][channel])["timestamp"] - sample["timestamp"]) < 60_000


def test_scene_and_annotation_chains_are_consistent(nusc: Any) -> None:
    for scene in nusc.scene:
        token, count = scene["first_sample_token"], 0
        while token:
            sample, count = nusc.get("sample", token), count + 1
            assert sample["scene_token"] == scene["token"]
            last, token = token, sample["next"]
        assert last == scene["last_sample_token"]
        assert count == scene["nbr_samples"]
    for instance in nusc.instance:
        token, count, before = instance["first_annotation_token"], 0, ""
        while token:
            record, count = nusc.get("sample_annotation", token), count + 1
            assert record["instance_token"] == instance["token"]
            assert record["prev"] == before
            before, token = token, record["next"]
        assert before == instance["last_annotation_token"]
        assert count == instance["nbr_annotations"]
    listed = sum(i["nbr_annotations"] for i in nusc.instance)
    assert listed == len(nusc.sample_annotation)


def test_velocities_agree_with_attributes_and_heading(nusc: Any) -> None:
    checked = defaultdict(int)
    for annotation in nusc.sample_annotation:
        velocity = nusc.box_velocity(annotation["token"])[:2]
        names = [nusc.get("attribute", t)["name"] for t in annotation["attribute_tokens"]]
        group = annotation["category_name"].split(".")[0]
        assert len(names) == (0 if group == "movable_object" else 1)
        if not np.isfinite(velocity).all():
            continue
        speed = np.linalg.norm(velocity)
        moving = names[0] if names else "static"
        checked[moving] += 1
        if moving in ("static", "vehicle.parked", "vehicle.stopped", "cycle.without_rider", "pedestrian.standing"):
            assert speed < 0.01, annotation
        elif moving in ("vehicle.moving", "pedestrian.moving"):
            assert 0.5 < speed < 16
        if speed > 0.5:
            yaw = quaternion_yaw(Quaternion(annotation["rotation"]))
            off = (np.arctan2(velocity[1], velocity[0]) - yaw + np.pi) % (2 * np.pi) - np.pi
            assert abs(off) < 0.25, annotation
    assert checked["vehicle.moving"] > 10
    assert checked["pedestrian.moving"] > 10
    assert checked["vehicle.parked"] > 5


def test_annotations_lie_within_reach_and_are_seen(nusc: Any) -> None:
    for annotation in nusc.sample_annotation:
        sample = nusc.get("sample", annotation["sample_token"])
        record = nusc.get("sample_data", sample["data"][LIDAR])
        pose = nusc.get("ego_pose", record["ego_pose_token"])
        offset = np.array(annotation["translation"]) - pose["translation"]
        local = Quaternion(pose["rotation"]).inverse.rotate(offset)
        assert np.abs(local[:2]).max() <= SMOKE.world.reach_m + 1e-3
        assert annotation["visibility_token"] in "1234"
        assert annotation["translation"][2] == pytest.approx(annotation["size"][2] / 2, abs=1e-3)
    levels = {a["visibility_token"] for a in nusc.sample_annotation}
    assert {"1", "4"} <= levels


def test_radar_files_are_read_by_the_devkit(nusc: Any, root: Path) -> None:
    kept = written = 0
    for sample in nusc.sample:
        for channel in RADARS:
            path = str(root / nusc.get("sample_data", sample["data"][channel])["filename"])
            every = RadarPointCloud.from_file(path, list(range(18)), list(range(8)), list(range(5))).points
            valid = RadarPointCloud.from_file(path).points
            assert every.shape[0] == 18
            kept, written = kept + valid.shape[1], written + every.shape[1]
            # Radar sees the radial velocity only.
            cross = every[0] * every[9] - every[1] * every[8]
            np.testing.assert_allclose(cross / np.maximum(np.hypot(every[0], every[1]), 1.0), 0.0, atol=1e-4)
    assert written > 20 * len(nusc.sample)
    # What the sensor says of a cluster carries information: false alarms are a minority, and mostly what is dropped.
    assert 0.6 * written < kept < 0.85 * written


def test_radar_velocity_matches_the_boxes(nusc: Any, root: Path) -> None:
    """Compensated radial velocity of detections in moving boxes equals the box velocity along the ray."""
    errors, moving = [], 0
    for sample in nusc.sample:
        for channel in RADARS:
            data = nusc.get("sample_data", sample["data"][channel])
            points = RadarPointCloud.from_file(str(root / data["filename"])).points
            _, boxes, _ = nusc.get_sample_data(data["token"])
            sensor = nusc.get("calibrated_sensor", data["calibrated_sensor_token"])
            ego = nusc.get("ego_pose", data["ego_pose_token"])
            for box in boxes:
                velocity = nusc.box_velocity(box.token)
                if not np.isfinite(velocity).all():
                    continue
                local = Quaternion(ego["rotation"]).inverse.rotate(velocity)
                local = Quaternion(sensor["rotation"]).inverse.rotate(local)
                inside = points_in_box(box, np.vstack([points[:2], np.full(points.shape[1], box.center[2])]))
                for p in points[:, inside].T:
                    ray = p[:2] / np.linalg.norm(p[:2])
                    errors.append(ray @ p[8:10] - ray @ local[:2])
                    moving += abs(ray @ local[:2]) > 1.0
    assert moving > 10
    assert np.median(np.abs(errors)) < 0.12
    assert np.mean(np.abs(errors) < 0.5) > 0.85


def test_projected_boxes_lie_on_the_objects(nusc: Any) -> None:
    """Inside the projected boxes of cones there is orange, of which the images have next to none elsewhere."""
    from PIL import Image

    inside, outside = [], []
    for sample in nusc.sample:
        scene = nusc.get("scene", sample["scene_token"])
        if "Night" in scene["description"] or "Rain" in scene["description"]:
            continue
        for channel in CAMERAS:
            path, boxes, k = nusc.get_sample_data(sample["data"][channel])
            image = np.asarray(Image.open(path).convert("RGB")).astype(float)
            orange = (image[..., 0] > 1.7 * image[..., 1]) & (image[..., 1] > 1.8 * image[..., 2])
            for box in boxes:
                clear = nusc.get("sample_annotation", box.token)["visibility_token"] == "4"
                if box.name != "movable_object.trafficcone" or not clear or box.center[2] < 2:
                    continue
                u, v, _ = view_points(box.corners(), k, normalize=True)
                if u.min() < 1 or u.max() > image.shape[1] - 1 or v.max() > image.shape[0] - 1:
                    continue
                rows, columns = slice(int(v.min()), int(v.max()) + 1), slice(int(u.min()), int(u.max()) + 1)
                inside.append(orange[rows, columns].mean())
            outside.append(orange.mean())
    assert len(inside) >= 5
    assert np.median(inside) > 0.2
    assert np.median(inside) > 10 * np.mean(outside)


@pytest.mark.parametrize("channel", ["CAM_FRONT", LIDAR, "RADAR_FRONT"])
def test_devkit_renders_a_sample(nusc: Any, channel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl
    from nuscenes.utils.map_mask import MapMask

    # Under the points the devkit draws the map, cropped with int() of one-element arrays, which NumPy >= 2.4 refuses.
    exact = MapMask.to_pixel_coords
    monkeypatch.setattr(MapMask, "to_pixel_coords", lambda self, x, y: tuple(int(p[0]) for p in exact(self, x, y)))
    mpl.use("Agg", force=True)
    from matplotlib import pyplot
    from PIL import Image

    out = tmp_path / "render.png"
    nusc.render_sample_data(nusc.sample[1]["data"][channel], out_path=str(out), verbose=False)
    pyplot.close("all")
    picture = np.asarray(Image.open(out).convert("RGB"))
    assert picture.std() > 5
    if channel != "CAM_FRONT":  # the road under the points is drawn in grey
        grey = (picture.max(axis=-1) - picture.min(axis=-1) < 4) & (np.abs(picture[..., 0].astype(int) - 125) < 4)
        assert grey.mean() > 0.03
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_map_masks_show_the_road_under_the_ego(nusc: Any) -> None:
    on_road = []
    for scene in nusc.scene:
        log = nusc.get("log", scene["log_token"])
        mask = nusc.get("map", log["map_token"])["mask"]
        sample = nusc.get("sample", scene["first_sample_token"])
        pose = nusc.get("ego_pose", nusc.get("sample_data", sample["data"][LIDAR])["ego_pose_token"])
        on_road.append(mask.is_on_mask(*pose["translation"][:2])[0])
    assert np.mean(on_road) > 0.9


def test_scene_words(nusc: Any) -> None:
    for scene in nusc.scene:
        assert scene["description"]
        assert len(scene["description"].split(", ")) <= 12
    for log in nusc.log:
        assert log["location"].split("-")[0] in ("singapore", "boston")
        assert log["logfile"].startswith(log["vehicle"] + "-" + log["date_captured"])
