"""Metrics by distance, weather and light: which groups there are, and that each is what it would be alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_nuscenes_world import Recipe, World, assert_same, devkit_metrics, make_world

from bevkd.cli.app import main
from bevkd.errors import ConfigError, DataError
from bevkd.eval.nuscenes import (
    KINDS,
    DetectionConfig,
    GroundTruth,
    Predictions,
    break_down,
    break_down_files,
    evaluate,
    evaluate_files,
    load_ground_truth,
    make_boxes,
)
from bevkd.eval.nuscenes.filtering import ego_distance, filter_boxes
from bevkd.eval.nuscenes.metrics import match_counted
from bevkd.report.metrics import metric, said, value_of
from bevkd.report.shown import shown, shown_groups

CONFIG = DetectionConfig()
OWN = ("mean_ap_present", "frames", "boxes", "boxes_per_class")
CAR, TRUCK, PEDESTRIAN = 0, 1, 8


def boxes(*rows: tuple[int, float, int], score: tuple[float, ...] | None = None) -> Any:
    """Boxes from (frame, metres ahead of the vehicle, label), equal in everything else."""
    frame, x, label = zip(*rows, strict=True)
    n = len(rows)
    return make_boxes(
        frame,
        [[100.0 + ahead, 200.0, 1.0] for ahead in x],
        np.ones((n, 3)),
        np.tile([1.0, 0.0, 0.0, 0.0], (n, 1)),
        np.zeros((n, 2)),
        label,
        score=score,
        attribute=np.full(n, 5),
        num_points=None if score else np.ones(n),
    )


def small(annotated: Any, detected: Any, *descriptions: str | None) -> tuple[GroundTruth, Any]:
    frames = max(len(descriptions), 1)
    origin = np.tile([100.0, 200.0, 0.0], (frames, 1))
    tokens = tuple(f"t{i}" for i in range(frames))
    gt = GroundTruth(tokens, origin, annotated, annotated.take([]), descriptions=descriptions)
    return gt, match_counted(gt, Predictions(detected), CONFIG)


def test_groups_by_range_are_half_open():
    """Two cars, at 19.99 m and at 20 m, both found: one detection and one annotation each."""
    cars = ((0, 19.99, CAR), (0, 20.0, CAR))
    found = break_down(*small(boxes(*cars), boxes(*cars, score=(0.9, 0.8)), "By day"), CONFIG, ("range",))
    assert list(found) == ["range:0-20", "range:20-30", "range:30-50"]
    assert [group["boxes"] for group in found.values()] == [1, 1, 0]
    assert [group["mean_dist_aps"]["car"] for group in found.values()] == pytest.approx([1.0, 1.0, 0.0])
    assert [group["frames"] for group in found.values()] == [1, 1, 1]
    for group in list(found.values())[:2]:
        assert group["boxes_per_class"] == dict.fromkeys(CONFIG.class_range, 0) | {"car": 1}
        assert group["mean_ap"] == pytest.approx(0.1)
        assert group["mean_ap_present"] == pytest.approx(1.0)
        # Of ten classes (nine with a heading, eight with a velocity and attributes) one is without error.
        assert group["tp_errors"] == pytest.approx(
            {"trans_err": 0.9, "scale_err": 0.9, "orient_err": 8 / 9, "vel_err": 7 / 8, "attr_err": 7 / 8}
        )
        assert group["nd_score"] == pytest.approx((5 * 0.1 + 0.1 + 0.1 + 1 / 9 + 1 / 8 + 1 / 8) / 10)
    empty = found["range:30-50"]
    assert (empty["mean_ap"], empty["mean_ap_present"], empty["nd_score"]) == (0.0, None, 0.0)
    assert set(empty["tp_errors"].values()) == {1.0}


def test_a_pair_across_a_border_is_a_miss_and_a_false_detection():
    found = break_down(*small(boxes((0, 19.9, CAR)), boxes((0, 20.1, CAR), score=(0.9,)), "x"), CONFIG, ("range",))
    assert found["range:0-20"]["mean_dist_aps"]["car"] == 0.0
    assert found["range:0-20"]["label_tp_errors"]["car"]["trans_err"] == 1.0
    assert found["range:20-30"]["boxes"] == 0


def test_the_detection_of_another_bin_gives_its_annotation_free():
    """In all, the better detection takes the annotation at 19.9 m; within its bin the other one does."""
    annotated = boxes((0, 19.9, CAR))
    gt, matched = small(annotated, boxes((0, 20.1, CAR), (0, 19.0, CAR), score=(0.9, 0.8)), "x")
    assert matched.at[2.0].row.tolist() == [0, -1]
    found = break_down(gt, matched, CONFIG, ("range",))
    assert found["range:0-20"]["label_aps"]["car"] == pytest.approx({"0.5": 0, "1.0": 1, "2.0": 1, "4.0": 1})
    assert found["range:0-20"]["label_tp_errors"]["car"]["trans_err"] == pytest.approx(0.9)


def test_groups_of_scenes():
    """Words count in any case; a scene at night in rain is in both groups; a class may be missing in one."""
    annotated = boxes((0, 5.0, CAR), (1, 5.0, CAR), (1, 9.0, TRUCK), (2, 5.0, PEDESTRIAN))
    detected = boxes((0, 5.0, CAR), (1, 5.0, CAR), (2, 9.0, CAR), score=(0.9, 0.8, 0.7))
    texts = ("Night, RAIN, parked cars", "Parked cars, after rain", "Turn left")
    found = break_down(*small(annotated, detected, *texts), CONFIG, ("weather", "lighting"))
    assert list(found) == ["weather:rainy", "weather:sunny", "lighting:night", "lighting:day"]
    assert [found[name]["frames"] for name in found] == [2, 1, 1, 2]
    assert [found[name]["boxes"] for name in found] == [3, 1, 1, 3]
    rainy, sunny, night, day = found.values()
    assert {name: n for name, n in rainy["boxes_per_class"].items() if n} == {"car": 2, "truck": 1}
    assert (rainy["mean_ap"], rainy["mean_ap_present"]) == (pytest.approx(0.1), pytest.approx(0.5))
    assert (sunny["mean_ap"], sunny["mean_ap_present"]) == (0.0, 0.0)
    assert night["mean_dist_aps"]["truck"] == 0.0
    assert night["label_tp_errors"]["truck"]["trans_err"] == 1.0
    assert (night["mean_ap"], night["mean_ap_present"]) == (pytest.approx(0.1), pytest.approx(1.0))
    assert (day["boxes_per_class"]["car"], day["boxes_per_class"]["pedestrian"]) == (1, 1)


@pytest.mark.parametrize("bins", [(), (0.0,), (0.0, 20.0, 20.0), (20.0, 0.0), (-1.0, 5.0), (0.0, float("nan"))])
def test_bins_are_rising_distances(bins: tuple[float, ...]):
    with pytest.raises(ConfigError, match="rising numbers of metres"):
        break_down(*small(boxes((0, 5.0, CAR)), boxes((0, 5.0, CAR), score=(0.9,))), CONFIG, ("range",), bins)


def test_unknown_kinds_and_scenes_without_words():
    case = small(boxes((0, 5.0, CAR)), boxes((0, 5.0, CAR), score=(0.9,)), None)
    with pytest.raises(ConfigError, match="did you mean 'weather'"):
        break_down(*case, CONFIG, ("wether",))
    with pytest.raises(DataError, match=r"no text.*scene\.json.*t0.*description"):
        break_down(*case, CONFIG, ("weather",))
    bare = small(boxes((0, 5.0, CAR)), boxes((0, 5.0, CAR), score=(0.9,)))
    with pytest.raises(DataError, match="nothing is known of the scenes"):
        break_down(*bare, CONFIG, ("lighting",))


# Two worlds of one split each, whose scenes are told apart by their descriptions.
RECIPES = [
    Recipe(seed=3, frames=12, annotations=25, detections=60, empty=0.1, edge=0.3),
    Recipe(seed=4, frames=12, annotations=25, detections=60, grid=0.5, levels=6, edge=0.3, racks=2, custom=True),
    Recipe(seed=5, frames=8, annotations=30, detections=90, grid=1.0, levels=2, classes=("car", "barrier", "bicycle")),
]
TEXTS = ("Night, rain, peds", "Parked cars", "Rain", "night")
EDGES = (0.0, 5.0, 10.0, 30.0)


def scenes_world(root: Path, recipe: Recipe) -> World:
    """A world whose split has four scenes of different weather and light: frames by turns."""
    world = make_world(root, recipe)
    inside = "scene-a" if recipe.custom else "scene-0103"
    splits = ["scene-a", *(f"scene-a{i}" for i in range(1, 4))]
    names = splits if recipe.custom else ["scene-0103", "scene-0916", "scene-0103b", "scene-0916b"]
    described = dict(zip(names, TEXTS, strict=True)) if recipe.custom else dict(zip(names[:2], TEXTS[:2], strict=True))
    scenes = [scene for scene in world.tables["scene"] if scene["token"] != inside]
    scenes += [{"token": n, "name": n, "log_token": "log", "description": text} for n, text in described.items()]
    world.tables["scene"] = scenes
    mine = [sample for sample in world.tables["sample"] if sample["scene_token"] == inside]
    for i, sample in enumerate(mine):
        sample["scene_token"] = list(described)[i % len(described)]
    if recipe.custom:
        (root / world.version / "splits.json").write_text(json.dumps({"train": ["scene-b"], "tune": names}))
    return world.write()


def of_frames(world: World, word: str, wanted: bool) -> Callable[[dict[str, Any]], bool]:
    said = {scene["token"]: word in scene["description"].lower() for scene in world.tables["scene"]}
    frames = {sample["token"]: said[sample["scene_token"]] == wanted for sample in world.tables["sample"]}
    return lambda box: frames[box["sample_token"]]


def of_range(world: World, low: float, high: float) -> Callable[[dict[str, Any]], bool]:
    ego = {
        pose["token"].split("/lidar")[0]: pose["translation"]
        for pose in world.tables["ego_pose"]
        if pose["token"].endswith("/lidar/True")
    }

    def inside(box: dict[str, Any]) -> bool:
        x, y = (box["translation"][k] - ego[box["sample_token"]][k] for k in (0, 1))
        return low <= np.sqrt(x * x + y * y) < high

    return inside


def predicates(world: World) -> dict[str, Callable[[dict[str, Any]], bool]]:
    bins = pairwise(EDGES)
    return {f"range:{low:g}-{high:g}": of_range(world, low, high) for low, high in bins} | {
        "weather:rainy": of_frames(world, "rain", True),
        "weather:sunny": of_frames(world, "rain", False),
        "lighting:night": of_frames(world, "night", True),
        "lighting:day": of_frames(world, "night", False),
    }


def restricted(world: World, keep: Callable[[dict[str, Any]], bool]) -> World:
    """The same world, all of whose frames stay, with some boxes made not to count.

    Annotations lose their points, so that velocities, which come from neighbours in time, stay what they are.
    """
    world = dataclasses.replace(world, tables=json.loads(json.dumps(world.tables)))
    for record in world.tables["sample_annotation"]:
        if not keep(record) and "rack" not in record["instance_token"]:
            record["num_lidar_pts"] = record["num_radar_pts"] = 0
    results = {token: [box for box in found if keep(box)] for token, found in world.submission["results"].items()}
    world.submission = {**world.submission, "results": results}
    return world.write()


def pure(summary: dict[str, Any]) -> dict[str, Any]:
    dropped = ("eval_time", "cfg", "meta", "warnings", "breakdowns", *OWN)
    return {key: value for key, value in summary.items() if key not in dropped}


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_are_what_the_evaluator_says_of_them_alone(tmp_path: Path, recipe: Recipe):
    world, out = scenes_world(tmp_path, recipe), tmp_path / "metrics.json"
    place = (tmp_path, world.version, world.split, world.results, out)
    evaluate_files(*place)
    plain = json.loads(out.read_text())
    evaluate_files(*place, by=KINDS, range_bins=EDGES)
    whole = json.loads(out.read_text())
    groups = whole.pop("breakdowns")
    assert {**whole, "eval_time": 0} == {**plain, "eval_time": 0}
    assert list(whole) == list(plain)
    assert 0 < whole["mean_ap"] < 1
    only = tmp_path / "breakdown.json"
    assert break_down_files(*place[:-1], only, range_bins=EDGES).keys() == groups.keys()
    assert json.loads(only.read_text()) == groups
    told = predicates(world)
    assert list(groups) == list(told)
    for name, keep in told.items():
        part = restricted(world, keep)
        evaluate_files(*place)
        assert pure(json.loads(out.read_text())) == pure(groups[name]), name
        gt = load_ground_truth(tmp_path, part.version, part.split)
        counted = filter_boxes(gt.boxes, gt, CONFIG)
        assert groups[name]["boxes"] == len(counted) == sum(groups[name]["boxes_per_class"].values())
        assert groups[name]["boxes_per_class"]["car"] == (counted.label == CAR).sum()
    # Groups differ from each other and from the whole, or nothing was tested.
    assert len({group["mean_ap"] for group in groups.values()} | {whole["mean_ap"]}) > 4


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_of_a_kind_are_a_partition(tmp_path: Path, recipe: Recipe):
    world = scenes_world(tmp_path, recipe)
    place = (tmp_path, world.version, world.split, world.results, tmp_path / "breakdown.json")
    found = break_down_files(*place, range_bins=EDGES)
    gt = load_ground_truth(tmp_path, world.version, world.split)
    counted = filter_boxes(gt.boxes, gt, CONFIG)
    near = counted.take(ego_distance(counted, gt) < EDGES[-1])
    assert 0 < len(near) < len(counted)
    for kind, all_boxes in (("range", near), ("weather", counted), ("lighting", counted)):
        groups = [group for name, group in found.items() if name.startswith(kind)]
        assert sum(group["boxes"] for group in groups) == len(all_boxes)
        for label, name in enumerate(("car", "truck")):
            assert sum(group["boxes_per_class"][name] for group in groups) == (all_boxes.label == label).sum()
        frames = [group["frames"] for group in groups]
        assert frames == [len(gt.tokens)] * 3 if kind == "range" else sum(frames) == len(gt.tokens)
        assert all(frames)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_equal_the_devkit(tmp_path: Path, recipe: Recipe):
    """The devkit on the boxes of each group, in files of their own."""
    pytest.importorskip("nuscenes", reason="the nuScenes devkit is the oracle")
    world = scenes_world(tmp_path, recipe)
    place = (tmp_path, world.version, world.split, world.results, tmp_path / "breakdown.json")
    groups = break_down_files(*place, range_bins=EDGES)
    for name, keep in predicates(world).items():
        restricted(world, keep)
        summary, _ = devkit_metrics(tmp_path, world.version, world.split, world.results)
        assert_same(pure(json.loads(json.dumps(groups[name]))), pure(summary), name)


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from bevkd.eval.nuscenes import run

    world, count = scenes_world(tmp_path, RECIPES[0]), dict.fromkeys(("load_ground_truth", "load_predictions"), 0)
    for name in count:
        real = getattr(run, name)

        def counting(*args: Any, name: str = name, real: Any = real) -> Any:
            count[name] += 1
            return real(*args)

        monkeypatch.setattr(run, name, counting)
    evaluate_files(tmp_path, world.version, world.split, world.results, tmp_path / "m.json", by=KINDS)
    assert set(count.values()) == {1}


def test_scenes_without_a_description_are_evaluated_as_before(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    world = scenes_world(tmp_path, RECIPES[0])
    for scene in world.tables["scene"]:
        del scene["description"]
    world.write()
    place = (tmp_path, world.version, world.split, world.results, tmp_path / "m.json")
    assert "breakdowns" not in evaluate_files(*place).content()
    assert evaluate_files(*place, by=("range",)).breakdowns.keys() == {"range:0-20", "range:20-30", "range:30-50"}
    with pytest.raises(DataError, match="no text that tells its weather"):
        evaluate_files(*place, by=("weather",))
    assert {name.split(":")[0] for name in break_down_files(*place)} == {"range"}
    assert "groups are by range alone" in caplog.text


def test_the_command_line_shows_and_writes_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    world, out = scenes_world(tmp_path, RECIPES[0]), tmp_path / "metrics.json"
    options = ["--root", str(tmp_path), "--version", world.version, "--split", world.split]
    command = ["evaluate", "nuscenes", *options, "--results", str(world.results), "--out", str(out)]
    assert main([*command, "--by", "range", "--by", "weather", "--by", "range", "--range-bins", "0,7.5,30"]) == 0
    content = json.loads(out.read_text())
    assert list(content["breakdowns"]) == ["range:0-7.5", "range:7.5-30", "weather:rainy", "weather:sunny"]
    said = capsys.readouterr().out
    assert "by range (m)" in said
    assert "by weather" in said
    rainy = next(line.split() for line in said.splitlines() if line.strip().startswith("rainy"))
    group = content["breakdowns"]["weather:rainy"]
    assert rainy[1:4] == [f"{100 * group[key]:.1f}" for key in ("mean_ap", "mean_ap_present", "nd_score")]
    assert rainy[-2:] == [str(group["frames"]), str(group["boxes"])]
    assert shown(content) in said
    assert shown_groups(content["breakdowns"]) in shown(content)
    for wrong, message in ((["--by", "snow"], "no groups are made by 'snow'"), (["--range-bins", "0"], "rising")):
        assert main([*command, *wrong]) != 0
        assert message in capsys.readouterr().err
    assert main([*command, "--range-bins", "near"]) != 0
    assert "numbers with commas" in " ".join(capsys.readouterr().err.split())


def test_metrics_of_groups_are_columns():
    group = {"mean_ap": 0.25, "mean_ap_present": None, "frames": 40, "boxes": 7, "tp_errors": {"vel_err": 0.5}}
    content, file = {"range:0-10": group}, Path("b.json")
    assert value_of(content, "mAP@range:0-10", file) == 25.0
    assert value_of(content, "mAVE@range:0-10", file) == 50.0
    assert np.isnan(value_of(content, "mAP_present@range:0-10", file))
    assert (value_of(content, "frames@range:0-10", file), value_of(content, "boxes@range:0-10", file)) == (40, 7)
    assert metric("boxes@range:0-10").shown.text(7.0) == "7"
    for key in ("mAP_present", "frames", "boxes"):
        assert metric(f"{key}@weather:rainy").file == "breakdown"
        with pytest.raises(ConfigError, match="of groups alone"):
            metric(key)
    with pytest.raises(DataError, match="not a finite number"):
        value_of({"range:0-10": {"mean_ap": None}}, "mAP@range:0-10", file)


def test_a_metric_may_be_the_difference_of_two_groups():
    groups = {
        "range:0-10": {"mean_ap": 0.25, "tp_errors": {"vel_err": 1.5}},
        "range:10-15": {"mean_ap": 0.1, "tp_errors": {"vel_err": 0.5}},
    }
    file = Path("b.json")
    assert value_of(groups, "mAP@range:0-10 vs range:10-15", file) == pytest.approx(15.0)
    assert value_of(groups, "mAVE@range:10-15 vs range:0-10", file) == pytest.approx(-100.0)
    assert metric("mAVE@range:10-15 vs range:0-10").is_learnt(500.0), "a difference of errors has no limit"
    assert said("mAP@range:0-10 vs range:10-15") == "mAP, range 0-10 vs range 10-15"
    with pytest.raises(DataError, match=r"lacks a field.*range:15-25"):
        value_of(groups, "mAP@range:0-10 vs range:15-25", file)
    for wrong in ("mAP@range:0-10 vs 10-15", "mAP@range:0-10 vs ", "mAP@a:1 vs b:2 vs c:3"):
        with pytest.raises(ConfigError, match="two groups are compared as in"):
            metric(wrong)


def test_arrays_have_no_scenes():
    """Ground truth made of arrays has no descriptions, and is evaluated without them."""
    case = boxes((0, 5.0, CAR))
    gt = GroundTruth(("t",), np.array([[100.0, 200.0, 0.0]]), case, case.take([]))
    assert evaluate(gt, Predictions(boxes((0, 5.0, CAR), score=(0.9,)))).mean_dist_aps["car"] == pytest.approx(1.0)
