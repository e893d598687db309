"""A simulated dataset in the layout of the Waymo Open Dataset v2: five LiDARs as range images, five cameras."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bevkd.data.waymo.components import CAMERA, CAMERAS, COMPONENTS, LASER, LASERS, TIME, TOP
from bevkd.data.waymo.range_image import azimuths, points_from_range_image, uniform_inclinations
from bevkd.data.waymo.schemas import OBJECT, SEGMENT, schema
from bevkd.data.waymo.tables import CAMERA_FROM_OPTICAL
from bevkd.geometry import points_in_boxes, pose, quaternion_from_matrix, quaternion_from_yaw
from bevkd.io import write_json
from bevkd.sim import camera, lidar
from bevkd.sim.builder import WorldBuilder, sample_conditions
from bevkd.sim.config import CameraConfig, LidarConfig, SimConfig
from bevkd.sim.jobs import fresh_root, run_jobs
from bevkd.sim.labelled import draw_labelled
from bevkd.sim.raycast import SpinGrid, cast
from bevkd.sim.rig import Calibration
from bevkd.sim.scene import per_object
from bevkd.sim.world import World

LOGGER = logging.getLogger(__name__)

Array = NDArray[np.float64]
Rows = dict[str, list[dict[str, Any]]]

CLASSES = ("vehicle", "pedestrian", "cyclist")
_TYPE = {"vehicle": 1, "pedestrian": 2, "cyclist": 4}
_FOLDERS = {"train": "training", "tune": "tuning", "val": "validation"}
_START_US = 1_550_000_000_000_000
_SEGMENT_GAP_US = 60_000_000
# Mounting: position (m) and yaw (deg) of each laser; the top one is turned, as on the real vehicle.
_LASER_MOUNTS = {
    1: ((1.43, 0.0, 2.184), 148.0),
    2: ((4.07, 0.0, 0.69), 0.0),
    3: ((3.24, 1.02, 0.98), 90.0),
    4: ((3.24, -1.02, 0.98), -90.0),
    5: ((-1.15, 0.0, 0.46), 180.0),
}
_CAMERA_MOUNTS = {
    1: ((1.54, -0.02, 2.11), 0.0),
    2: ((1.50, 0.09, 2.11), 45.0),
    3: ((1.49, -0.10, 2.11), -45.0),
    4: ((1.43, 0.11, 2.11), 90.0),
    5: ((1.43, -0.11, 2.11), -90.0),
}
_SIDE_HEIGHT = 0.69  # pictures of the side cameras are less high
_CAMERA_LAG_US = 7_000
_NEAR_RANGE_M, _NEAR_BEAMS_DEG, _NEAR_HALF_ANGLE_DEG = 20.0, (-60.0, 20.0), 75.0
_SECTORS = 8  # the top LiDAR turns while the vehicle moves: each sector is measured from its own pose
_SPIN_US = 100_000
_SECOND_RETURN = 0.3  # share of returns from vegetation that are followed by a second one
_HIDDEN = 0.2  # visible share of an object below which annotators call it hard
_FREE = -1.0  # no-label zone channel of a pixel outside of such zones


@dataclass(frozen=True, slots=True)
class _Job:
    """One segment."""

    index: int
    name: str
    folder: str
    seed: int
    config: SimConfig
    root: Path


def simulate_waymo(config: SimConfig, out: Path, seed: int, workers: int = 1) -> None:
    """Simulate a dataset and write it to `out` as `training/`, `tuning/` and `validation/` of Waymo v2 components.

    `labelled.json` maps subset numbers to the tokens (`<segment>_<frame time>`) of training frames whose labels may be
    used. The same configuration and seed give the same bytes, whatever `workers` is.

    Raises:
        ConfigError: the configuration is inconsistent, or `out` exists and is not an empty folder.
        DataError: a class does not occur often enough for the labelled lists.
    """
    config.validate()
    splits = config.splits
    with fresh_root(out, workers) as root:
        jobs: list[_Job] = []
        for split, folder in _FOLDERS.items():
            for component in COMPONENTS:
                (root / folder / component).mkdir(parents=True)
            for _ in range(getattr(splits, split)):
                index = len(jobs)
                name = f"{10**18 + 7_919 * index + 104_729 * seed}_{index:03d}_000_{index:03d}_000"
                jobs.append(_Job(index, name, folder, seed, config, root / folder))
        found = run_jobs(_simulate_segment, jobs, workers, "segments")
        labelled = config.labelled
        lists = draw_labelled(found[: splits.train], labelled.count, labelled.subsets, seed, CLASSES)
        write_json(root / "labelled.json", lists)
        write_json(root / "simulation.json", config.record(seed))
    LOGGER.info("simulated %d segments", len(jobs))


def waymo_type(kind: str, attribute: str) -> str:
    """The class that Waymo's annotators would give an object, "" for what they leave alone."""
    if kind in ("car", "truck", "bus", "trailer", "construction_vehicle", "motorcycle"):
        return "vehicle"
    if kind == "bicycle":
        return "cyclist" if attribute == "cycle.with_rider" else ""
    return "pedestrian" if kind == "pedestrian" else ""


