"""Simulated images with 2D labels in nuImages layout: what image backbones are taught before anything else.

Every image of the six cameras at a few times of a scene is a sample of its own, as in nuImages; sweeps between
keyframes and LiDAR are not simulated. Boxes and masks are of the pixels that are seen (nuImages' own boxes are amodal).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import ConfigError
from bevkd.geometry.rle import encode_mask
from bevkd.io import write_json, write_text
from bevkd.sim import camera
from bevkd.sim.config import SimConfig
from bevkd.sim.jobs import fresh_root, run_jobs
from bevkd.sim.nuscenes import drive
from bevkd.sim.rig import CAMERAS, OFFSETS_US
from bevkd.sim.scene import Log, Record, SceneJob, build_world, ego_record, token
from bevkd.sim.vocabulary import ATTRIBUTES, CATEGORIES
from bevkd.sim.world import World

LOGGER = logging.getLogger(__name__)

VERSIONS = {"train": "v1.0-train", "val": "v1.0-val"}  # a split is a version of its own, as in nuImages
# Streams of random numbers: the other data sets seed scenes by (seed, scene) and (seed, 24 bits, scene). A number of
# 64 bits takes two words, of which the second one is no number of a scene.
_STREAM = 0x9E3779B97F4A7C15
_WORLDS, _CALIBRATIONS = 1, 2
_SCENES_PER_LOG = 16
_SCENE_GAP_S = 60
_MIN_PIXELS = 4  # an object is annotated when so much of it is seen
_SURFACE = "flat.driveable_surface"
_TABLES = ("sample", "sample_data", "ego_pose", "object_ann")


def seeds(seed: int, kind: int, index: int) -> np.random.SeedSequence:
    """Where the random numbers of a scene (`kind` 1) or a log (2) come from; no other data set has the same."""
    return np.random.SeedSequence([seed, _STREAM, kind, index])


def simulate_nuimages(config: SimConfig, out: Path, seed: int, workers: int = 1) -> None:
    """Simulate a dataset and write it to `out` in nuImages layout, versions `v1.0-train` and `v1.0-val`.

    The same configuration and seed give the same bytes, whatever `workers` is. Everything is written to a temporary
    folder beside `out`, which is renamed at the end.

    Raises:
        ConfigError: the configuration is inconsistent, or `out` exists and is not an empty folder.
    """
    for name in ("train", "val", "keyframes_per_scene"):
        if getattr(config.splits, name) < 1:
            raise ConfigError(f"splits.{name} must be at least 1, got {getattr(config.splits, name)}")
    with fresh_root(out, workers) as root:
        for channel in CAMERAS:
            (root / "samples" / channel).mkdir(parents=True)
        _, jobs = _plan(config, root, seed)
        results = run_jobs(simulate_images, jobs, workers)
        LOGGER.info("simulated %d scenes", len(results))
        for split, version in VERSIONS.items():
            mine = [result for job, result in zip(jobs, results, strict=True) if job.name == split]
            used = {job.log.index: job.log for job in jobs if job.name == split}
            _write_tables(root / version, mine, list(used.values()), seed)
        write_json(root / "simulation.json", config.record(seed))


def _plan(config: SimConfig, root: Path, seed: int) -> tuple[list[Log], list[SceneJob]]:
    """Logs, and the jobs of all scenes; no log is in two splits."""
    logs: list[Log] = []
    jobs: list[SceneJob] = []
    for split in VERSIONS:
        count = getattr(config.splits, split)
        mine: list[Log] = []
        for _ in range(ceil(count / _SCENES_PER_LOG)):
            index = len(logs) + len(mine)
            rng = np.random.default_rng(seeds(seed, _CALIBRATIONS, index))
            mine.append(drive(index, config.camera, rng, lambda *names: token(seed, "nuimages", *names)))
        for i in range(count):
            log = mine[i % len(mine)]
            start_us = log.start_us + (i // len(mine)) * _SCENE_GAP_S * 1_000_000
            jobs.append(SceneJob(len(jobs), split, seed, log, (0.0, 0.0), start_us, config, root))
        logs += mine
    return logs, jobs


def simulate_images(job: SceneJob) -> dict[str, str]:
    """Simulate one scene and write its images below `job.root`: records of each table as JSON text."""
    world_seed, sensor_seed = seeds(job.seed, _WORLDS, job.index).spawn(2)
    world = build_world(job, np.random.default_rng(world_seed))
    rng = np.random.default_rng(sensor_seed)
    splits = job.config.splits
    period_us = round(1e6 / splits.keyframe_hz)
    middle_us = job.start_us + period_us * (splits.keyframes_per_scene - 1) // 2
    grids = {c: camera.pinhole(job.log.calibrations[c], job.config.camera) for c in CAMERAS}
    tables: dict[str, list[Record]] = {name: [] for name in _TABLES}
    for k in range(splits.keyframes_per_scene):
        for channel in CAMERAS:
            timestamp = job.start_us + k * period_us + OFFSETS_US[channel] + int(rng.integers(-800, 801))
            t_s = (timestamp - middle_us) * 1e-6
            ego = world.ego.pose(t_s)
            image, hits = camera.render(world, world.boxes(t_s, ego), ego, grids[channel], t_s, rng)
            filename = f"samples/{channel}/{job.log.logfile}__{channel}__{timestamp}.jpg"
            (job.root / filename).write_bytes(camera.encode(image, job.config.camera.jpeg_quality))
            seen = np.where(hits.box >= 0, world.owner[hits.box], -1).reshape(image.shape[:2])
            shot = _Shot(job, world, channel, timestamp, filename, image.shape[:2])
            for name, records in shot.records(t_s, seen).items():
                tables[name] += records
    return {name: ",\n".join(json.dumps(r) for r in records) for name, records in tables.items()}


@dataclass(frozen=True)
class _Shot:
    """One image."""

    job: SceneJob
    world: World
    channel: str
    timestamp: int
    filename: str
    size: tuple[int, int]

    def token(self, kind: str, *names: object) -> str:
        return token(self.job.seed, "nuimages", kind, self.job.index, self.channel, self.timestamp, *names)

    def records(self, t_s: float, seen: NDArray[np.int64]) -> dict[str, list[Record]]:
        """Records of it; `seen` (H, W) is the object at each pixel, -1 where there is none."""
        name, sample = self.token("sample_data"), self.token("sample")
        motion = self.world.ego
        pose = ego_record(self.world, t_s, self.timestamp, name) | {
            "rotation_rate": [0.0, 0.0, float(motion.turn_rate)],
            "acceleration": [0.0, 0.0, 9.81],
            "speed": float(motion.speed),
        }
        data: Record = {
            "token": name,
            "sample_token": sample,
            "ego_pose_token": name,
            "calibrated_sensor_token": self.job.log.calibration_tokens[self.channel],
            "filename": self.filename,
            "fileformat": "jpg",
            "width": self.size[1],
            "height": self.size[0],
            "timestamp": self.timestamp,
            "is_key_frame": True,
            "next": "",
            "prev": "",
        }
        row: Record = {
            "token": sample,
            "timestamp": self.timestamp,
            "log_token": self.job.log.token,
            "key_camera_token": name,
        }
        objects = [self._object(i, seen == i, name) for i in visible(self.world, seen)]
        return {"sample": [row], "sample_data": [data], "ego_pose": [pose], "object_ann": objects}

    def _object(self, index: int, mask: NDArray[np.bool_], image: str) -> Record:
        thing, seed = self.world.objects[index], self.job.seed
        return {
            "token": self.token("object_ann", index),
            "sample_data_token": image,
            "category_token": token(seed, "nuimages", "category", thing.category),
            "attribute_tokens": [token(seed, "nuimages", "attribute", thing.attribute)] if thing.attribute else [],
            "bbox": bounds(mask),
            "mask": encode_mask(mask),
        }


def visible(world: World, seen: NDArray[np.int64]) -> list[int]:
    """Objects of which enough is seen to be annotated; `seen` (H, W) is the object at each pixel, -1 for none."""
    pixels = np.bincount(seen[seen >= 0], minlength=len(world.objects))
    return np.flatnonzero((pixels >= _MIN_PIXELS) & world.annotated).tolist()


def bounds(mask: NDArray[np.bool_]) -> list[int]:
    """`[xmin, ymin, xmax, ymax]` of a mask (H, W) that is not empty; pixel i covers i to i + 1."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _write_tables(folder: Path, results: list[dict[str, str]], logs: list[Log], seed: int) -> None:
    def named(kind: str, *names: object) -> str:
        return token(seed, "nuimages", kind, *names)

    def write(table: str, rows: Iterable[str]) -> None:
        write_text(folder / f"{table}.json", "[\n" + ",\n".join(rows) + "\n]\n")

    categories = CATEGORIES | {"vehicle.ego": "The recording vehicle.", _SURFACE: "Where vehicles may drive."}
    fixed: dict[str, list[Record]] = {
        "category": [{"token": named("category", n), "name": n, "description": d} for n, d in categories.items()],
        "attribute": [{"token": named("attribute", n), "name": n, "description": d} for n, d in ATTRIBUTES.items()],
        "sensor": [{"token": named("sensor", c), "channel": c, "modality": "camera"} for c in CAMERAS],
        "log": [log.record() for log in logs],
        "calibrated_sensor": [_calibrated(log, c, named("sensor", c)) for log in logs for c in CAMERAS],
        "surface_ann": [],
    }
    for table, records in fixed.items():
        write(table, (json.dumps(record) for record in records))
    for table in _TABLES:
        write(table, (text for result in results if (text := result[table])))


def _calibrated(log: Log, channel: str, sensor: str) -> Record:
    calibration = log.calibrations[channel]
    intrinsics: Any = calibration.intrinsics
    return {
        "token": log.calibration_tokens[channel],
        "sensor_token": sensor,
        "translation": list(calibration.translation),
        "rotation": list(calibration.quaternion),
        "camera_intrinsic": intrinsics.tolist(),
        "camera_distortion": [0.0] * 5,
    }
