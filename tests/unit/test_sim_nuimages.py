"""Simulated nuImages: its tables, its labels against the renderer's hits, and worlds that no other data set has."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bevkd.errors import ConfigError
from bevkd.geometry.rle import decode_mask
from bevkd.sim import NUIMAGES_SCALES, SCALES, SimConfig, camera, simulate_nuimages
from bevkd.sim.config import SplitConfig
from bevkd.sim.nuimages import VERSIONS, _plan, bounds, seeds
from bevkd.sim.rig import CAMERAS
from bevkd.sim.scene import build_world

TINY = replace(
    NUIMAGES_SCALES["smoke"], splits=SplitConfig(train=2, tune=0, val=1, keyframes_per_scene=2, keyframe_hz=0.5)
)
# Tables and fields as the owner documents them.
FIELDS = {
    "attribute": "token name description",
    "calibrated_sensor": "token sensor_token translation rotation camera_intrinsic camera_distortion",
    "category": "token name description",
    "ego_pose": "token translation rotation timestamp rotation_rate acceleration speed",
    "log": "token logfile vehicle date_captured location",
    "object_ann": "token sample_data_token category_token attribute_tokens bbox mask",
    "sample": "token timestamp log_token key_camera_token",
    "sample_data": "token sample_token ego_pose_token calibrated_sensor_token filename fileformat width height"
    " timestamp is_key_frame next prev",
    "sensor": "token channel modality",
    "surface_ann": "token sample_data_token category_token mask",
}


def table(root: Path, version: str, name: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((root / version / f"{name}.json").read_text())
    return content


def test_tables_are_those_of_the_format(smoke_images: Any) -> None:
    for version in VERSIONS.values():
        tables = {name: table(smoke_images.root, version, name) for name in FIELDS}
        for name, fields in FIELDS.items():
            for row in tables[name]:
                assert set(row) == set(fields.split()), name
        tokens = {name: {row["token"] for row in rows} for name, rows in tables.items()}
        for name, rows in tables.items():
            assert len(tokens[name]) == len(rows)
            for row in rows:
                for field, value in row.items():
                    target = field.removesuffix("_token")
                    if field.endswith("_token") and target in tokens:
                        assert value in tokens[target], (name, field)
        images = {row["token"]: row for row in tables["sample_data"]}
        assert {row["key_camera_token"] for row in tables["sample"]} == set(images)
        for row in images.values():
            with Image.open(smoke_images.root / row["filename"]) as image:
                assert (image.format, image.size) == ("JPEG", (row["width"], row["height"]))
    train, val = ({row["token"] for row in table(smoke_images.root, v, "log")} for v in VERSIONS.values())
    assert train.isdisjoint(val)


def test_labels_are_of_the_pixels_that_are_seen(tmp_path: Path) -> None:
    """Every image is rendered again; a mask is where the nearest part of its object is hit, its box is around it."""
    out = tmp_path / "data"
    simulate_nuimages(TINY, out, seed=3)
    _, jobs = _plan(TINY, out, 3)
    categories = {row["token"]: row["name"] for row in table(out, "v1.0-train", "category")}
    checked = 0
    for job in jobs:
        version = VERSIONS[job.name]
        world = build_world(job, np.random.default_rng(seeds(3, 1, job.index).spawn(2)[0]))
        records = {row["filename"]: row for row in table(out, version, "sample_data")}
        found: dict[str, list[Any]] = {}
        for row in table(out, version, "object_ann"):
            found.setdefault(row["sample_data_token"], []).append(row)
        for channel, grid in ((c, camera.pinhole(job.log.calibrations[c], job.config.camera)) for c in CAMERAS):
            for row in records.values():
                if f"/{channel}/" not in row["filename"] or not _of(job, row):
                    continue
                t_s = (row["timestamp"] - job.start_us - 1_000_000) * 1e-6  # two keyframes, two seconds apart
                ego = world.ego.pose(t_s)
                hits = camera.render(world, world.boxes(t_s, ego), ego, grid, t_s, np.random.default_rng(0))[1]
                pixels: dict[int, list[tuple[int, int]]] = {}
                for pixel, part in enumerate(hits.box.tolist()):
                    if part >= 0:
                        pixels.setdefault(int(world.owner[part]), []).append(divmod(pixel, row["width"]))
                expected = []
                for i, places in sorted(pixels.items()):
                    mask = np.zeros((row["height"], row["width"]), dtype=bool)
                    for place in places:
                        mask[place] = True
                    if world.objects[i].annotated and len(places) >= 4:
                        expected.append((world.objects[i].category, mask))
                mine = found.get(row["token"], [])
                assert [categories[o["category_token"]] for o in mine] == [name for name, _ in expected]
                for one, (_, mask) in zip(mine, expected, strict=True):
                    assert np.array_equal(decode_mask(one["mask"]), mask)
                    rows, columns = np.nonzero(mask)
                    around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    assert one["bbox"] == bounds(mask) == around
                    checked += 1
    assert checked > 30


def _of(job: Any, row: dict[str, Any]) -> bool:
    return bool(abs(row["timestamp"] - job.start_us - 1_000_000) < 1_500_000 and job.log.logfile in row["filename"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
        simulate_nuimages(TINY, tmp_path / name, seed, workers)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_no_world_is_that_of_another_data_set() -> None:
    """The states of all generators differ, also where seeds and numbers of scenes change places."""
    numbers = [0, 1, 2, 7, 74, 324, 0x4B1771, 0x3A9303, 2**32 - 1, 2**63]
    ours, others = set(), set()
    for seed, index in product(numbers, numbers):
        ours |= {tuple(seeds(seed, kind, index).generate_state(4)) for kind in (1, 2)}
        ours |= {tuple(child.generate_state(4)) for child in seeds(seed, 1, index).spawn(2)}
        for entropy in ([seed, index], *([seed, word, index] for word in (0x4B1771, 0x3A9303, 0xCA11B, 0x1ABE1))):
            sequence = np.random.SeedSequence(entropy)
            others |= {tuple(one.generate_state(4)) for one in (sequence, *sequence.spawn(2))}
    assert len(ours) == 4 * len(numbers) ** 2
    assert ours.isdisjoint(others)


def test_cameras_are_those_of_nuscenes() -> None:
    for scale, config in NUIMAGES_SCALES.items():
        assert (config.camera.height, config.camera.width) == (SCALES[scale].camera.height, SCALES[scale].camera.width)
        assert (config.camera, config.world.reach_m) == (SCALES[scale].camera, SCALES[scale].world.reach_m)


def test_a_split_without_scenes_is_refused(tmp_path: Path) -> None:
    config: SimConfig = replace(TINY, splits=replace(TINY.splits, val=0))
    with pytest.raises(ConfigError, match=r"splits\.val must be at least 1, got 0"):
        simulate_nuimages(config, tmp_path / "out", 0)