@dataclass(frozen=True)
class _Laser:
    """One LiDAR: where it stands and how its range image is laid out."""

    name: int
    vehicle_from_sensor: Array
    config: LidarConfig
    beams: Array  # inclinations, the lowest first

    @cached_property
    def grid(self) -> SpinGrid:
        """Its rays: column k of the grid is column W - 1 - k of the range image."""
        phase = float(azimuths(self.config.azimuths, self.vehicle_from_sensor)[-1])
        place, turn = self.vehicle_from_sensor[:3, 3], self.vehicle_from_sensor[:3, :3]
        return SpinGrid.build(place, turn, self.beams, self.config.azimuths, phase, self.config.range_m)

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Columns (W,) of the range image that the sensor looks at."""
        if self.name == TOP:
            return np.ones(self.config.azimuths, dtype=bool)
        azimuth = azimuths(self.config.azimuths, self.vehicle_from_sensor)
        wrapped = (azimuth + np.pi) % (2 * np.pi) - np.pi
        return np.asarray(np.abs(wrapped) <= np.deg2rad(_NEAR_HALF_ANGLE_DEG))


class _Rig:
    """The sensors of one vehicle: the nominal rig with tenths of a degree of mounting error."""

    def __init__(self, config: SimConfig, rng: np.random.Generator) -> None:
        self.lasers: dict[int, _Laser] = {}
        top = config.lidar
        near = replace(top, rings=max(4, top.rings // 2), azimuths=top.azimuths // 2, range_m=_NEAR_RANGE_M)
        for name, (place, yaw) in _LASER_MOUNTS.items():
            if name == TOP:
                # Denser near the horizon, as on the real sensor, so that the list of beams matters.
                low, high = np.deg2rad(top.elevation_deg)
                share = np.linspace(-1, 1, top.rings)
                share = (share + 0.35 * share**3) / 1.35
                beams = (low + high) / 2 + share * (high - low) / 2
                self.lasers[name] = _Laser(name, _mount(place, yaw, rng), top, beams)
            else:
                low, high = np.deg2rad(_NEAR_BEAMS_DEG)
                beams = uniform_inclinations(low, high, near.rings)
                self.lasers[name] = _Laser(name, _mount(place, yaw, rng), near, beams)
        self.cameras: dict[int, tuple[Array, Array, CameraConfig]] = {}  # vehicle from camera, intrinsics, size
        for name, (place, yaw) in _CAMERA_MOUNTS.items():
            size = config.camera
            if name >= 4:
                size = replace(size, height=round(size.height * _SIDE_HEIGHT))
            focal = size.width / 2 / np.tan(np.deg2rad(size.fov_deg) / 2) * float(rng.normal(1.0, 0.003))
            middle = (size.width * float(rng.normal(0.5, 0.004)), size.height * float(rng.normal(size.horizon, 0.004)))
            intrinsics = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1.0]])
            self.cameras[name] = (_mount(place, yaw, rng), intrinsics, size)

    def camera(self, name: int) -> Calibration:
        """A camera as the ray caster wants it, with z along the line of sight."""
        vehicle_from_camera, intrinsics, _ = self.cameras[name]
        optical = vehicle_from_camera @ CAMERA_FROM_OPTICAL
        x, y, z = (float(v) for v in optical[:3, 3])
        w, a, b, c = (float(v) for v in quaternion_from_matrix(optical[:3, :3]))
        return Calibration(CAMERAS[name], (x, y, z), (w, a, b, c), intrinsics)


def _mount(place: tuple[float, float, float], yaw_deg: float, rng: np.random.Generator) -> Array:
    from scipy.spatial.transform import Rotation

    out = np.eye(4)
    tilt = Rotation.from_rotvec(rng.normal(0.0, np.deg2rad(0.25), 3))
    out[:3, :3] = (Rotation.from_euler("z", yaw_deg, degrees=True) * tilt).as_matrix()
    out[:3, 3] = np.asarray(place) + rng.normal(0.0, 0.01, 3)
    return out


def _world_from_vehicle(world: World, t_s: float) -> Array:
    x, y, yaw = world.ego.pose(t_s)
    return pose((x, y, 0.0), quaternion_from_yaw(yaw))


def _simulate_segment(job: _Job) -> dict[str, dict[str, int]]:
    """Write the component files of one segment; per frame the number of objects with LiDAR points per class."""
    world_seed, sensor_seed = np.random.SeedSequence([job.seed, 0x3A9303, job.index]).spawn(2)
    rng, config = np.random.default_rng(world_seed), job.config
    conditions = sample_conditions(config.world, config.camera.brightness, config.camera.noise, rng)
    world = WorldBuilder(config, rng, (0.0, 0.0), drive_on_left=False, conditions=conditions).build()
    rng = np.random.default_rng(sensor_seed)
    rig = _Rig(config, rng)
    rows: Rows = {component: [] for component in COMPONENTS}
    _calibrations(rows, job.name, rig)
    count = config.splits.keyframes_per_scene
    period_us = round(1e6 / config.splits.keyframe_hz)
    out = {}
    for k in range(count):
        time = _START_US + job.index * _SEGMENT_GAP_US + k * period_us
        t_s = (k - (count - 1) / 2) * period_us * 1e-6
        out[f"{job.name}_{time}"] = _simulate_frame(rows, job, world, rig, time, t_s, rng)
    for component, records in rows.items():
        kind = schema(component)
        prefix = COMPONENTS[component]
        short = [name.removeprefix(f"[{prefix}].") for name in kind.names]
        columns = [pa.array([r.get(name) for r in records], kind.field(i).type) for i, name in enumerate(short)]
        path = job.root / component / f"{job.name}.parquet"
        group = len(LASERS) if component == "lidar" else max(1, len(records))
        pq.write_table(pa.Table.from_arrays(columns, schema=kind), path, row_group_size=group, compression="zstd")
    return out


def _calibrations(rows: Rows, segment: str, rig: _Rig) -> None:
    for name, laser in rig.lasers.items():
        low, high = (float(v) for v in np.deg2rad(_NEAR_BEAMS_DEG))
        if name == TOP:
            low, high = float(laser.beams[0]), float(laser.beams[-1])
        rows["lidar_calibration"].append(
            {
                SEGMENT: segment,
                LASER: name,
                "extrinsic.transform": laser.vehicle_from_sensor.ravel().tolist(),
                "beam_inclination.min": low,
                "beam_inclination.max": high,
                "beam_inclination.values": laser.beams.tolist() if name == TOP else None,
            }
        )
    for name, (matrix, intrinsics, size) in rig.cameras.items():
        rows["camera_calibration"].append(
            {
                SEGMENT: segment,
                CAMERA: name,
                "intrinsic.f_u": float(intrinsics[0, 0]),
                "intrinsic.f_v": float(intrinsics[1, 1]),
                "intrinsic.c_u": float(intrinsics[0, 2]),
                "intrinsic.c_v": float(intrinsics[1, 2]),
                **dict.fromkeys([f"intrinsic.{k}" for k in ("k1", "k2", "p1", "p2", "k3")], 0.0),
                "extrinsic.transform": matrix.ravel().tolist(),
                "width": size.width,
                "height": size.height,
                "rolling_shutter_direction": 5,  # global shutter
            }
        )


def _simulate_frame(
    rows: Rows, job: _Job, world: World, rig: _Rig, time: int, t_s: float, rng: np.random.Generator
) -> dict[str, int]:
    key = {SEGMENT: job.name, TIME: time}
    world_from_vehicle = _world_from_vehicle(world, t_s)
    rows["vehicle_pose"].append({**key, "world_from_vehicle.transform": world_from_vehicle.ravel().tolist()})
    points = {}
    for name, laser in rig.lasers.items():
        images, poses = _measure(world, laser, t_s, rng)
        rows["lidar"].append({**key, LASER: name, **_flat("range_image_return1", images[0])})
        rows["lidar"][-1] |= _flat("range_image_return2", images[1])
        if poses is not None:
            rows["lidar_pose"].append({**key, LASER: name, **_flat("range_image_return1", poses)})
        found = [
            points_from_range_image(image, laser.beams, laser.vehicle_from_sensor, poses, world_from_vehicle)
            for image in images
        ]
        points[name] = np.concatenate(found)[:, :3]
    visible, alone = np.zeros(len(world.objects), np.int64), np.zeros(len(world.objects), np.int64)
    for name, (_, _, size) in rig.cameras.items():
        lag_us = _CAMERA_LAG_US * name
        at_s = t_s + lag_us * 1e-6
        ego = world.ego.pose(at_s)
        grid = camera.pinhole(rig.camera(name), size)
        image, hits = camera.render(world, world.boxes(at_s, ego), ego, grid, at_s, rng, count_alone=True)
        visible += per_object(world, hits)
        alone += hits.alone
        seconds = (time + lag_us) * 1e-6
        rows["camera_image"].append(
            {
                **key,
                CAMERA: name,
                "image": camera.encode(image, size.jpeg_quality),
                "pose.transform": _world_from_vehicle(world, at_s).ravel().tolist(),
                **_velocity(world, at_s),
                "pose_timestamp": seconds,
                "rolling_shutter_params.shutter": 0.0,
                "rolling_shutter_params.camera_trigger_time": seconds,
                "rolling_shutter_params.camera_readout_done_time": seconds,
            }
        )
    boxes = _boxes(job, world, t_s, points, visible, alone)
    counts = Counter(name for name, _ in boxes)
    rows["lidar_box"] += [{**key, **row} for _, row in boxes]
    night, rain = world.conditions.night, world.conditions.rain
    numbers = {_TYPE[name]: n for name, n in counts.items()}
    rows["stats"].append(
        {
            **key,
            "time_of_day": "Night" if night else "Day",
            "location": "location_sim",
            "weather": "rain" if rain else "sunny",
            "lidar_object_counts.types": list(numbers),
            "lidar_object_counts.counts": list(numbers.values()),
        }
    )
    return dict(counts)


def _velocity(world: World, t_s: float) -> dict[str, float]:
    step = 1e-3
    before, after = world.ego.pose(t_s - step), world.ego.pose(t_s + step)
    vx, vy, turn = (float(v) for v in (np.asarray(after) - np.asarray(before)) / (2 * step))
    linear, angular = (vx, vy, 0.0), (0.0, 0.0, turn)
    out = {f"velocity.linear_velocity.{axis}": v for axis, v in zip("xyz", linear, strict=True)}
    return out | {f"velocity.angular_velocity.{axis}": v for axis, v in zip("xyz", angular, strict=True)}


def _flat(name: str, image: NDArray[np.float32]) -> dict[str, Any]:
    return {f"{name}.values": image.ravel(), f"{name}.shape": list(image.shape)}


def _measure(
    world: World, laser: _Laser, t_s: float, rng: np.random.Generator
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32] | None]:
    """Range images (H, W, 4) of both returns and, for the top laser, the vehicle's pose (H, W, 6) at every pixel."""
    height, width = laser.config.rings, laser.config.azimuths
    images = [np.zeros((height, width, 4), dtype=np.float32) for _ in range(2)]
    for image in images:
        image[..., 0], image[..., 3] = -1.0, _FREE
    sectors = _SECTORS if laser.name == TOP else 1
    sector_of = np.arange(width) * sectors // width
    poses = np.zeros((height, width, 6), dtype=np.float32) if laser.name == TOP else None
    for sector in range(sectors):
        # The frame's time is the middle of the turn.
        at_s = t_s + ((sector + 0.5) / sectors - 0.5) * _SPIN_US * 1e-6 if laser.name == TOP else t_s
        ego = world.ego.pose(at_s)
        hits = cast(laser.grid, world.boxes(at_s, ego), world.owner)
        ray, distance, intensity = lidar.returns(world, laser.grid, hits, laser.config, rng)
        row, column = height - 1 - ray // width, width - 1 - ray % width
        mine = (sector_of[column] == sector) & laser.covered[column]
        ray, row, column, distance = ray[mine], row[mine], column[mine], distance[mine]
        images[0][row, column, 0] = distance
        images[0][row, column, 1] = intensity[mine] / 100
        images[0][row, column, 2] = rng.gamma(1.0, 0.05, len(row))
        owner = np.where(hits.box[ray] >= 0, world.owner[hits.box[ray]], -1)
        soft = np.array([thing.kind == "vegetation" for thing in world.objects] + [False])[owner]
        again = soft & (rng.random(len(row)) < _SECOND_RETURN)
        behind = distance + 0.3 + rng.gamma(2.0, 0.4, len(row))
        images[1][row[again], column[again], 0] = behind[again]
        images[1][row[again], column[again], 1] = 0.5 * intensity[mine][again] / 100
        if poses is not None:
            x, y, yaw = ego
            poses[:, sector_of == sector] = (0.0, 0.0, yaw, x, y, 0.0)
    return images, poses


