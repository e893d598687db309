"""Own category names, and a training with nothing to learn from."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevkd.classes import CLASSES, LABELS
from bevkd.cli import main
from bevkd.config import identity, load_run
from bevkd.config.schema import DataConfig, GridConfig, ModelConfig
from bevkd.data import FrameDataset, convert_nuscenes
from bevkd.data.index import FrameIndex
from bevkd.data.summary import summarise
from bevkd.errors import ConfigError, DataError
from bevkd.eval.nuscenes import write_submission
from bevkd.eval.nuscenes.ground_truth import load_ground_truth
from bevkd.train.stream import training_frames

VERSION = "v1.0-sim"
MAPPED = {
    **{f"my_{name}": name for name in ("car", "truck", "trailer", "motorcycle", "bicycle")},
    "my_construction": "construction_vehicle",
    "my_bus.rigid": "bus",
    "my_barrier": "barrier",
    "my_pedestrian.adult": "pedestrian",
    "my_pedestrian.construction_worker": "pedestrian",
    "my_trafficcone": "traffic_cone",
}


@pytest.fixture(scope="module")
def own(smoke_dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The simulated data set with category names of somebody else, and its index."""
    root = tmp_path_factory.mktemp("own") / "data"
    shutil.copytree(smoke_dataset.root / VERSION, root / VERSION)
    for name in ("samples", "sweeps"):
        shutil.copytree(smoke_dataset.root / name, root / name, copy_function=os.link)
    path = root / VERSION / "category.json"
    path.write_text(re.sub(r'"(vehicle|human|movable_object|static_object)\.', '"my_', path.read_text()))
    return root, convert_nuscenes(root, VERSION, root.parent / "index")


def data_of(root: Path, index: Path, **changes: Any) -> DataConfig:
    return DataConfig(root=str(root), version=VERSION, index=str(index), lidar_sweeps=0, **changes)


def run_of(own: tuple[Path, Path], *more: str, run: str = "lidar_base") -> Any:
    return load_run(run, "smoke", 0, [f"data.root={own[0]}", f"data.index={own[1]}", *more])


def test_own_names_are_classes(own: tuple[Path, Path], smoke_dataset: Any) -> None:
    usual = FrameDataset(data_of(smoke_dataset.root, smoke_dataset.index), ModelConfig(), "train", train=True, seed=0)
    frames = FrameDataset(data_of(*own, categories=MAPPED), ModelConfig(), "train", train=True, seed=0)
    assert frames.class_lists() == usual.class_lists()
    assert frames.target_counts().usable == usual.target_counts().usable
    same, other = (load_ground_truth(r, VERSION, "val", c) for r, c in ((smoke_dataset.root, None), (own[0], MAPPED)))
    assert np.array_equal(same.boxes.label, other.boxes.label)


def test_three_ways_to_say_it(own: tuple[Path, Path]) -> None:
    usual = run_of(own).data.classes
    added = run_of(own, "data.classes={my_truck: truck}").data
    assert (added.classes, added.categories) == (usual, {"my_truck": "truck"})
    both = run_of(own, "data.classes=[car, {my_truck: truck}, {nothing: null}]").data
    assert (both.classes, both.categories) == (("car", "truck"), {"my_truck": "truck", "nothing": None})


def test_names_in_a_data_set_file(own: tuple[Path, Path], config_copy: Path) -> None:
    path = config_copy / "datasets" / "nuscenes_sim.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"  classes: {my_truck: truck, my_bus.rigid: bus}\r\n")
    found = run_of(own, "data.classes={my_car: car}").data
    assert found.categories == {"my_truck": "truck", "my_bus.rigid": "bus", "my_car": "car"}
    assert found.classes == CLASSES


