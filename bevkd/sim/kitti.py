"""A simulated dataset in KITTI object detection layout: single frames of a LiDAR and of a camera that looks ahead."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bevkd.data.kitti.boxes import image_box, placement
from bevkd.data.kitti.calibration import Calibration as FrameCalibration
from bevkd.data.kitti.calibration import read_calibration
from bevkd.geometry import pose, quaternion_from_matrix
from bevkd.io import write_json, write_text
from bevkd.sim import camera, lidar
from bevkd.sim.builder import WorldBuilder, sample_conditions
from bevkd.sim.config import SimConfig
from bevkd.sim.jobs import fresh_root, run_jobs
from bevkd.sim.labelled import draw_labelled
from bevkd.sim.rig import Calibration
from bevkd.sim.scene import per_object
from bevkd.sim.world import SceneObject, World

LOGGER = logging.getLogger(__name__)

Array = NDArray[np.float64]

CLASSES = ("car", "pedestrian", "cyclist")
_KINDS = ("velodyne", "image_2", "calib", "label_2")
_MOUNT = (0.76, 0.0, 1.73)  # of the LiDAR over the middle of the rear axle (m), after the real vehicle
_CAMERA_0 = (0.27, 0.0, -0.08)  # of the reference camera in the LiDAR's frame
_BASELINES = (0.0, 0.54, -0.06, 0.48)  # of cameras 0 to 3 along the rectified x axis
_AHEAD = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # camera axes (right, down, forward) from LiDAR axes
_VAN_HEIGHT_M = 1.85
_MIN_PIXELS, _MIN_POINTS = 4, 1
# Visible share of an object down to which it counts as fully visible (0) or partly occluded (1).
_OCCLUSION = (0.8, 0.4)


@dataclass(frozen=True, slots=True)
class _Job:
    """One scene: its frames are named in advance."""

    index: int
    names: tuple[str, ...]
    seed: int
    config: SimConfig
    root: Path


def simulate_kitti(config: SimConfig, out: Path, seed: int, workers: int = 1) -> None:
    """Simulate a dataset and write it to `out` as KITTI's `training/` and `ImageSets/`.

    Beside the lists `train`, `tune`, `val` and `trainval`, `labelled.json` maps subset numbers to the training frames
    whose labels may be used. As in KITTI, labels are given for what the camera sees; whatever is too far to be labelled
    is a region of no care. The same configuration and seed give the same bytes, whatever `workers` is.

    Raises:
        ConfigError: the configuration is inconsistent, or `out` exists and is not an empty folder.
        DataError: a class does not occur often enough for the labelled lists.
    """
    config.validate()
    splits, per_scene = config.splits, config.splits.keyframes_per_scene
    with fresh_root(out, workers) as root:
        for kind in _KINDS:
            (root / "training" / kind).mkdir(parents=True)
        scenes = splits.train + splits.tune + splits.val
        names = [f"{i:06d}" for i in range(scenes * per_scene)]
        jobs = [
            _Job(i, tuple(names[i * per_scene : (i + 1) * per_scene]), seed, config, root / "training")
            for i in range(scenes)
        ]
        found = run_jobs(_simulate_scene, jobs, workers)
        low = 0
        for split in ("train", "tune", "val"):
            high = low + getattr(splits, split) * per_scene
            write_text(root / "ImageSets" / f"{split}.txt", "\n".join(names[low:high]) + "\n")
            low = high
        write_text(root / "ImageSets" / "trainval.txt", "\n".join(names) + "\n")
        labelled = config.labelled
        lists = draw_labelled(found[: splits.train], labelled.count, labelled.subsets, seed, CLASSES)
        write_json(root / "labelled.json", lists)
        write_json(root / "simulation.json", config.record(seed))
    LOGGER.info("simulated %d frames", len(names))


def kitti_type(thing: SceneObject) -> str:
    """The type a KITTI annotator would write, "" for what KITTI leaves alone."""
    if thing.kind == "car":
        return "Van" if thing.size[2] > _VAN_HEIGHT_M else "Car"
    if thing.kind == "pedestrian":
        return "Person_sitting" if "sitting" in thing.attribute else "Pedestrian"
    if thing.kind in ("bicycle", "motorcycle"):
        return "Cyclist" if thing.kind == "bicycle" and thing.attribute == "cycle.with_rider" else ""
    return {"truck": "Truck", "bus": "Misc", "trailer": "Misc", "construction_vehicle": "Misc"}.get(thing.kind, "")


def calibration_text(config: SimConfig, rng: np.random.Generator) -> str:
    """A calibration file: the nominal rig with tenths of a degree of mounting error."""
    size = config.camera
    focal = size.width / 2 / np.tan(np.deg2rad(size.fov_deg) / 2) * float(rng.normal(1.0, 0.003))
    middle = (size.width * float(rng.normal(0.49, 0.003)), size.height * float(rng.normal(size.horizon, 0.003)))
    intrinsics = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1.0]])
    lines = {}
    for number, baseline in enumerate(_BASELINES):
        lines[f"P{number}"] = np.column_stack([intrinsics, [-focal * baseline, 0, 0]])
    lines["R0_rect"] = _tilt(rng.normal(0.0, 0.005, 3))
    turn = _tilt(rng.normal(0.0, 0.005, 3)) @ _AHEAD
    place = np.asarray(_CAMERA_0) + rng.normal(0.0, 0.01, 3)
    lines["Tr_velo_to_cam"] = np.column_stack([turn, -turn @ place])
    lines["Tr_imu_to_velo"] = np.column_stack([np.eye(3), [-0.81, 0.32, -0.8]])
    return "".join(f"{name}: {' '.join(f'{v:.12e}' for v in m.ravel())}\n" for name, m in lines.items()) + "\n"


def _tilt(angles: Array) -> Array:
    """A small rotation about all three axes (rad)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(angles).as_matrix())


