"""The split `conditions` of the simulated nuScenes data set: what it holds, and that nothing else depends on it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_sim_files import TINY

from bevkd.classes import CLASSES
from bevkd.data.index import FrameIndex
from bevkd.data.nuscenes.names import lighting, weather
from bevkd.errors import ConfigError
from bevkd.eval.nuscenes import evaluate_files
from bevkd.sim import KITTI_SCALES, NUIMAGES_SCALES, SCALES, WAYMO_SCALES, simulate_kitti, simulate_nuscenes
from bevkd.sim.config import COMBINATIONS, SimConfig
from bevkd.sim.nuscenes import plan
from bevkd.sim.scene import SceneJob, build_world
from bevkd.sim.vocabulary import LOCATIONS, describe
from bevkd.sim.world import World

NAMED = {
    (False, False): "clear day",
    (False, True): "rain day",
    (True, False): "clear night",
    (True, True): "rain night",
}
# What a table of conditions wants at the least of each group of weather and of light.
ENOUGH = 60
LISTS = ("splits.json", "labelled.json", "simulation.json")


def planned(config: SimConfig) -> tuple[list[SceneJob], dict[int, int], int]:
    names = [f"scene-{i:04d}" for i in range(1, sum(config.splits.scenes.values()) + 1)]
    return plan(config, names, Path("nowhere"), seed=0)


def conditions_of(config: SimConfig) -> list[SceneJob]:
    return planned(config)[0][-config.splits.conditions :]


def world_of(job: SceneJob) -> World:
    """As `simulate_scene` draws it."""
    return build_world(job, np.random.default_rng(np.random.SeedSequence([job.seed, job.index]).spawn(3)[0]))


def test_at_sim_scale_weather_and_light_partition_the_split_with_enough_frames_in_each_group() -> None:
    config = SCALES["sim"]
    texts = [describe(world_of(job)) for job in conditions_of(config)]
    found = Counter((weather(text), lighting(text)) for text in texts for _ in range(config.splits.keyframes_per_scene))
    assert found == {(w, light): 32 for w in ("clear", "rain") for light in ("day", "night")}
    for kind in range(2):
        groups = Counter[str]()
        for pair, frames in found.items():
            groups[pair[kind]] += frames
        assert len(groups) == 2
        assert min(groups.values()) >= ENOUGH
        assert sum(groups.values()) == config.splits.conditions * config.splits.keyframes_per_scene


def test_every_combination_is_seen_at_every_location() -> None:
    jobs = conditions_of(SCALES["sim"])
    seen = Counter((job.log.location, job.config.world.night, job.config.world.rain) for job in jobs)
    assert len(seen) == len(LOCATIONS) * len(COMBINATIONS)


@pytest.mark.parametrize("scale", sorted(SCALES))
def test_logs_tiles_times_and_settings_of_other_scenes_are_those_without_it(scale: str) -> None:
    config = SCALES[scale]
    without = replace(config, splits=replace(config.splits, conditions=0))
    (jobs, slots, columns), (before, slots_before, columns_before) = planned(config), planned(without)
    assert len(jobs) == len(before) + config.splits.conditions
    assert columns == columns_before
    assert {i: slots[i] for i in slots_before} == slots_before
    for new, old in zip(jobs, before, strict=False):
        assert replace(new, config=without, log=old.log) == old
        assert (new.log.token, new.log.logfile, new.log.location) == (old.log.token, old.log.logfile, old.log.location)
        assert new.config == config
    assert {job.log.index for job in jobs} == {job.log.index for job in before}
    assert len({(job.log.index, job.start_us) for job in jobs}) == len(jobs), "no two at one time"
    assert len({(job.log.location, slots[job.index]) for job in jobs}) == len(jobs), "no two on one tile"


def test_nothing_but_weather_and_light_is_forced() -> None:
    """The same scene under the four combinations: one world, one exposure."""
    job = conditions_of(SCALES["smoke"])[0]
    worlds = []
    for number, (night, rain) in enumerate(COMBINATIONS):
        worlds.append(world_of(replace(job, config=SCALES["smoke"].under_conditions(number))))
        assert (worlds[-1].conditions.night, worlds[-1].conditions.rain) == (night, rain)
    drawn = world_of(replace(job, config=SCALES["smoke"]))
    for world in worlds:
        assert replace(world.conditions, night=drawn.conditions.night, rain=drawn.conditions.rain) == drawn.conditions
        assert [thing.kind for thing in world.objects] == [thing.kind for thing in drawn.objects]
        np.testing.assert_array_equal(world.sizes, drawn.sizes)
        np.testing.assert_array_equal(world.poses(0.3), drawn.poses(0.3))


def test_every_four_scenes_have_the_four_combinations() -> None:
    turns = [SCALES["smoke"].under_conditions(k).world for k in range(16)]
    pairs = [(world.night == 1.0, world.rain == 1.0) for world in turns]
    for start in range(0, 16, 4):
        assert sorted(pairs[start : start + 4]) == sorted(COMBINATIONS)
    assert pairs[:4] == list(COMBINATIONS)
    assert pairs[4] != pairs[0]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One data set without and with the split."""
    folder = tmp_path_factory.mktemp("both")
    simulate_nuscenes(TINY, folder / "old", seed=4)
    simulate_nuscenes(replace(TINY, splits=replace(TINY.splits, conditions=8)), folder / "new", seed=4)
    return folder / "old", folder / "new"