def test_settings_without_own_names_are_the_same_run(own: tuple[Path, Path]) -> None:
    before = identity(run_of(own))
    assert "categories" not in before["data"]
    assert identity(run_of(own, "data.categories={}", "data.rescale_images=false")) == before
    assert identity(run_of(own, "data.classes={my_truck: truck}"))["data"]["categories"] == {"my_truck": "truck"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{my_truck: trukc}", "did you mean 'truck'"),
        ("[car, {my_truck: lorry}]", "lorry"),
        ("[caar]", "did you mean 'car'"),
        ("{my_truck: truck, MY_truck: car}", "same category"),
        ("{3: truck}", "categor"),
    ],
)
def test_bad_mappings(own: tuple[Path, Path], value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(own, f"data.classes={value}")


@pytest.mark.parametrize("more", [[], ["data.cbgs=true"], ["train.frames_limit=2"]])
def test_unknown_names_are_refused_and_named(own: tuple[Path, Path], more: list[str]) -> None:
    with pytest.raises(
        DataError, match=r"no usable box of data\.classes in the labelled frames of split train"
    ) as error:
        training_frames(run_of(own, *more))
    assert re.search(r"(\d+) boxes in \d+ labelled frames, \1 of unknown category \(my_", str(error.value))


def test_every_filter_is_named(smoke_dataset: Any) -> None:
    plain = data_of(smoke_dataset.root, smoke_dataset.index)
    everything = FrameDataset(plain, ModelConfig(), "train", train=True, seed=0).target_counts()
    total = everything.few_points + everything.outside + sum(everything.usable.values())
    assert everything.boxes == total + sum(everything.other.values()) + sum(everything.unknown.values())
    cases = [
        (
            data_of(smoke_dataset.root, smoke_dataset.index, min_points=10**6),
            ModelConfig(),
            "fewer than 1000000 points",
        ),
        (data_of(smoke_dataset.root, smoke_dataset.index, classes=("tram",)), ModelConfig(), r"of other classes \("),
        (plain, ModelConfig(grid=GridConfig(reach=54.0, x=(48.0, 54.0), y=(48.0, 54.0))), "outside the grid"),
    ]
    for data, model, message in cases:
        with pytest.raises(DataError, match=message):
            FrameDataset(data, model, "train", train=True, seed=0).require_targets()


def test_pasting_says_why_there_is_nothing_to_paste(own: tuple[Path, Path]) -> None:
    data = data_of(*own, augment={"gt_paste": {"car": 3}})
    with pytest.raises(DataError, match="of unknown category"):
        FrameDataset(data, ModelConfig(), "train", train=True, seed=0)


def test_what_is_pasted_has_the_labels_of_today(own: tuple[Path, Path], tmp_path: Path) -> None:
    index = shutil.copytree(own[1], tmp_path / "index")
    pasted = []
    for label in ("car", "truck"):
        data = data_of(own[0], index, categories={"my_car": label}, augment={"gt_paste": {"car": 3, "truck": 3}})
        paste = FrameDataset(data, ModelConfig(), "train", train=True, seed=0)._paste
        assert paste is not None
        nothing = np.zeros((1, 5), np.float32), np.zeros((0, 9)), np.zeros(0, dtype=np.int64)
        pasted.append({LABELS[one] for one in paste.paste(*nothing, np.random.default_rng(0))[2].tolist()})
    assert pasted == [{"car"}, {"truck"}]


def test_unlabelled_frames_are_no_way_around(own: tuple[Path, Path]) -> None:
    run = run_of(own, "train.unlabelled_per_batch=1")
    run = replace(run, row=replace(run.row, frames="all"))
    with pytest.raises(DataError, match="no usable box"):
        training_frames(run)


def test_the_command_line_says_it(own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert = ["convert", "--dataset", "nuscenes", "--root", str(own[0]), "--version", VERSION, "--out"]
    assert main([*convert, str(tmp_path / "plain")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"my_truck +- +\d+", text)
    assert "no box has a class" in text
    assert main(["doctor", "--root", str(own[0])]) == 3
    text = capsys.readouterr().out
    assert "format    nuscenes" in text
    assert VERSION in text
    assert "no box has a class" in text
    names = tmp_path / "names.yaml"
    names.write_text("classes: {my_truck: truck, my_car: car}\n")
    assert main([*convert, str(tmp_path / "mapped"), "--classes", str(names)]) == 0
    assert re.search(r"my_truck +truck +\d+", capsys.readouterr().out)
    assert "my_truck" in summarise(tmp_path / "mapped")
    boxes = FrameIndex.open(tmp_path / "mapped", "train").boxes
    assert {name for name, label in zip(boxes.category, boxes.labels, strict=True) if label >= 0} == {
        "my_truck",
        "my_car",
    }
    names.write_text("classes: {my_truck: trukc}\n")
    assert main([*convert, str(tmp_path / "bad"), "--classes", str(names)]) == 2
    assert "did you mean 'truck'" in capsys.readouterr().err
    for nothing in ("classes: [truck]", "classes:"):
        names.write_text(nothing)
        assert main([*convert, str(tmp_path / "bad"), "--classes", str(names)]) == 2
        assert "maps no category" in capsys.readouterr().err
    names.write_text("classes: {a: truck,\n a: car}")
    assert main([*convert, str(tmp_path / "bad"), "--classes", str(names)]) == 2
    assert capsys.readouterr().err.endswith("'a' is defined twice in line 2, column 2\n")
    names.write_text(json.dumps({"class": {}}))
    assert main([*convert, str(tmp_path / "bad"), "--classes", str(names)]) == 2
    train = ["train", "--run", "lidar_base", "--scale", "smoke", "--runs", str(tmp_path / "runs")]
    settings = ["--set", f"data.root={own[0]}", "--set", f"data.index={tmp_path / 'plain'}"]
    assert main([*train, *settings]) == 3
    assert "of unknown category (my_" in capsys.readouterr().err


def test_own_names_in_evaluations(own: tuple[Path, Path], smoke_dataset: Any, tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text(json.dumps({"classes": MAPPED}))
    truth = load_ground_truth(smoke_dataset.root, VERSION, "val")
    frames = {token: truth.boxes.take(truth.boxes.frame == i) for i, token in enumerate(truth.tokens)}
    results = tmp_path / "results.json"
    write_submission(results, {token: replace(boxes, score=np.ones(len(boxes))) for token, boxes in frames.items()})
    arguments = ["--version", VERSION, "--split", "val", "--results", str(results), "--out"]
    for root, more, out in ((smoke_dataset.root, [], "a"), (own[0], ["--classes", str(names)], "b")):
        assert main(["evaluate", "nuscenes", "--root", str(root), *arguments, str(tmp_path / out), *more]) == 0
    one, other = (json.loads((tmp_path / out).read_text()) for out in "ab")
    assert one["mean_dist_aps"] == other["mean_dist_aps"]
    assert one["mean_ap"] > 0.5
