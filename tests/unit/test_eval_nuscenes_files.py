"""What the nuScenes evaluation reads and writes, and what it says about bad files."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math

import numpy as np
import pytest
from eval_nuscenes_world import CLASS_OF, Recipe, make_world

from bevkd.errors import ConfigError, DataError
from bevkd.eval.nuscenes import (
    DetectionConfig,
    evaluate_files,
    load_ground_truth,
    load_predictions,
    make_boxes,
    write_submission,
)
from bevkd.eval.nuscenes.constants import ATTRIBUTES
from bevkd.eval.nuscenes.splits import official_splits

RECIPE = Recipe(seed=11, frames=4, empty=0.0, nan_velocity=0.0, racks=1)


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path, RECIPE)


def run(world):
    out = world.root / "out" / "metrics.json"
    try:
        return evaluate_files(world.root, world.version, world.split, world.results, out)
    except DataError:
        assert not out.exists()
        assert not list(out.parent.glob("*")) if out.parent.exists() else True
        raise


def first_box(world):
    token = next(token for token, boxes in world.submission["results"].items() if len(boxes) > 1)
    return token, world.submission["results"][token][1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("translation", [1.0, 2.0]),
        ("translation", [1.0, float("nan"), 2.0]),
        ("translation", [1.0, None, 2.0]),
        ("translation", 3),
        ("size", [1.0, 2.0, 3.0, 4.0]),
        ("size", [1.0, 0.0, 3.0]),
        ("rotation", [1.0, 0.0, 0.0]),
        ("rotation", [float("inf"), 0.0, 0.0, 0.0]),
        ("velocity", [1.0, 2.0, 3.0]),
        ("velocity", None),
        ("detection_name", "cat"),
        ("detection_name", ["car"]),
        ("detection_score", float("nan")),
        ("detection_score", float("inf")),
        ("detection_score", None),
        ("attribute_name", "vehicle.flying"),
        ("attribute_name", None),
        ("sample_token", "another"),
    ],
)
def test_a_bad_box_is_named(world, field, value):
    token, box = first_box(world)
    box[field] = value
    world.write()
    with pytest.raises(DataError, match="box 1") as caught:
        run(world)
    assert (caught.value.file, caught.value.token, caught.value.field) == (world.results, token, field)


@pytest.mark.parametrize("field", ["translation", "velocity", "detection_name", "detection_score", "attribute_name"])
def test_a_missing_field_is_named(world, field):
    token, box = first_box(world)
    del box[field]
    world.write()
    with pytest.raises(DataError, match="field is missing") as caught:
        run(world)
    assert (caught.value.token, caught.value.field) == (token, field)


def test_a_frame_too_many_too_few_or_too_full(world):
    results = world.submission["results"]
    token = next(iter(results))
    boxes = results.pop(token)
    world.write()
    with pytest.raises(DataError, match="missing") as caught:
        run(world)
    assert caught.value.token == token
    results[token] = boxes
    results["stranger"] = []
    world.write()
    with pytest.raises(DataError, match="not in the split") as caught:
        run(world)
    assert caught.value.token == "stranger"
    del results["stranger"]
    results[token] = [boxes[0]] * 501
    world.write()
    with pytest.raises(DataError, match="at most 500"):
        run(world)
    results[token] = [boxes[0]] * 500
    world.write()
    run(world)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("{", "not valid JSON"),
        ('{"meta": {}}', "must map"),
        ('{"meta": {}, "results": []}', "must map"),
        ('{"results": {}, "meta": {}', "not valid JSON"),
        ('{"meta": {}, "results": {"scene-0103/0": {}}}', "list of boxes"),
        ('{"meta": {}, "results": {"scene-0103/0": [3]}}', "must be an object"),
    ],
)
def test_a_broken_submission(world, text, message):
    world.results.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        run(world)
    assert caught.value.file == world.results


def test_a_truncated_submission_and_one_without_meta(world):
    text = world.results.read_text()
    world.results.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="not valid JSON"):
        run(world)
    del world.submission["meta"]
    world.write()
    with pytest.raises(DataError) as caught:
        run(world)
    assert caught.value.field == "meta"


def test_negative_scores_are_refused_where_the_curve_is_undefined(world):
    for boxes in world.submission["results"].values():
        for box in boxes:
            box["detection_score"] = -1.0
    world.write()
    with pytest.raises(DataError) as caught:
        run(world)
    assert caught.value.field == "detection_score"


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("sample", "scene_token", "nothing"),
        ("sample_data", "ego_pose_token", "nothing"),
        ("ego_pose", "translation", [float("nan"), 0.0, 0.0]),
        ("instance", "category_token", "nothing"),
        ("sample_annotation", "instance_token", "nothing"),
        ("sample_annotation", "attribute_tokens", ["nothing"]),
        ("sample_annotation", "attribute_tokens", ["a0", "a1"]),
        ("sample_annotation", "translation", [1.0, 2.0]),
        ("sample_annotation", "size", [0.0, 1.0, 1.0]),
        ("sample_annotation", "rotation", [float("nan"), 0.0, 0.0, 1.0]),
        ("sample_annotation", "prev", "nothing"),
        ("sample_annotation", "num_lidar_pts", None),
    ],
)
def test_a_bad_record_is_named(world, table, field, value):
    record = next(
        r
        for r in reversed(world.tables[table])
        if r.get("instance_token", "car").endswith(("car", "truck", "adult", "barrier", "bus.rigid"))
        and "lidar/False" not in r["token"]
        and "front" not in r["token"]
    )
    record[field] = value
    world.write()
    with pytest.raises(DataError) as caught:
        run(world)
    assert str(caught.value.file).endswith(f"{table}.json")
    assert (caught.value.token, caught.value.field) == (record["token"], field)


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "ego_pose", "sample_annotation", "instance"])
def test_a_missing_truncated_or_odd_table(world, table):
    path = world.root / world.version / f"{table}.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=f"{table}.json"):
        run(world)
    path.write_text('{"a": 1}')
    with pytest.raises(DataError, match="list of objects"):
        run(world)
    path.write_text("[1, 2]")
    with pytest.raises(DataError, match="list of objects"):
        run(world)
    path.write_text('[{"token": "x"}]')
    with pytest.raises(DataError, match=r"field is missing.*token=x"):
        run(world)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        run(world)


def test_splits(world, tmp_path):
    splits = official_splits()
    assert [len(splits[name]) for name in ("train", "val", "test", "mini_train", "mini_val")] == [700, 150, 150, 8, 2]
    assert len({scene for name in ("train", "val", "test") for scene in splits[name]}) == 1000
    with pytest.raises(ConfigError, match="mini_train, mini_val"):
        load_ground_truth(world.root, world.version, "val")
    with pytest.raises(ConfigError, match="did you mean 'mini_val'"):
        load_ground_truth(world.root, world.version, "mini_vall")
    with pytest.raises(DataError, match="folder of tables"):
        load_ground_truth(world.root, "v1.0-trainval", "val")
    custom = make_world(tmp_path / "custom", dataclasses.replace(RECIPE, custom=True))
    gt = load_ground_truth(custom.root, custom.version, "tune")
    assert all(token.startswith("scene-a/") for token in gt.tokens)
    assert len(load_ground_truth(custom.root, custom.version, "train").tokens) == len(gt.tokens) == 4
    with pytest.raises(ConfigError, match="unknown split"):
        load_ground_truth(custom.root, custom.version, "val")
    path = custom.root / custom.version / "splits.json"
    path.write_text('{"tune": ["nowhere"]}')
    with pytest.raises(DataError, match="'nowhere' is not in the tables"):  # as a conversion says it
        load_ground_truth(custom.root, custom.version, "tune")
    path.write_text('{"tune": []}')
    with pytest.raises(DataError, match="no scene of the split"):
        load_ground_truth(custom.root, custom.version, "tune")
    path.write_text('{"tune": "scene-a"}')
    with pytest.raises(DataError, match="list of scene names"):
        load_ground_truth(custom.root, custom.version, "tune")


def test_a_written_submission_reads_back(world, tmp_path):
    gt = load_ground_truth(world.root, world.version, world.split)
    rng = np.random.default_rng(0)
    frames = {}
    for token in gt.tokens:
        n = int(rng.integers(0, 6))
        frames[token] = make_boxes(
            np.zeros(n),
            rng.normal(size=(n, 3)),
            rng.uniform(1, 2, (n, 3)),
            rng.normal(size=(n, 4)),
            np.where(rng.random((n, 2)) < 0.3, np.nan, 1.5),
            rng.integers(0, 10, n),
            score=rng.random(n),
            attribute=rng.integers(-1, len(ATTRIBUTES), n),
        )
    path = tmp_path / "submission.json"
    write_submission(path, frames, {"use_camera": True})
    pred = load_predictions(path, gt)
    assert pred.meta["use_camera"] is True
    assert pred.meta["use_map"] is False
    for i, token in enumerate(gt.tokens):
        read = pred.boxes.take(pred.boxes.frame == i)
        for name in ("translation", "size", "rotation", "velocity", "label", "score", "attribute"):
            np.testing.assert_array_equal(getattr(read, name), getattr(frames[token], name))
    broken = dataclasses.replace(frames[gt.tokens[0]], score=np.full(len(frames[gt.tokens[0]]), np.nan))
    before = path.read_bytes()
    with pytest.raises(DataError, match=gt.tokens[0]):
        write_submission(path, frames | {gt.tokens[0]: broken})
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


def test_config(tmp_path):
    official = DetectionConfig.cvpr_2019()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(official.to_dict()))
    assert DetectionConfig.from_json(path) == official
    near = official.with_range(32)
    assert near.class_range["car"] == 32
    assert near.class_range["barrier"] == 30
    values = official.to_dict()
    for change, message in (
        ({"dist_th": 3}, "unknown key 'dist_th'"),
        ({"dist_fcn": "iou"}, "unknown dist_fcn"),
        ({"dist_th_tp": 3.0}, "not one of dist_ths"),
        ({"class_range": {"car": 50}}, "must name exactly"),
        ({"min_recall": 1.0}, "must lie in"),
        ({"dist_ths": 4}, "wrong type"),
        ({"dist_ths": ["2"]}, "not a finite number"),
        ({"class_range": values["class_range"] | {"car": "50"}}, "not a finite number"),
        ({"class_range": values["class_range"] | {"car": -50}}, "must be positive"),
        ({"mean_ap_weight": float("nan")}, "not a finite number"),
        ({"mean_ap_weight": -1}, "must not be negative"),
        ({"max_boxes_per_sample": None}, "positive integer"),
        ({"min_recall": "0.1"}, "not a finite number"),
    ):
        with pytest.raises(ConfigError, match=message):
            DetectionConfig.from_dict(values | change)
    del values["min_recall"]
    with pytest.raises(ConfigError, match="missing key 'min_recall'"):
        DetectionConfig.from_dict(values)


def test_metrics_are_strict_json_and_say_how_many_frames(world):
    out, details = world.root / "metrics.json", world.root / "details.json"
    evaluate_files(world.root, world.version, world.split, world.results, out, None, details)

    def refuse(word):
        raise AssertionError(word)

    written = json.loads(out.read_text(), parse_constant=refuse)
    json.loads(details.read_text(), parse_constant=refuse)
    assert written["frames"] == RECIPE.frames
    assert written["label_tp_errors"]["traffic_cone"]["orient_err"] is None


def test_samples_that_do_not_fit_are_counted(world):
    results = world.submission["results"]
    inside = [token for token in results if token.startswith("scene-0103")]
    boxes = [results.pop(token) for token in inside[:2]]
    world.write()
    with pytest.raises(DataError, match=r"2 of 4 samples of the split are missing"):
        run(world)
    results["a"], results["b"] = boxes
    world.write()
    with pytest.raises(DataError, match=r"2 of 4 samples in the file are not in the split, and 2 of 4 .* missing") as e:
        run(world)
    assert e.value.token == "a"


@pytest.mark.parametrize("piece", [1, 1 << 18])
@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"separators": (",", ":")}])
def test_a_sample_that_is_listed_twice(world, monkeypatch, piece, layout):
    """A parser keeps the last of equal keys: in pieces of any size the file is refused with the same words."""
    monkeypatch.setattr("bevkd.eval.nuscenes.jsonio.PIECE_BYTES", piece)
    world.results.write_text(json.dumps(world.submission, **layout))
    run(world)
    (world.root / "out" / "metrics.json").unlink()
    token = list(world.submission["results"])[1]
    held = world.submission["results"] | {"twice": world.submission["results"][token]}
    text = json.dumps(world.submission | {"results": held}, **layout)
    world.results.write_text(text.replace('"twice"', json.dumps(token)))
    with pytest.raises(DataError, match="sample appears twice") as caught:
        run(world)
    assert (caught.value.token, caught.value.field) == (token, "results")


def test_a_compressed_submission(world):
    world.results.write_bytes(gzip.compress(world.results.read_bytes()))
    with pytest.raises(DataError, match="compressed with gzip"):
        run(world)


def _turned(box, angle):
    w, x, y, z = box["rotation"]
    c, s = math.cos(angle / 2), math.sin(angle / 2)
    box["rotation"] = [w * c - z * s, x * c + y * s, y * c - x * s, w * s + z * c]


def _exchanged(box):
    w, l, h = box["size"]  # noqa: E741
    box["size"] = [l, w, h]


def _far(box):
    box["translation"][0] += 1000.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda box: None, ""),
        (_exchanged, "width and length look exchanged"),
        (lambda box: _turned(box, math.pi / 2), "yaw looks off by 90 degrees"),
        (lambda box: _turned(box, math.pi), "yaw looks off by 180 degrees"),
        (lambda box: box.update(rotation=box["rotation"][1:] + box["rotation"][:1]), "in the order x, y, z, w"),
        (_far, "must be in the global frame"),
        (lambda box: _turned(box, hash(str(box["translation"][0] * 7)) % 628 / 100), ""),  # a weak detector
    ],
)
def test_other_conventions_are_named(tmp_path, change, words):
    world = make_world(tmp_path, dataclasses.replace(RECIPE, frames=12, near=0.0, detections=1, racks=0, edge=0.0))
    sizes = {a["token"]: [1.8, 4.2, 1.6] for a in world.tables["sample_annotation"]}
    names = {category["token"]: category["name"] for category in world.tables["category"]}
    kind = {i["token"]: CLASS_OF.get(names[i["category_token"]]) for i in world.tables["instance"]}
    world.submission["results"] = {token: [] for token in world.submission["results"]}
    for record in world.tables["sample_annotation"]:
        record["size"], name = sizes[record["token"]], kind[record["instance_token"]]
        if name is None or record["sample_token"] not in world.submission["results"]:
            continue
        box = {
            "sample_token": record["sample_token"],
            **{key: list(record[key]) for key in ("translation", "size", "rotation")},
            "velocity": [0.0, 0.0],
            "detection_name": name,
            "detection_score": 0.5,
            "attribute_name": "",
        }
        change(box)
        world.submission["results"][record["sample_token"]].append(box)
    metrics = run(world.write())
    written = json.loads((world.root / "out" / "metrics.json").read_text())
    assert written["mean_ap"] == metrics.mean_ap
    warnings = written.get("warnings", [])
    assert len(warnings) == bool(words)
    assert all(words in text for text in warnings)
    assert metrics.content().get("warnings", []) == warnings