def rows(path: Path) -> list[str]:
    return [line.removesuffix(",") for line in path.read_text().splitlines()[1:-1]]


def test_no_byte_of_the_other_scenes_depends_on_it(both: tuple[Path, Path]) -> None:
    old, new = both
    sensors = [p.relative_to(old) for p in old.glob("s*/*/*")]
    assert len(sensors) > 100
    for file in sensors:
        assert (new / file).read_bytes() == (old / file).read_bytes(), file
    tables = sorted((old / "v1.0-sim").glob("*.json"))
    assert len(tables) == 13 + len(LISTS)
    for table in tables:
        if table.name not in LISTS:
            before, after = rows(table), rows(new / "v1.0-sim" / table.name)
            assert after[: len(before)] == before, table.name
    assert len(rows(new / "v1.0-sim/scene.json")) == len(rows(old / "v1.0-sim/scene.json")) + 8
    for table in ("log", "calibrated_sensor", "map"):
        assert (new / f"v1.0-sim/{table}.json").read_bytes() == (old / f"v1.0-sim/{table}.json").read_bytes()
    assert (new / "v1.0-sim/labelled.json").read_bytes() == (old / "v1.0-sim/labelled.json").read_bytes()
    splits = json.loads((new / "v1.0-sim/splits.json").read_text())
    assert splits.pop("conditions") == [f"scene-{i:04d}" for i in range(8, 16)]
    assert splits == json.loads((old / "v1.0-sim/splits.json").read_text())


def test_map_masks_keep_old_tiles_where_they_are(both: tuple[Path, Path]) -> None:
    """World y counts from the bottom of a mask: it may grow at the top, and what was road stays road."""
    grown = 0
    for path in (both[0] / "maps").iterdir():
        before, after = (np.asarray(Image.open(p)) for p in (path, both[1] / "maps" / path.name))
        assert after.shape[1] == before.shape[1]
        grown += after.shape[0] > before.shape[0]
        same_place = after[after.shape[0] - before.shape[0] :]
        assert not before[same_place != before].any()
        assert (before > 0).any()
    assert grown


@pytest.mark.parametrize("count", [-4, 3, 6])
def test_an_uneven_split_is_named(count: int, tmp_path: Path) -> None:
    config = replace(TINY, splits=replace(TINY.splits, conditions=count))
    with pytest.raises(ConfigError, match=rf"splits\.conditions must be a multiple of 4.*got {count}"):
        simulate_nuscenes(config, tmp_path / "out", seed=0)


def test_other_layouts_have_no_such_split(tmp_path: Path) -> None:
    smoke = KITTI_SCALES["smoke"]
    with pytest.raises(ConfigError, match=r"splits\.conditions must be 0, got 4"):
        simulate_kitti(replace(smoke, splits=replace(smoke.splits, conditions=4)), tmp_path / "out", seed=0)
    for scales in (KITTI_SCALES, WAYMO_SCALES, NUIMAGES_SCALES):
        for config in scales.values():
            assert "conditions" not in config.splits.scenes
            assert "conditions" not in config.record(0)["config"]["splits"]
    assert SCALES["sim"].record(3)["config"]["splits"]["conditions"] == 32


def test_the_index_has_it_as_a_split(smoke_dataset: Any) -> None:
    index = FrameIndex.open(smoke_dataset.index, "conditions", sensors=("lidar",))
    pairs = Counter(zip(index.columns["weather"], index.columns["lighting"], strict=True))
    assert {f"{w} {light}": n for (w, light), n in pairs.items()} == dict.fromkeys(NAMED.values(), 2)
    scenes = json.loads((smoke_dataset.root / "v1.0-sim" / "splits.json").read_text())["conditions"]
    assert set(index.columns["scene_name"]) == set(scenes)


def test_it_is_evaluated_and_broken_down_as_any_split(smoke_dataset: Any, tmp_path: Path) -> None:
    tokens = FrameIndex.open(smoke_dataset.index, "conditions", sensors=("lidar",)).columns["token"]
    results = tmp_path / "results.json"
    meta = {f"use_{name}": name == "lidar" for name in ("camera", "lidar", "radar", "map", "external")}
    results.write_text(json.dumps({"meta": meta, "results": {token: [] for token in tokens}}))
    where = (smoke_dataset.root, smoke_dataset.version)
    out = tmp_path / "metrics.json"
    evaluate_files(*where, "conditions", results, out, by=("weather", "lighting"))
    groups = json.loads(out.read_text())["breakdowns"]
    boxes = Counter[str]()
    for group, numbers in groups.items():
        assert numbers["frames"] == len(tokens) / 2
        boxes[group.partition(":")[0]] += numbers["boxes"]
    assert set(groups) == {"weather:rainy", "weather:sunny", "lighting:night", "lighting:day"}
    assert boxes["weather"] == boxes["lighting"] > len(CLASSES)
    with pytest.raises(
        ConfigError, match=r"unknown split 'condition'.*'conditions'.*has: train, tune, val, conditions"
    ):
        evaluate_files(*where, "condition", results, out)
