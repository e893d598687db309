"""One scene: draw its world, record every sensor at its own times, annotate the keyframes, write the files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.sim import camera, lidar, past, radar
from bevkd.sim.annotate import annotation_rotation, count_lidar_points, count_radar_points, visibility_token
from bevkd.sim.builder import WorldBuilder, sample_conditions
from bevkd.sim.config import CameraConfig, LidarConfig, RadarConfig, SimConfig
from bevkd.sim.raycast import Hits, PinholeGrid, SpinGrid
from bevkd.sim.rig import CAMERAS, CHANNELS, LIDAR, OFFSETS_US, RADARS, Calibration
from bevkd.sim.vocabulary import describe
from bevkd.sim.world import World

Array = NDArray[np.float64]
Record = dict[str, Any]

# An object is annotated when this much of it is seen: LiDAR returns or radar clusters in its box, or pixels.
_MIN_PIXELS = 4


def token(seed: int, *names: object) -> str:
    """Deterministic 32-character hexadecimal token of a record."""
    text = "/".join(str(n) for n in (seed, *names))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Log:
    """One drive: where, when, with which calibrated vehicle."""

    index: int
    token: str
    logfile: str
    location: str
    vehicle: str
    date: str
    drive_on_left: bool
    calibrations: dict[str, Calibration]
    calibration_tokens: dict[str, str]

    @property
    def start_us(self) -> int:
        """When its first scene starts: a minute after the drive."""
        begin = datetime.strptime(self.logfile.split("-", 1)[1], "%Y-%m-%d-%H-%M-%S%z")
        return round((begin.timestamp() + 60) * 1e6)

    def record(self) -> Record:
        """Its row of the table `log`."""
        return {
            "token": self.token,
            "logfile": self.logfile,
            "vehicle": self.vehicle,
            "date_captured": self.date,
            "location": self.location,
        }


@dataclass(frozen=True, slots=True)
class SceneJob:
    """What a worker needs to simulate one scene."""

    index: int
    name: str
    seed: int
    log: Log
    origin: tuple[float, float]
    start_us: int
    config: SimConfig
    root: Path

    @property
    def middle_us(self) -> int:
        """When the world's time is zero: halfway between the first keyframe and the last."""
        splits = self.config.splits
        return self.start_us + round(1e6 / splits.keyframe_hz) * (splits.keyframes_per_scene - 1) // 2


@dataclass(slots=True)
class SceneResult:
    """What comes back: the records of each table as JSON text, and what the labelled list and the maps need.

    `classes` maps each keyframe's sample token to the number of objects with LiDAR points per class.
    """

    index: int
    tables: dict[str, str]
    classes: dict[str, dict[str, int]]
    world: World


@dataclass(slots=True)
class Recorder:
    """Writes the sensor files of one scene and keeps their records; every random stream serves what its name says."""

    job: SceneJob
    world: World
    rng: np.random.Generator
    radar_states: np.random.Generator
    past: np.random.Generator
    middle_us: int
    samples: list[str]
    sample_data: list[Record] = field(default_factory=list)
    ego_poses: list[Record] = field(default_factory=list)
    last: dict[str, Record] = field(default_factory=dict)

    def seconds(self, timestamp: int) -> float:
        """From the middle of the scene, where the world's time is zero."""
        return (timestamp - self.middle_us) * 1e-6

    def add(self, channel: str, timestamp: int, frame: int, key: bool, data: bytes, size: tuple[int, int]) -> Record:
        """Write one sensor file and its records; returns the ego pose record."""
        job = self.job
        extension = {"lidar": "pcd.bin", "camera": "jpg", "radar": "pcd"}[CHANNELS[channel]]
        folder = "samples" if key else "sweeps"
        filename = f"{folder}/{channel}/{job.log.logfile}__{channel}__{timestamp}.{extension}"
        (job.root / filename).write_bytes(data)
        name = token(job.seed, "sample_data", job.index, channel, timestamp)
        pose = ego_record(self.world, self.seconds(timestamp), timestamp, name)
        record: Record = {
            "token": name,
            "sample_token": self.samples[frame],
            "ego_pose_token": name,
            "calibrated_sensor_token": job.log.calibration_tokens[channel],
            "timestamp": timestamp,
            "fileformat": "jpg" if extension == "jpg" else "pcd",
            "is_key_frame": key,
            "height": size[0],
            "width": size[1],
            "filename": filename,
            "prev": "",
            "next": "",
        }
        before = self.last.get(channel)
        if before is not None:
            record["prev"], before["next"] = before["token"], name
        self.last[channel] = record
        self.sample_data.append(record)
        self.ego_poses.append(pose)
        return pose


def ego_record(world: World, t_s: float, timestamp: int, name: str) -> Record:
    """The ego pose record at a time; translations are stored to a micrometre."""
    x, y, yaw = world.ego.pose(t_s)
    return {
        "token": name,
        "timestamp": timestamp,
        "rotation": [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))],
        "translation": [round(float(x), 6), round(float(y), 6), 0.0],
    }


