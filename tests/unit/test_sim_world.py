"""The drawn world: no overlaps, all classes, parts inside their boxes, conditions as often as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import Polygon

from bevkd.classes import CLASSES
from bevkd.errors import DataError
from bevkd.sim.builder import WorldBuilder, sample_conditions
from bevkd.sim.config import SCALES
from bevkd.sim.labelled import draw_labelled
from bevkd.sim.shapes import BUILDERS, SIZES, sample_size
from bevkd.sim.world import World


def _world(seed: int) -> World:
    config, rng = SCALES["sim"], np.random.default_rng(seed)
    conditions = sample_conditions(config.world, config.camera.brightness, config.camera.noise, rng)
    return WorldBuilder(config, rng, (300.0, 400.0), bool(seed % 2), conditions).build()


def _footprints(world: World, t_s: float) -> list[Polygon]:
    out = []
    for (x, y, yaw), (length, width, _) in zip(world.poses(t_s), world.sizes, strict=True):
        along, across = (
            np.array([np.cos(yaw), np.sin(yaw)]) * length / 2,
            np.array([-np.sin(yaw), np.cos(yaw)]) * width / 2,
        )
        corners = [along + across, along - across, -along - across, -along + across]
        out.append(Polygon([(x + c[0], y + c[1]) for c in corners]))
    return out


@pytest.mark.parametrize("seed", range(6))
def test_nothing_overlaps_at_any_keyframe(seed: int) -> None:
    world = _world(seed)
    movable = [i for i, o in enumerate(world.objects) if o.kind != "building"]
    for t_s in (-0.75, -0.25, 0.25, 0.75):
        shapes = _footprints(world, t_s)
        x, y, yaw = world.ego.pose(t_s)
        ego = Polygon(
            [
                (x + np.cos(yaw) * a - np.sin(yaw) * b, y + np.sin(yaw) * a + np.cos(yaw) * b)
                for a, b in ((-0.8, -0.9), (3.6, -0.9), (3.6, 0.9), (-0.8, 0.9))
            ]
        )
        for n, i in enumerate(movable):
            assert not shapes[i].intersects(ego), world.objects[i].kind
            for j in movable[:n]:
                assert shapes[i].intersection(shapes[j]).area < 1e-9, (world.objects[i].kind, world.objects[j].kind)


def test_all_classes_occur_often_enough() -> None:
    worlds = [_world(seed) for seed in range(30)]
    for cls in CLASSES:
        mean = np.mean([sum(o.kind == cls for o in world.objects) for world in worlds])
        assert mean >= 0.5, cls
    assert any(w.conditions.night for w in worlds)
    assert any(w.conditions.rain for w in worlds)
    assert any(w.cross is not None for w in worlds)


@pytest.mark.parametrize("kind", sorted(BUILDERS))
@pytest.mark.parametrize("rider", [True, False])
def test_parts_fill_the_box_and_stay_inside(kind: str, rider: bool) -> None:
    for seed in range(10):
        parts = BUILDERS[kind](np.random.default_rng(seed), rider)
        bounds = np.array([(p.x, p.y, p.z) for p in parts])
        low, high = bounds[..., 0].min(axis=0), bounds[..., 1].max(axis=0)
        assert (bounds[..., 0] < bounds[..., 1]).all()
        assert (low >= [-0.5, -0.5, 0.0]).all()
        assert (high <= [0.5, 0.5, 1.0]).all()
        if kind in SIZES:  # an annotated box is tight
            np.testing.assert_allclose(high - low, [1.0, 1.0, 1.0], atol=0.03)


@pytest.mark.parametrize("cls", CLASSES)
def test_mean_sizes_are_those_of_the_real_dataset(cls: str) -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([sample_size(cls, rng, rider=bool(i % 2)) for i in range(600)])
    np.testing.assert_allclose(sizes.mean(axis=0), SIZES[cls][0], rtol=0.03)


def test_pedestrians_walk_the_way_they_face() -> None:
    world = _world(3)
    walking = [i for i, o in enumerate(world.objects) if o.attribute == "pedestrian.moving"]
    assert walking
    velocity, step = world.velocities(0.0), (world.poses(0.01) - world.poses(-0.01))[:, :2] / 0.02
    np.testing.assert_allclose(velocity, step, atol=1e-3)
    heading = world.poses(0.0)[walking, 2]
    np.testing.assert_allclose(
        np.arctan2(velocity[walking, 1], velocity[walking, 0]), np.arctan2(np.sin(heading), np.cos(heading)), atol=1e-9
    )


def _frames(scenes: int, per_scene: int) -> list[dict[str, dict[str, int]]]:
    rng = np.random.default_rng(0)
    return [
        {f"{i:03d}{k}": {c: int(rng.integers(0, 3)) for c in CLASSES} for k in range(per_scene)} for i in range(scenes)
    ]


def test_labelled_lists_take_one_keyframe_per_scene() -> None:
    lists = draw_labelled(_frames(30, 4), count=20, subsets=3, seed=1)
    assert sorted(lists) == ["0", "1", "2"]
    for names in lists.values():
        assert len(names) == len(set(names)) == 20
        assert len({name[:3] for name in names}) == 20
    assert lists["0"] != lists["1"]
    assert lists == draw_labelled(_frames(30, 4), count=20, subsets=3, seed=1)
    assert lists != draw_labelled(_frames(30, 4), count=20, subsets=3, seed=2)


def test_labelled_lists_go_round_again_when_scenes_are_few() -> None:
    names = draw_labelled(_frames(8, 2), count=12, subsets=1, seed=0)["0"]
    assert len(set(names)) == 12
    assert len({name[:3] for name in names}) == 8


def test_labelled_lists_need_every_class() -> None:
    frames = _frames(5, 2)
    for scene in frames:
        for counts in scene.values():
            counts["bus"] = 0
    with pytest.raises(DataError, match="bus"):
        draw_labelled(frames, count=5, subsets=1, seed=0)


def test_labelled_frames_are_training_frames_of_every_class(tmp_path: Path) -> None:
    # One scarce class in a single frame: of many draws one that has it is kept.
    frames = _frames(10, 2)
    for i, scene in enumerate(frames):
        for k, counts in enumerate(scene.values()):
            counts["trailer"] = int(i == 4 and k == 1)
    assert "0041" in draw_labelled(frames, count=6, subsets=1, seed=5)["0"]
