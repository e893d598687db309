"""Masks of a simulated data set: they are of the pixels that are seen, and nothing else of it changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevkd.classes import CLASS_OF_CATEGORY, CLASSES
from bevkd.errors import DataError
from bevkd.geometry import invert, pose
from bevkd.instance_masks import masks_name, read_masks
from bevkd.sim import SCALES, camera, simulate_nuscenes
from bevkd.sim.config import SplitConfig
from bevkd.sim.masks import is_simulated, simulate_masks
from bevkd.sim.nuscenes import VERSION, plan
from bevkd.sim.rig import CAMERAS
from bevkd.sim.scene import world_of

TINY = replace(
    SCALES["smoke"],
    splits=SplitConfig(train=2, tune=1, val=1, keyframes_per_scene=2),
    world=replace(SCALES["smoke"].world, counts=tuple((name, 4.0) for name, _ in SCALES["smoke"].world.counts)),
    labelled=replace(SCALES["smoke"].labelled, count=2, subsets=1),
)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(root: Path, name: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((root / VERSION / f"{name}.json").read_text())
    return content


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with masks; what was there before is compared here."""
    root = tmp_path_factory.mktemp("masks") / "data"
    simulate_nuscenes(TINY, root, seed=3)
    before = files(root)
    assert simulate_masks(root) == 6 * 8
    after = files(root)
    assert {name: after[name] for name in before} == before
    new = set(after) - set(before)
    assert len(new) == 48
    assert all("_MASKS/" in name for name in new)
    return root


def key_images(root: Path) -> list[dict[str, Any]]:
    rows = table(root, "sample_data")
    return [row for row in rows if row["is_key_frame"] and row["filename"].split("/")[1] in CAMERAS]


def test_masks_are_of_the_pixels_that_are_seen(masked: Path) -> None:
    """Every image is rendered again: an object's mask is where its parts are the nearest that a ray meets."""
    scenes = {row["token"]: row["name"] for row in table(masked, "scene")}
    samples = {row["token"]: scenes[row["scene_token"]] for row in table(masked, "sample")}
    names = [name for split in json.loads((masked / VERSION / "splits.json").read_text()).values() for name in split]
    jobs = {job.name: job for job in plan(TINY, names, masked, 3)[0]}
    worlds = {name: world_of(job) for name, job in jobs.items()}
    checked, scores = 0, []
    for row in key_images(masked):
        job = jobs[samples[row["sample_token"]]]
        world, channel = worlds[job.name], row["filename"].split("/")[1]
        grid = camera.pinhole(job.log.calibrations[channel], job.config.camera)
        t_s = (row["timestamp"] - job.middle_us) * 1e-6
        ego = world.ego.pose(t_s)
        boxes = world.boxes(t_s, ego)
        hits = camera.render(world, boxes, ego, grid, t_s, np.random.default_rng(0), True)[1]
        expected = []
        for i, thing in enumerate(world.objects):
            mask = np.array([part >= 0 and world.owner[part] == i for part in hits.box.tolist()])
            if thing.annotated and mask.sum() >= 4:
                expected.append((CLASSES.index(thing.kind), mask.sum() / hits.alone[i], mask.reshape(64, 176)))
        found = list(read_masks(masked / masks_name(row["filename"]), (row["height"], row["width"])))
        assert [one.label for one in found] == [label for label, *_ in expected]
        for one, (_, score, mask) in zip(found, expected, strict=True):
            assert np.array_equal(one.mask, mask)
            assert one.score == pytest.approx(score, abs=1e-4)
            checked += 1
            scores.append(one.score)
    assert checked > 100
    assert min(scores) < 0.5 < max(scores) <= 1.0


def test_masks_agree_with_the_annotations(masked: Path) -> None:
    """Each mask lies in the projection of a box of its class, as far as objects are annotated, by the tables alone."""
    tables = {name: {row["token"]: row for row in table(masked, name)} for name in ("calibrated_sensor", "ego_pose")}
    categories = {row["token"]: row["name"] for row in table(masked, "category")}
    instances = {row["token"]: categories[row["category_token"]] for row in table(masked, "instance")}
    held = covered = total = 0
    for row in key_images(masked):
        mount, ego = (tables[n][row[f"{n}_token"]] for n in ("calibrated_sensor", "ego_pose"))
        global_from_camera = pose(ego["translation"], ego["rotation"]) @ pose(mount["translation"], mount["rotation"])
        intrinsics = np.array(mount["camera_intrinsic"])
        rectangles: list[tuple[str, np.ndarray]] = []
        for note in table(masked, "sample_annotation"):
            if note["sample_token"] != row["sample_token"]:
                continue
            width, length, height = note["size"]
            signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
            corners = np.column_stack([signs * [length, width, height], np.ones(8)])
            local = corners @ (invert(global_from_camera) @ pose(note["translation"], note["rotation"])).T
            if (local[:, 2] < 0.3).any():
                continue
            pixel = local[:, :3] @ intrinsics.T
            pixel = pixel[:, :2] / pixel[:, 2:]
            rectangles.append(
                (CLASS_OF_CATEGORY[instances[note["instance_token"]]], np.r_[pixel.min(axis=0), pixel.max(axis=0)])
            )
        for one in read_masks(masked / masks_name(row["filename"]), (row["height"], row["width"])):
            rows, columns = np.nonzero(one.mask)
            mine = [edge for name, edge in rectangles if name == CLASSES[one.label]]
            shares = [
                ((columns + 1 >= x0 - 2) & (columns <= x1 + 2) & (rows + 1 >= y0 - 2) & (rows <= y1 + 2)).mean()
                for x0, y0, x1, y1 in mine
            ]
            total += 1
            held += bool(shares and max(shares) > 0.98)
            covered += bool(mine)
    assert total > 100
    assert covered > 0.5 * total  # others are beyond the annotated area, or reach behind the camera
    assert held > 0.85 * covered, (held, covered, total)


def test_the_same_masks_whatever_was_there(masked: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(masked, root)
    before = files(root)
    masks = sorted(name for name in before if "_MASKS/" in name)
    (root / masks[0]).unlink()
    (root / masks[1]).write_text("{}")
    assert simulate_masks(root, workers=2) == 48
    after = files(root)
    assert after[masks[0]] == before[masks[0]]
    assert after[masks[1]] == b"{}", "files that are there are kept"
    assert simulate_masks(root, restart=True) == 48
    assert files(root) == before


def test_only_what_the_simulator_made(masked: Path, tmp_path: Path) -> None:
    assert is_simulated(masked, VERSION)
    assert not is_simulated(tmp_path, VERSION)
    with pytest.raises(DataError, match="missing"):
        simulate_masks(tmp_path)
    root = tmp_path / "data"
    shutil.copytree(masked / VERSION, root / VERSION)
    record = root / VERSION / "simulation.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"seed": content["seed"] + 1}))
    with pytest.raises(DataError, match="another world") as caught:
        simulate_masks(root)
    assert caught.value.token
    assert not list(root.rglob("*_MASKS"))
    record.write_text(json.dumps({"seed": 3, "config": {"splits": 7}}))
    with pytest.raises(DataError, match="not what the simulator says"):
        simulate_masks(root)
    shutil.copyfile(masked / VERSION / "simulation.json", record)
    rows = table(root, "sample_data")
    victim = next(row for row in rows if row["filename"].startswith("samples/CAM_FRONT/"))
    victim["filename"] = "samples/CAM_FRONT/../../../elsewhere/x.jpg"
    (root / VERSION / "sample_data.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="leads out"):
        simulate_masks(root)