def build_world(job: SceneJob, rng: np.random.Generator) -> World:
    """The scene's world: weather first, then streets and objects."""
    c = job.config
    conditions = sample_conditions(c.world, c.camera.brightness, c.camera.noise, rng)
    return WorldBuilder(c, rng, job.origin, job.log.drive_on_left, conditions).build()


def world_of(job: SceneJob) -> World:
    """The scene's world, from the random stream of its own."""
    return build_world(job, np.random.default_rng(np.random.SeedSequence([job.seed, job.index]).spawn(1)[0]))


def simulate_scene(job: SceneJob) -> SceneResult:
    """Simulate one scene and write its sensor files below `job.root`; the folders must exist."""
    _, sensor_seed, state_seed = np.random.SeedSequence([job.seed, job.index]).spawn(3)
    world = world_of(job)
    config, frames = job.config, job.config.splits.keyframes_per_scene
    period_us = round(1e6 / config.splits.keyframe_hz)
    middle_us = job.middle_us
    samples = [token(job.seed, "sample", job.index, k) for k in range(frames)]
    streams = np.random.default_rng(sensor_seed), np.random.default_rng(state_seed), past.stream(job.seed, job.index)
    recorder = Recorder(job, world, *streams, middle_us, samples)
    calibrations = job.log.calibrations
    grids = _Grids(
        {c: camera.pinhole(calibrations[c], config.camera) for c in CAMERAS},
        {c: radar.fan(calibrations[c], config.radar) for c in RADARS},
    )
    annotations: list[Record] = []
    sample_records: list[Record] = []
    last: dict[int, Record] = {}
    classes: dict[str, dict[str, int]] = {}
    for k in range(frames):
        key_us = job.start_us + k * period_us
        seen = _record_frame(recorder, k, key_us, grids)
        found = _annotate(recorder, k, seen, last)
        annotations += found
        classes[samples[k]] = dict(Counter(world.objects[a["_object"]].kind for a in found if a["num_lidar_pts"] > 0))
        sample_records.append(
            {
                "token": samples[k],
                "timestamp": seen.timestamp,
                "prev": samples[k - 1] if k else "",
                "next": samples[k + 1] if k + 1 < frames else "",
                "scene_token": token(job.seed, "scene", job.index),
            }
        )
    instances = _instances(annotations, job, world)
    for record in annotations:
        del record["_object"]
    scene: Record = {
        "token": token(job.seed, "scene", job.index),
        "log_token": job.log.token,
        "nbr_samples": frames,
        "first_sample_token": samples[0],
        "last_sample_token": samples[-1],
        "name": job.name,
        "description": describe(world),
    }
    tables = {
        "scene": [scene],
        "sample": sample_records,
        "sample_data": recorder.sample_data,
        "ego_pose": recorder.ego_poses,
        "sample_annotation": annotations,
        "instance": instances,
    }
    text = {name: ",\n".join(json.dumps(r) for r in records) for name, records in tables.items()}
    return SceneResult(job.index, text, classes, world)


@dataclass(slots=True)
class _Seen:
    """What the sensors of one keyframe saw."""

    timestamp: int
    ego: Record
    points: NDArray[np.float32]
    radar_ego: Array  # (R, 2) in the ego frame of the keyframe
    pixels: NDArray[np.int64]  # per object: visible, and if it were alone
    pixels_alone: NDArray[np.int64]
    rays: NDArray[np.int64]
    rays_alone: NDArray[np.int64]


def per_object(world: World, hits: Hits) -> NDArray[np.int64]:
    """Rays (M,) that end on each object of the world."""
    won = hits.box[hits.box >= 0]
    return np.bincount(world.owner[won], minlength=len(world.objects))


@dataclass(frozen=True, slots=True)
class _Grids:
    """Rays that depend on the calibration only."""

    cameras: dict[str, PinholeGrid]
    radars: dict[str, SpinGrid]


