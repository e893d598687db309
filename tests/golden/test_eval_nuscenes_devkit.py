"""Our metrics against the official devkit, on random worlds that provoke its corner cases."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from eval_nuscenes_world import Recipe, assert_same, devkit_metrics, make_world
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bevkd.classes import CLASSES
from bevkd.eval.nuscenes import DetectionConfig, evaluate, evaluate_files, load_ground_truth, load_predictions

pytest.importorskip("nuscenes", reason="the nuScenes devkit is the oracle")
pytestmark = pytest.mark.filterwarnings("ignore")  # the devkit's own

recipes = st.builds(
    Recipe,
    seed=st.integers(0, 2**31),
    frames=st.integers(1, 5),
    annotations=st.integers(1, 12),
    detections=st.integers(1, 25),
    near=st.sampled_from([0.0, 0.6, 1.0]),
    grid=st.sampled_from([None, 0.25, 0.5, 1.0, 2.0]),
    levels=st.sampled_from([None, 1, 2, 5]),
    classes=st.one_of(
        st.just(CLASSES),
        st.sampled_from([("car",), ("barrier", "traffic_cone"), ("bicycle", "motorcycle", "pedestrian")]),
    ),
    nan_velocity=st.sampled_from([0.0, 0.3, 1.0]),
    no_attribute=st.sampled_from([0.0, 0.4, 1.0]),
    racks=st.integers(0, 2),
    edge=st.sampled_from([0.0, 0.1, 0.6]),
    empty=st.sampled_from([0.0, 0.3]),
    seconds=st.sampled_from([0.5, 1.4, 1.6, 3.5]),
    custom=st.booleans(),
)


def compare(root: Path, recipe: Recipe, config: DetectionConfig | None = None) -> dict:
    world = make_world(root, recipe)
    inside = {s["token"] for s in world.tables["sample"] if s["scene_token"] in ("scene-a", "scene-0103")}
    # The devkit cannot take a world without any box of one kind.
    assume(any(world.submission["results"][token] for token in inside))
    counted = {i["token"] for i in world.tables["instance"] if not i["token"].endswith(("animal", "rack"))}
    inside_counted = [
        a for a in world.tables["sample_annotation"] if a["sample_token"] in inside and a["instance_token"] in counted
    ]
    assume(inside_counted)
    # ... nor, in its range filter, one without velocities: warnings apart, everything else it can.
    summary, details = devkit_metrics(
        root, world.version, world.split, world.results, config.to_dict() if config else None
    )
    out = root / "metrics.json"
    curves = root / "curves.json"
    metrics = evaluate_files(root, world.version, world.split, world.results, out, config, curves)
    written = json.loads(out.read_text())
    assert written.pop("meta") == world.submission["meta"]
    assert written.pop("frames") == len(inside)
    written.pop("warnings", None)
    assert_same(written, summary)
    assert list(written) == list(summary)
    assert_same(metrics.details(), details)
    assert_same(json.loads(curves.read_text()), details)
    return summary


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(recipe=recipes)
def test_equals_devkit_on_random_worlds(recipe):
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), recipe)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    recipe=recipes,
    reach=st.sampled_from([5.0, 10, 25.5]),
    thresholds=st.sampled_from([(0.5, 1.0, 2.0, 4.0), (2.0,), (8.0, 2.0, 0.1)]),
    min_recall=st.sampled_from([0.0, 0.1, 0.5]),
    min_precision=st.sampled_from([0.0, 0.3]),
)
def test_equals_devkit_with_other_settings(recipe, reach, thresholds, min_recall, min_precision):
    config = DetectionConfig(
        dist_ths=thresholds, min_recall=min_recall, min_precision=min_precision, mean_ap_weight=3
    ).with_range(reach)
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), recipe, config)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(seed=1, frames=40, annotations=60, detections=200, grid=0.5, levels=20),
        Recipe(
            seed=2, frames=40, annotations=60, detections=200, classes=("pedestrian", "bicycle", "barrier"), racks=4
        ),
        Recipe(seed=3, frames=40, annotations=30, detections=100, nan_velocity=1.0, no_attribute=1.0),
    ],
    ids=["crowded ties", "racks", "nothing known"],
)
def test_equals_devkit_on_crowds(tmp_path, recipe):
    summary = compare(tmp_path, recipe)
    assert 0 < summary["mean_ap"] < 1


def test_the_worlds_reach_the_corner_cases(tmp_path):
    """Guards the property test: what it is about does occur in its worlds."""
    world = make_world(tmp_path, Recipe(seed=5, frames=30, annotations=20, detections=30, levels=5, grid=0.5))
    gt = load_ground_truth(world.root, world.version, world.split)
    pred = load_predictions(world.results, gt)
    assert len(gt.racks)
    assert np.isnan(gt.boxes.velocity).any()
    assert not np.isnan(gt.boxes.velocity).all()
    assert np.isnan(pred.boxes.velocity).any()
    assert (gt.boxes.attribute < 0).any()
    assert (gt.boxes.num_points == 0).any()
    assert len(set(pred.boxes.frame)) < len(gt.tokens)
    from bevkd.eval.nuscenes.filtering import filter_boxes

    config = DetectionConfig()
    open_config = DetectionConfig().with_range(50)
    kept = filter_boxes(pred.boxes, gt, config)
    assert len(kept) < len(pred.boxes)
    no_racks = filter_boxes(pred.boxes, type(gt)(gt.tokens, gt.ego_translation, gt.boxes, gt.racks.take([])), config)
    assert len(kept) < len(no_racks)
    assert open_config == config
    assert evaluate(gt, pred).mean_ap > 0


def test_rack_faces_are_on_the_same_side():
    """Centres right on the faces of racks, where rounding decides."""
    from nuscenes.utils.data_classes import Box
    from nuscenes.utils.geometry_utils import points_in_box
    from pyquaternion import Quaternion

    from bevkd.eval.nuscenes import make_boxes
    from bevkd.eval.nuscenes.racks import in_racks

    rng = np.random.default_rng(0)
    n = 1500
    size = rng.integers(1, 9, (n, 3)) / 2
    angle = rng.choice([0, np.pi / 4, np.pi / 2, np.pi / 8, np.pi / 3, 1.0], n)
    rotation = np.column_stack([np.cos(angle), np.zeros((n, 2)), np.sin(angle)]) * rng.choice([1.0, 3.0], (n, 1))
    centre = rng.choice([0.0, 1000.5, 0.1], (n, 3))
    racks = [Box(c, s, Quaternion(q)) for c, s, q in zip(centre, size, rotation, strict=True)]
    corner = np.stack([rack.corners() for rack in racks])
    points = np.where(rng.random((n, 1)) < 0.5, corner[:, :, 0], corner[:, :, rng.integers(8)])
    points = np.where(rng.random((n, 1)) < 0.5, points, corner[:, :, [0, 7]].mean(axis=2))
    theirs = [bool(points_in_box(rack, point[:, None])[0]) for rack, point in zip(racks, points, strict=True)]
    empty = np.zeros((n, 2))
    frame, label = np.arange(n), np.zeros(n)
    ours = in_racks(
        make_boxes(frame, points, size, rotation, empty, label),
        make_boxes(frame, centre, size, rotation, empty, label),
        n,
    )
    np.testing.assert_array_equal(ours, theirs)
    assert 0.2 < np.mean(theirs) < 0.8  # rounding does decide
