"""Instance masks of the keyframe images of a simulated data set, written beside images that are there already.

Masks are what a perfect detector in the images would find: the world of each scene is drawn again, from its own random
stream, and rays say which object each pixel shows. No file of the data set is changed, and no random number is drawn
that anything else depends on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from bevkd.data.inside import Inside
from bevkd.errors import DataError
from bevkd.instance_masks import masks_name, write_masks
from bevkd.io import read_json
from bevkd.sim import camera
from bevkd.sim.config import SimConfig
from bevkd.sim.jobs import run_jobs
from bevkd.sim.nuimages import visible
from bevkd.sim.nuscenes import VERSION, plan
from bevkd.sim.raycast import Boxes, cast
from bevkd.sim.rig import CAMERAS
from bevkd.sim.scene import SceneJob, per_object, world_of
from bevkd.sim.world import World

LOGGER = logging.getLogger(__name__)

_RECORD = "simulation.json"
_SAME_M = 1e-5  # ego poses are stored to a micrometre
_DECIMALS = 4


@dataclass(frozen=True)
class _Shot:
    """One keyframe image."""

    channel: str
    timestamp: int
    filename: str
    token: str
    ego: tuple[float, float]


@dataclass(frozen=True)
class _MaskJob:
    """The images of one scene."""

    scene: SceneJob
    shots: tuple[_Shot, ...]
    restart: bool


def is_simulated(root: Path, version: str) -> bool:
    """Whether a folder is a simulated data set whose masks can be written."""
    return (root / version / _RECORD).is_file()


def simulate_masks(root: str | Path, version: str = VERSION, *, workers: int = 1, restart: bool = False) -> int:
    """Write the masks of every keyframe image of a simulated data set in nuScenes layout; see `bevkd.instance_masks`.

    An instance is an object of the ten classes of which four pixels or more are seen. Its score is the share of the
    pixels that it would have if it were alone. Files that are there are kept.

    Args:
        root: folder of the data set.
        version: of its tables.
        workers: processes; files are the same whatever it is.
        restart: write all files anew.

    Returns:
        How many images have a file of masks.

    Raises:
        DataError: no simulated data set, or one that this version of the simulator would not make the same.
    """
    root = Path(root)
    path = root / version / _RECORD
    seed, config = _read_record(path)
    splits = read_json(root / version / "splits.json")
    names = [name for split in splits.values() for name in split]
    jobs, *_ = plan(config, names, root, seed)
    shots = _shots(root / version)
    work = [_MaskJob(job, tuple(shots.get(job.name, ())), restart) for job in jobs]
    count = sum(run_jobs(_mask_scene, work, workers))
    LOGGER.info("%s: masks of %d images", root, count)
    return count


def _read_record(path: Path) -> tuple[int, SimConfig]:
    """Seed and settings that a data set was simulated with."""
    record = read_json(path)
    try:
        config = TypeAdapter(SimConfig).validate_python(record["config"])
        return int(record["seed"]), config
    except (ValidationError, TypeError, KeyError, ValueError) as error:
        raise DataError(f"not what the simulator says of a data set: {error!s:.200}", file=path) from None


def _shots(folder: Path) -> dict[str, list[_Shot]]:
    """Keyframe images by the name of their scene; their masks lie within the data set, too."""
    inside = Inside(folder.parent)
    tables = {name: read_json(folder / f"{name}.json") for name in ("scene", "sample", "sample_data", "ego_pose")}
    try:
        scenes = {row["token"]: row["name"] for row in tables["scene"]}
        samples = {row["token"]: scenes[row["scene_token"]] for row in tables["sample"]}
        poses = {row["token"]: row["translation"] for row in tables["ego_pose"]}
        found: dict[str, list[_Shot]] = {}
        for row in tables["sample_data"]:
            channel = row["filename"].split("/")[1]
            if row["is_key_frame"] and channel in CAMERAS:
                inside.path(masks_name(row["filename"]), row["token"])
                ego = (float(poses[row["ego_pose_token"]][0]), float(poses[row["ego_pose_token"]][1]))
                shot = _Shot(channel, row["timestamp"], row["filename"], row["token"], ego)
                found.setdefault(samples[row["sample_token"]], []).append(shot)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"not tables of the simulator: {error!r:.200}", file=folder / "sample_data.json") from None
    return found


def _mask_scene(job: _MaskJob) -> int:
    """Write the masks of one scene; how many images it has."""
    scene = job.scene
    wanted = [shot for shot in job.shots if job.restart or not (scene.root / masks_name(shot.filename)).exists()]
    if wanted:
        world = world_of(scene)
        for shot in wanted:
            t_s = (shot.timestamp - scene.middle_us) * 1e-6
            ego = world.ego.pose(t_s)
            if np.abs(ego[:2] - shot.ego).max() > _SAME_M:
                raise DataError(
                    "the simulator of today makes another world: simulate the data set again",
                    file=scene.root / shot.filename, token=shot.token, field="ego_pose",
                )  # fmt: skip
            found = list(instances(world, world.boxes(t_s, ego), scene, shot.channel))
            write_masks(scene.root / masks_name(shot.filename), found)
    return len(job.shots)


def instances(
    world: World, boxes: Boxes, scene: SceneJob, channel: str
) -> Iterable[tuple[str, float, NDArray[np.bool_]]]:
    """Class, score and mask (H, W) of the objects that an image shows.

    Args:
        world: of the scene.
        boxes: its parts in the ego frame at the time of the image.
        scene: whose calibration it is.
        channel: the camera.
    """
    grid = camera.pinhole(scene.log.calibrations[channel], scene.config.camera)
    hits = cast(grid, boxes, world.owner, len(world.objects))
    seen = np.where(hits.box >= 0, world.owner[hits.box], -1).reshape(grid.height, grid.width)
    pixels: Any = per_object(world, hits)
    for i in visible(world, seen):
        score = round(float(pixels[i] / hits.alone[i]), _DECIMALS)
        yield world.objects[i].kind, score, seen == i