def _record_frame(rec: Recorder, k: int, key_us: int, grids: _Grids) -> _Seen:
    """All sensors of keyframe `k`, each with its earlier sweeps, in the order of time per channel."""
    world, config, calibrations = rec.world, rec.job.config, rec.job.log.calibrations
    sweeps: dict[str, LidarConfig | CameraConfig | RadarConfig] = {
        "lidar": config.lidar,
        "camera": config.camera,
        "radar": config.radar,
    }
    n = len(world.objects)
    pixels, pixels_alone = np.zeros(n, np.int64), np.zeros(n, np.int64)
    radar_world: list[Array] = []
    points, key_pose, timestamp_key = np.zeros((0, 5), np.float32), {}, 0
    rays = rays_alone = np.zeros(n, np.int64)
    for channel, modality in CHANNELS.items():
        settings = sweeps[modality]
        if modality == "camera":
            past.record(rec, channel, k, key_us, grids.cameras[channel])
        for back in range(settings.sweeps, -1, -1):
            key = back == 0
            jitter = int(rec.rng.integers(-800, 801)) if channel != LIDAR or not key else 0
            timestamp = key_us + OFFSETS_US[channel] - round(back * 1e6 / settings.rate_hz) + jitter
            t_s = rec.seconds(timestamp)
            ego = world.ego.pose(t_s)
            boxes, calibration = world.boxes(t_s, ego), calibrations[channel]
            if modality == "lidar":
                cloud, hits = lidar.scan(world, boxes, calibration, config.lidar, rec.rng, key)
                pose = rec.add(channel, timestamp, k, key, cloud.tobytes(), (0, 0))
                if key:
                    points, key_pose, timestamp_key = cloud, pose, timestamp
                    rays, rays_alone = per_object(world, hits), hits.alone
            elif modality == "camera":
                image, hits = camera.render(world, boxes, ego, grids.cameras[channel], t_s, rec.rng, key)
                data = camera.encode(image, config.camera.jpeg_quality)
                rec.add(channel, timestamp, k, key, data, (config.camera.height, config.camera.width))
                if key:
                    pixels += per_object(world, hits)
                    pixels_alone += hits.alone
            else:
                streams = rec.rng, rec.radar_states
                detections = radar.scan(world, boxes, grids.radars[channel], calibration, config.radar, t_s, *streams)
                rec.add(channel, timestamp, k, key, radar.encode(detections), (0, 0))
                if key:
                    radar_world.append(_to_world(detections, calibration, ego))
    here = world.ego.pose(rec.seconds(timestamp_key))
    flat = np.concatenate(radar_world) - here[:2]
    c, s = np.cos(here[2]), np.sin(here[2])
    radar_ego = np.stack([c * flat[:, 0] + s * flat[:, 1], c * flat[:, 1] - s * flat[:, 0]], axis=-1)
    return _Seen(timestamp_key, key_pose, points, radar_ego, pixels, pixels_alone, rays, rays_alone)


def _to_world(detections: NDArray[np.void], calibration: Calibration, ego: Array) -> Array:
    local = np.stack([detections["x"], detections["y"]], axis=-1).astype(np.float64)
    in_ego = local @ calibration.ego_from_sensor[:2, :2].T + np.asarray(calibration.translation)[:2]
    c, s = np.cos(ego[2]), np.sin(ego[2])
    return in_ego @ np.array([[c, s], [-s, c]]) + ego[:2]


def _annotate(rec: Recorder, k: int, seen: _Seen, last: dict[int, Record]) -> list[Record]:
    """Annotation records of keyframe `k`, linked to the previous one of each instance in `last`."""
    world, job = rec.world, rec.job
    t_s = rec.seconds(seen.timestamp)
    poses = world.poses(t_s)
    ego = world.ego.pose(t_s)
    local = world.in_ego(t_s, ego)
    reach = job.config.world.reach_m
    inside = world.annotated & (np.abs(local[:, :2]) <= reach).all(axis=1)
    index = np.flatnonzero(inside)
    centre = np.round(np.column_stack([poses[index, :2], world.sizes[index, 2] / 2]), 4)
    rotation = [annotation_rotation(yaw) for yaw in poses[index, 2]]
    sizes = world.sizes[index]
    in_lidar = count_lidar_points(seen.points, centre, sizes, rotation, seen.ego, job.log.calibrations[LIDAR])
    in_radar = count_radar_points(seen.radar_ego, local[index], sizes)
    out: list[Record] = []
    for j, i in enumerate(index):
        if in_lidar[j] == 0 and in_radar[j] == 0 and seen.pixels[i] < _MIN_PIXELS:
            continue
        thing = world.objects[i]
        length, width, height = thing.size
        name = token(job.seed, "annotation", job.index, k, i)
        record: Record = {
            "token": name,
            "sample_token": rec.samples[k],
            "instance_token": token(job.seed, "instance", job.index, i),
            "visibility_token": visibility_token(
                (seen.pixels[i], seen.pixels_alone[i]), (seen.rays[i], seen.rays_alone[i])
            ),
            "attribute_tokens": [token(job.seed, "attribute", thing.attribute)] if thing.attribute else [],
            "translation": [float(v) for v in centre[j]],
            "size": [width, length, height],
            "rotation": rotation[j],
            "prev": "",
            "next": "",
            "num_lidar_pts": int(in_lidar[j]),
            "num_radar_pts": int(in_radar[j]),
            "_object": int(i),
        }
        before = last.get(int(i))
        if before is not None:
            record["prev"], before["next"] = before["token"], name
        last[int(i)] = record
        out.append(record)
    return out


def _instances(annotations: list[Record], job: SceneJob, world: World) -> list[Record]:
    chains: dict[int, list[Record]] = {}
    for record in annotations:
        chains.setdefault(record["_object"], []).append(record)
    return [
        {
            "token": token(job.seed, "instance", job.index, i),
            "category_token": token(job.seed, "category", world.objects[i].category),
            "nbr_annotations": len(chain),
            "first_annotation_token": chain[0]["token"],
            "last_annotation_token": chain[-1]["token"],
        }
        for i, chain in chains.items()
    ]