def _simulate_scene(job: _Job) -> dict[str, dict[str, int]]:
    """Write the frames of one scene; per frame the number of objects with LiDAR points per class."""
    world_seed, sensor_seed = np.random.SeedSequence([job.seed, 0x4B1771, job.index]).spawn(2)
    rng, config = np.random.default_rng(world_seed), job.config
    conditions = sample_conditions(config.world, config.camera.brightness, config.camera.noise, rng)
    world = WorldBuilder(config, rng, (0.0, 0.0), drive_on_left=False, conditions=conditions).build()
    rng = np.random.default_rng(sensor_seed)
    text = calibration_text(config, rng)
    out = {}
    count = len(job.names)
    for k, name in enumerate(job.names):
        write_text(job.root / "calib" / f"{name}.txt", text)
        calibration = read_calibration(job.root / "calib" / f"{name}.txt")  # as rounded in the file
        t_s = (k - (count - 1) / 2) / config.splits.keyframe_hz
        out[name] = _simulate_frame(job, name, world, calibration, t_s, rng)
    return out


def _rig(calibration: FrameCalibration) -> tuple[Calibration, Calibration]:
    """LiDAR and camera as the ray caster wants them: mounted on the vehicle, whose frame lies on the ground."""
    x, y, z = _MOUNT
    spinning = Calibration("velodyne", (x, y, z), (1.0, 0.0, 0.0, 0.0), None)
    vehicle_from_camera = pose(_MOUNT, (1.0, 0.0, 0.0, 0.0)) @ calibration.ego_from_camera
    w, a, b, c = (float(v) for v in quaternion_from_matrix(vehicle_from_camera[:3, :3]))
    x, y, z = (float(v) for v in vehicle_from_camera[:3, 3])
    return spinning, Calibration("image_2", (x, y, z), (w, a, b, c), calibration.intrinsics)


def _simulate_frame(
    job: _Job, name: str, world: World, calibration: FrameCalibration, t_s: float, rng: np.random.Generator
) -> dict[str, int]:
    config = job.config
    spinning, looking = _rig(calibration)
    ego = world.ego.pose(t_s)
    boxes = world.boxes(t_s, ego)
    points, rays = lidar.scan(world, boxes, spinning, config.lidar, rng)
    cloud = np.ascontiguousarray(points[:, :4])
    cloud[:, 3] = np.round(cloud[:, 3] / 255, 2)
    (job.root / "velodyne" / f"{name}.bin").write_bytes(cloud.astype("<f4").tobytes())
    image, hits = camera.render(world, boxes, ego, camera.pinhole(looking, config.camera), t_s, rng, count_alone=True)
    Image.fromarray(image).save(job.root / "image_2" / f"{name}.png")

    returns, pixels = per_object(world, rays), per_object(world, hits)
    local = world.in_ego(t_s, ego)
    lines, classes = [], Counter[str]()
    for i, thing in enumerate(world.objects):
        kind = kitti_type(thing)
        if not kind or pixels[i] < _MIN_PIXELS:
            continue
        box = np.array([*local[i, :2], thing.size[2] / 2, *thing.size, local[i, 2]])
        box[:3] -= _MOUNT
        frame = image_box(box, calibration, (config.camera.width, config.camera.height))
        if frame is None:
            continue
        if np.abs(local[i, :2]).max() > config.world.reach_m or returns[i] < _MIN_POINTS:
            region = " ".join(f"{v:.2f}" for v in frame[0])
            lines.append(f"DontCare -1 -1 -10 {region} -1 -1 -1 -1000 -1000 -1000 -10")
            continue
        share = pixels[i] / hits.alone[i] if hits.alone[i] else 0.0
        occluded = sum(bool(share < limit) for limit in _OCCLUSION)
        lines.append(_line(kind, box, frame, occluded, calibration))
        classes[kind.lower()] += 1
    lines.sort(key=lambda line: line.startswith("DontCare"))
    write_text(job.root / "label_2" / f"{name}.txt", "".join(f"{line}\n" for line in lines))
    return dict(classes)


def _line(kind: str, box: Array, frame: tuple[Array, float], occluded: int, calibration: FrameCalibration) -> str:
    """One object as KITTI writes it."""
    place, angle, alpha = placement(box[None], calibration)
    corners, truncated = frame
    numbers = (alpha[0], *corners, box[5], box[4], box[3], *place[0], angle[0])
    return f"{kind} {truncated:.2f} {occluded} " + " ".join(f"{value:.2f}" for value in numbers)