def _boxes(
    job: _Job, world: World, t_s: float, points: dict[int, Array], visible: NDArray[np.int64], alone: NDArray[np.int64]
) -> list[tuple[str, dict[str, Any]]]:
    """Class and row of `lidar_box` of every object with LiDAR points."""
    ego = world.ego.pose(t_s)
    local, velocity = world.in_ego(t_s, ego), world.velocities(t_s)  # Waymo's speeds are those of the world frame
    index = np.flatnonzero((np.abs(local[:, :2]) <= job.config.world.reach_m).all(axis=1))
    names = [waymo_type(world.objects[i].kind, world.objects[i].attribute) for i in index]
    index = np.array([i for i, name in zip(index, names, strict=True) if name], dtype=np.int64)
    names = [name for name in names if name]
    box = np.column_stack([local[index, :2], world.sizes[index, 2] / 2, world.sizes[index], local[index, 2]])
    inside = {name: points_in_boxes(cloud, box).sum(axis=1) for name, cloud in points.items()}
    total = sum(inside.values(), np.zeros(len(index), dtype=np.int64))
    out = []
    for j, i in enumerate(index):
        if total[j] == 0:
            continue
        heading = float((box[j, 6] + np.pi) % (2 * np.pi) - np.pi)
        hidden = alone[i] > 0 and visible[i] / alone[i] < _HIDDEN
        row = {
            OBJECT: f"{job.index:04d}-{i:04d}",
            **{f"box.center.{axis}": float(v) for axis, v in zip("xyz", box[j, :3], strict=True)},
            **{f"box.size.{axis}": float(v) for axis, v in zip("xyz", box[j, 3:6], strict=True)},
            "box.heading": heading,
            "type": _TYPE[names[j]],
            "num_lidar_points_in_box": int(total[j]),
            "num_top_lidar_points_in_box": int(inside[TOP][j]),
            "speed.x": float(velocity[i, 0]),
            "speed.y": float(velocity[i, 1]),
            "speed.z": 0.0,
            **{f"acceleration.{axis}": 0.0 for axis in "xyz"},
            "difficulty_level.detection": 2 if hidden else 0,
            "difficulty_level.tracking": 0,
        }
        out.append((names[j], row))
    return out
