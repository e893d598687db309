"""A simulated dataset in nuScenes layout: splits, logs, workers, tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.io import write_json, write_text
from bevkd.sim.config import CameraConfig, SimConfig
from bevkd.sim.jobs import fresh_root, run_jobs
from bevkd.sim.labelled import draw_labelled
from bevkd.sim.maps import tile_centre, write_mask
from bevkd.sim.rig import CHANNELS, calibrate
from bevkd.sim.scene import Log, Record, SceneJob, simulate_scene, token
from bevkd.sim.vocabulary import ATTRIBUTES, CATEGORIES, LOCATIONS, VISIBILITY

LOGGER = logging.getLogger(__name__)

VERSION = "v1.0-sim"
_SCENES_PER_LOG = 16
_SCENE_GAP_S = 30
_FIRST_DAY = datetime(2018, 7, 2, 9, 15, tzinfo=UTC)


def simulate_nuscenes(config: SimConfig, out: Path, seed: int, workers: int = 1) -> None:
    """Simulate a dataset and write it to `out` in nuScenes layout, version `v1.0-sim`.

    Beside the thirteen tables, `v1.0-sim/splits.json` maps train, tune, val and, where there are such scenes,
    conditions to scene names, and `v1.0-sim/labelled.json` maps subset numbers to the sample tokens of labelled
    keyframes. The same configuration and seed give the same bytes, whatever `workers` is. Everything is written to a
    temporary folder beside `out`, which is renamed at the end.

    Raises:
        ConfigError: the configuration is inconsistent, or `out` exists and is not an empty folder.
        DataError: a class does not occur often enough for the labelled lists.
    """
    config.validate(conditions=True)
    with fresh_root(out, workers) as root:
        _write(config, root, seed, workers)


def _write(config: SimConfig, root: Path, seed: int, workers: int) -> None:
    for kind in ("samples", "sweeps"):
        for channel in CHANNELS:
            (root / kind / channel).mkdir(parents=True)
    (root / "maps").mkdir()
    names = _split_names(config)
    jobs, slots, columns = plan(config, [name for split in names.values() for name in split], root, seed)
    results = run_jobs(simulate_scene, jobs, workers)
    LOGGER.info("simulated %d scenes", len(results))

    logs = {job.log.index: job.log for job in jobs}
    tables = _fixed_tables(seed) | _log_tables(list(logs.values()), seed)
    tables["map"] = []
    for location in LOCATIONS:
        here = [r for r in results if jobs[r.index].log.location == location]
        if not here:
            continue
        name = token(seed, "map", location)
        filename = f"maps/{name}.png"
        write_mask([(slots[r.index], r.world) for r in here], columns, root / filename)
        tables["map"].append(
            {
                "token": name,
                "category": "semantic_prior",
                "filename": filename,
                "log_tokens": [log.token for log in logs.values() if log.location == location],
            }
        )
    folder = root / VERSION
    for table, records in tables.items():
        write_text(folder / f"{table}.json", "[\n" + ",\n".join(json.dumps(r) for r in records) + "\n]\n")
    for table in ("scene", "sample", "sample_data", "ego_pose", "sample_annotation", "instance"):
        rows = [text for r in results if (text := r.tables[table])]
        write_text(folder / f"{table}.json", "[\n" + ",\n".join(rows) + "\n]\n")
    write_json(folder / "splits.json", names)
    train = [r.classes for r in results[: len(names["train"])]]
    write_json(folder / "labelled.json", draw_labelled(train, config.labelled.count, config.labelled.subsets, seed))
    write_json(folder / "simulation.json", config.record(seed))


def _split_names(config: SimConfig) -> dict[str, list[str]]:
    """Scene names per split, numbered through."""
    out: dict[str, list[str]] = {}
    number = 1
    for split, count in config.splits.scenes.items():
        out[split] = [f"scene-{i:04d}" for i in range(number, number + count)]
        number += count
    return out


def plan(config: SimConfig, names: list[str], root: Path, seed: int) -> tuple[list[SceneJob], dict[int, int], int]:
    """Jobs of all scenes, the map tile of each scene, and the columns of the tile grids.

    Logs take turns within every split, so that locations and vehicles are spread evenly. Scenes of `conditions`, the
    last ones, join the logs and the maps of the others, of which nothing depends on them.
    """
    drawn = len(names) - config.splits.conditions
    count = max(len(LOCATIONS), ceil(drawn / _SCENES_PER_LOG))
    logs = [_log(i, config, seed) for i in range(count)]
    columns = ceil(sqrt(ceil(drawn / len(LOCATIONS))))
    used: dict[str, int] = dict.fromkeys(LOCATIONS, 0)
    jobs: list[SceneJob] = []
    slots: dict[int, int] = {}
    for i, name in enumerate(names):
        log = logs[i % count]
        slots[i] = used[log.location]
        used[log.location] += 1
        start_us = log.start_us + (i // count) * _SCENE_GAP_S * 1_000_000
        own = config if i < drawn else config.under_conditions(i - drawn)
        jobs.append(SceneJob(i, name, seed, log, tile_centre(slots[i], columns), start_us, own, root))
    return jobs, slots, columns


def drive(index: int, camera: CameraConfig, rng: np.random.Generator, name: Callable[..., str]) -> Log:
    """One drive: drives take turns among the locations.

    Args:
        index: its number.
        camera: of the vehicle.
        rng: of its calibration.
        name: token of a record of some names.
    """
    location = list(LOCATIONS)[index % len(LOCATIONS)]
    vehicle, zone, drive_on_left = LOCATIONS[location]
    local = _FIRST_DAY + timedelta(days=index // 2, hours=4 * (index % 2), minutes=7 * (index % 5))
    return Log(
        index,
        name("log", index),
        f"{vehicle}-{local:%Y-%m-%d-%H-%M-%S}{zone}",
        location,
        vehicle,
        f"{local:%Y-%m-%d}",
        drive_on_left,
        calibrate(camera, rng),
        {channel: name("calibrated_sensor", index, channel) for channel in CHANNELS},
    )


def _log(index: int, config: SimConfig, seed: int) -> Log:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xCA11B, index]))
    return drive(index, config.camera, rng, partial(token, seed))


def _fixed_tables(seed: int) -> dict[str, list[Record]]:
    return {
        "category": [
            {"token": token(seed, "category", name), "name": name, "description": text, "index": i + 1}
            for i, (name, text) in enumerate(CATEGORIES.items())
        ],
        "attribute": [
            {"token": token(seed, "attribute", name), "name": name, "description": text}
            for name, text in ATTRIBUTES.items()
        ],
        "visibility": [
            {"token": str(i + 1), "level": level, "description": f"Visible fraction {level[1:]} % over all images."}
            for i, (level, _) in enumerate(VISIBILITY)
        ],
        "sensor": [
            {"token": token(seed, "sensor", channel), "channel": channel, "modality": modality}
            for channel, modality in CHANNELS.items()
        ],
    }


def _log_tables(logs: list[Log], seed: int) -> dict[str, list[Record]]:
    calibrated: list[Record] = []
    for log in logs:
        for channel, calibration in log.calibrations.items():
            k: Any = calibration.intrinsics
            calibrated.append(
                {
                    "token": log.calibration_tokens[channel],
                    "sensor_token": token(seed, "sensor", channel),
                    "translation": list(calibration.translation),
                    "rotation": list(calibration.quaternion),
                    "camera_intrinsic": [] if k is None else k.tolist(),
                }
            )
    return {"log": [log.record() for log in logs], "calibrated_sensor": calibrated}
