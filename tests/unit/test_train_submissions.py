"""Detections in the benchmarks' own formats: what is annotated, handed in as detections, is found by every metric."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from bevkd.classes import LABEL_INDEX
from bevkd.config import RunConfig
from bevkd.config.schema import DataConfig, GridConfig, ModelConfig, RowConfig
from bevkd.data import FrameDataset
from bevkd.data.batch import Boxes
from bevkd.data.kitti import read_folder
from bevkd.data.kitti.boxes import difficulty
from bevkd.data.options import ConvertOptions
from bevkd.data.waymo.convert import FOLDERS
from bevkd.errors import ConfigError
from bevkd.models.bev.second_fpn_settings import SecondFPNSettings
from bevkd.models.heads.center_settings import CenterDecodeSettings, CenterSettings
from bevkd.models.lidar.pillar_settings import PillarSettings
from bevkd.registry import lookup, names
from bevkd.report.metrics import KITTI_CLASSES, KITTI_LEVELS, WAYMO_TYPES, value_of
from bevkd.sim import KITTI_SCALES, WAYMO_SCALES, simulate_kitti, simulate_waymo
from bevkd.sim.config import LabelledConfig, SplitConfig
from bevkd.train.predict import apply_run, evaluate_run

CLASSES = {"kitti": ("car", "pedestrian", "cyclist"), "waymo": ("vehicle", "pedestrian", "cyclist")}


def run_of(reader: str, folder: Path) -> RunConfig:
    classes = CLASSES[reader]
    grid = GridConfig(reach=80.0, cell=0.8)
    return RunConfig(
        run="r",
        scale="smoke",
        seed=0,
        row=RowConfig(id="r", dataset="d", model="m"),
        model=ModelConfig(sensors=("lidar",), grid=grid, head=CenterSettings(tasks=(classes,))),
        data=DataConfig(
            kind=reader, root=str(folder / "data"), index=str(folder / "index"), classes=classes, lidar_sweeps=0
        ),
    )


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kitti")
    config = replace(
        KITTI_SCALES["smoke"],
        splits=SplitConfig(train=2, tune=1, val=4, keyframes_per_scene=2),
        labelled=LabelledConfig(count=4, subsets=1),
    )
    simulate_kitti(config, folder / "data", seed=5)
    lookup("reader", "kitti").convert(folder / "data", None, folder / "index")
    return folder


@pytest.fixture(scope="module")
def waymo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waymo")
    smoke = WAYMO_SCALES["smoke"]
    config = replace(
        smoke,
        splits=replace(smoke.splits, train=2, tune=1, val=2, keyframes_per_scene=2),
        labelled=LabelledConfig(count=4, subsets=1),
    )
    simulate_waymo(config, folder / "data", seed=5)
    lookup("reader", "waymo").convert(folder / "data", None, folder / "index")
    return folder


def perfect(frames: FrameDataset) -> dict[str, Boxes]:
    """The annotations as detections, with different scores."""
    out, rng = {}, np.random.default_rng(0)
    for i, token in enumerate(frames.tokens):
        boxes, labels = frames.boxes(i)
        n = len(labels)
        out[token] = Boxes(
            torch.from_numpy(boxes).float(),
            torch.from_numpy(labels),
            torch.zeros(n, dtype=torch.long),
            torch.from_numpy(rng.uniform(0.3, 1, n)).float(),
        )
    return out


def test_every_reader_has_a_submission() -> None:
    assert names("submission") == names("reader")


def test_kitti_annotations_are_found(kitti: Path, tmp_path: Path) -> None:
    run = run_of("kitti", kitti)
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    submission = lookup("submission", "kitti")
    results = submission.write(run, frames, perfect(frames), tmp_path / "predictions_val")
    assert sorted(path.stem for path in results.iterdir()) == sorted(frames.tokens)
    written = read_folder(results, frames.tokens, scored=True)
    labels = read_folder(kitti / "data/training/label_2", frames.tokens, scored=False)
    cars = labels.select(labels.kind == 0)
    found = written.select(written.kind == 0)
    assert len(cars) == len(found) > 5
    for name, tolerance in (("height", 1e-3), ("length", 1e-3), ("x", 0.01), ("z", 0.01), ("x1", 6.0), ("y2", 6.0)):
        np.testing.assert_allclose(found.column(name), cars.column(name), atol=tolerance)
    metrics = submission.evaluate(run, frames, results, tmp_path / "metrics.json")
    assert {*KITTI_CLASSES, "mean", "frames"} == set(metrics)
    assert metrics["frames"] == len(frames)
    assert set(metrics["Car"]["3d"]) == set(KITTI_LEVELS)
    # Every annotated car is found; the evaluator reaches no more of its forty recall positions than there are cars.
    counted = int((difficulty(cars) <= 2).sum())
    assert value_of(metrics, "3d_Car_hard", tmp_path) == pytest.approx(100 * min(1, counted / 40), abs=2.6)
    assert value_of(metrics, "bev_Car_hard", tmp_path) >= value_of(metrics, "3d_Car_hard", tmp_path)
    again = submission.write(run, frames, {t: Boxes.empty() for t in frames.tokens}, tmp_path / "predictions_val")
    assert all(path.read_text() == "" for path in again.iterdir())
    nothing = submission.evaluate(run, frames, again, tmp_path / "metrics.json")
    assert value_of(nothing, "3d_Car_hard", tmp_path) == 0


def test_kitti_testing_cannot_be_evaluated(kitti: Path, tmp_path: Path) -> None:
    run = run_of("kitti", kitti)
    frames = cast(Any, SimpleNamespace(tokens=["test_000000"], split="test"))
    with pytest.raises(ConfigError, match="no labels"):
        lookup("submission", "kitti").evaluate(run, frames, tmp_path, tmp_path / "m.json")


def test_waymo_annotations_are_found(waymo: Path, tmp_path: Path) -> None:
    run = run_of("waymo", waymo)
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    submission = lookup("submission", "waymo")
    results = submission.write(run, frames, perfect(frames), tmp_path / "predictions_val")
    metrics = submission.evaluate(run, frames, results, tmp_path / "metrics.json")
    for kind in WAYMO_TYPES:
        assert f"OBJECT_TYPE_TYPE_{kind}_LEVEL_2" in metrics
    for key in ("L1_AP_vehicle", "L2_AP_vehicle", "L2_APH_vehicle", "L2_AP_pedestrian"):
        assert value_of(metrics, key, tmp_path) == pytest.approx(100.0, abs=0.1)
    with np.load(results) as arrays:
        assert len(arrays["gt_box"]) == len(arrays["pred_box"]) > 10
        assert set(arrays["gt_difficulty"].tolist()) <= {1, 2}


def test_waymo_truth_does_not_depend_on_settings_of_training(waymo: Path) -> None:
    run = run_of("waymo", waymo)
    counts = []
    for least in (0, 1, 30):
        data = replace(run.data, min_points=least)
        frames = FrameDataset(data, run.model, "val", train=False, seed=0)
        counts.append(sum(len(frames.annotations(i)[0]) for i in range(len(frames))))
    assert counts[0] == counts[1] == counts[2] > 10


def test_waymo_for_cameras_counts_what_they_see(waymo: Path, tmp_path: Path) -> None:
    """The cameras look to the front and the sides (115 degrees either way): nothing behind them counts."""
    run = run_of("waymo", waymo)
    every = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    own = replace(run, data=replace(run.data, boxes_in_view=True))
    frames = FrameDataset(own.data, own.model, "val", train=False, seed=0)
    submission = lookup("submission", "waymo")
    metrics = submission.evaluate(
        own, frames, submission.write(own, frames, perfect(every), tmp_path / "predictions_val"), tmp_path / "m.json"
    )
    assert value_of(metrics, "L2_AP_vehicle", tmp_path) == pytest.approx(100.0, abs=0.1)
    with np.load(tmp_path / "predictions_val.npz") as arrays:
        counted, found = arrays["gt_box"], arrays["pred_box"]
    total = sum(len(every.annotations(i)[0]) for i in range(len(every)))
    assert 5 < len(counted) == len(found) < 0.9 * total
    angle = np.degrees(np.abs(np.arctan2(counted[:, 1], counted[:, 0] - 1.4)))
    assert angle.max() < 120
    train = FrameDataset(own.data, own.model, "train", train=True, seed=0)
    taught = np.concatenate([train.boxes(i)[0] for i in range(len(train))])
    assert np.degrees(np.abs(np.arctan2(taught[:, 1], taught[:, 0] - 1.4))).max() < 120


@pytest.mark.parametrize("name", ["nuscenes", "kitti"])
def test_other_benchmarks_count_every_box(name: str, waymo: Path) -> None:
    run = run_of("waymo", waymo)
    run = replace(run, data=replace(run.data, boxes_in_view=True))
    head = replace(run.model.head, tasks=(("car",),))
    run = replace(run, model=replace(run.model, head=head))
    with pytest.raises(ConfigError, match=r"data\.boxes_in_view"):
        lookup("submission", name).check(run, {"version": run.data.version})


def test_waymo_refuses_other_classes_and_splits_without_labels(waymo: Path, tmp_path: Path) -> None:
    run = run_of("waymo", waymo)
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    submission = lookup("submission", "waymo")
    found = perfect(frames)
    for boxes in found.values():
        boxes.labels[:] = LABEL_INDEX["bus"]
    with pytest.raises(ConfigError, match="'bus' is no class of Waymo"):
        submission.write(run, frames, found, tmp_path / "predictions_val")
    results = submission.write(run, frames, perfect(frames), tmp_path / "predictions_val")
    table = frames.index.boxes
    nothing = {name: getattr(table, name)[:0] for name in ("boxes", "labels", "points", "lidar_points", "difficulty")}
    object.__setattr__(frames.index, "boxes", replace(table, **nothing))
    with pytest.raises(ConfigError, match="has no labels"):
        submission.evaluate(run, frames, results, tmp_path / "metrics.json")


def test_tables_name_the_evaluators_classes() -> None:
    from bevkd.eval.kitti import CLASSES as kitti_classes
    from bevkd.eval.kitti import DIFFICULTIES
    from bevkd.eval.waymo import TYPES

    assert tuple(kitti_classes) == KITTI_CLASSES
    assert tuple(DIFFICULTIES) == KITTI_LEVELS
    assert tuple(TYPES) == WAYMO_TYPES


def untrained(run: RunConfig, out: Path) -> Path:
    """The folder of a run whose weights are random."""
    from bevkd.models.detector import build_detector
    from bevkd.train.checkpoint import save_model

    out.mkdir(parents=True)
    save_model(out, dict(build_detector(run.model).state_dict()), run, 0, "")
    return out


def small(run: RunConfig) -> RunConfig:
    lidar = PillarSettings(cell=1.6, channels=(8, 12), max_points=0, max_voxels=0, out_channels=8)
    bev = SecondFPNSettings(widths=(8, 8), depths=(1, 1), up_channels=8)
    model = replace(run.model, grid=GridConfig(reach=51.2, cell=3.2), lidar=lidar, bev=bev)
    head = replace(run.model.head, shared_channels=8, branch_channels=0)
    return replace(run, model=replace(model, head=head, decode=CenterDecodeSettings(score_threshold=0.0, top_k=20)))


def test_kitti_testing_gets_results_only(kitti: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(kitti / "data", data)
    for part in ("velodyne", "image_2", "calib"):
        shutil.copytree(data / "training" / part, data / "testing" / part)
    lookup("reader", "kitti").convert(data, None, tmp_path / "index")
    run = small(run_of("kitti", tmp_path))
    out = untrained(run, tmp_path / "run")
    found = apply_run(out, "test")
    assert found.metrics is found.file is None
    assert found.results == out / "predictions_test"
    names = sorted(path.stem for path in (data / "testing/velodyne").iterdir())
    assert found.frames == len(names) > 3
    assert sorted(path.name for path in found.results.iterdir()) == [f"{name}.txt" for name in names]
    assert len(read_folder(found.results, names, scored=True)) > 0
    assert evaluate_run(out, "test") == {}
    assert not (out / "metrics_test.json").exists()
    # Labelled: frames without a label file do not count.
    val = (data / "ImageSets/val.txt").read_text().split()
    (data / "training/label_2" / f"{val[0]}.txt").unlink()
    assert apply_run(out, "val").metrics["frames"] == len(val) - 1  # type: ignore[index]


@pytest.mark.parametrize("folder", ["testing", "testing_location", "domain_adaptation_validation"])
def test_waymo_folders_without_labels_get_results_only(waymo: Path, tmp_path: Path, folder: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(waymo / "data", data)
    shutil.copytree(data / "validation", data / folder)
    shutil.rmtree(data / folder / "lidar_box")
    lookup("reader", "waymo").convert(data, None, tmp_path / "index")
    run = small(run_of("waymo", tmp_path))
    out = untrained(run, tmp_path / "run")
    found = apply_run(out, FOLDERS[folder])
    assert found.metrics is found.file is None
    assert found.results == out / f"predictions_{FOLDERS[folder]}.bin"
    with np.load(found.results.with_suffix(".npz")) as arrays:
        assert len(arrays["gt_box"]) == 0
        assert len(arrays["pred_box"]) > 0
        # A byte pattern per object: the name of its segment.
        segments = [path.stem for path in (data / folder / "vehicle_pose").iterdir()]
        content = found.results.read_bytes()
        assert sum(content.count(name.encode()) for name in segments) == len(arrays["pred_box"])
    whole = apply_run(out, "val")
    assert whole.metrics is not None
    assert whole.metrics["frames"] == whole.frames == 4
    assert whole.metrics["LET"]["MEAN_LEVEL_2"].keys() == {"ap", "aph", "apl"}


def test_other_formats_and_classes_are_refused_before_detection(kitti: Path, waymo: Path, tmp_path: Path) -> None:
    out = untrained(small(run_of("kitti", kitti)), tmp_path / "run")
    where = {"data": {"index": str(waymo / "index"), "root": str(waymo / "data")}}
    with pytest.raises(ConfigError, match="is of waymo, the run reads kitti"):
        apply_run(out, "val", where)
    where["data"]["kind"] = "waymo"
    with pytest.raises(ConfigError, match="'car' is no class of Waymo"):
        apply_run(out, "val", where)
    other = untrained(small(run_of("waymo", waymo)), tmp_path / "other")
    where = {"data": {"index": str(kitti / "index"), "root": str(kitti / "data"), "kind": "kitti"}}
    found = apply_run(other, "val", where)  # two of its three classes are KITTI's, too
    assert found.results.parent.parent == other / "applied"
    assert found.metrics is not None
    assert not list(other.glob("predictions*"))


def test_detections_in_frames_without_labels_are_not_false(waymo: Path, tmp_path: Path) -> None:
    """A frame of a labelled split without labels says nothing of a detector; metrics left from labels do not stay."""
    shutil.copytree(waymo / "data", tmp_path / "data")
    run = run_of("waymo", tmp_path)
    files = sorted((tmp_path / "data" / "validation" / "lidar_box").iterdir())
    found = perfect(FrameDataset(replace(run.data, index=str(waymo / "index")), run.model, "val", train=False, seed=0))
    files[0].unlink()
    options = ConvertOptions(missing_labels="unlabelled")
    lookup("reader", "waymo").convert(tmp_path / "data", None, tmp_path / "index", options=options)
    frames = FrameDataset(run.data, run.model, "val", train=False, seed=0)
    submission = lookup("submission", "waymo")
    results = submission.write(run, frames, found, tmp_path / "predictions_val")
    metrics = submission.evaluate(run, frames, results, tmp_path / "metrics_val.json")
    assert (metrics["frames"], len(frames)) == (2, 4)
    assert value_of(metrics, "L2_AP_vehicle", tmp_path) == pytest.approx(100.0, abs=0.1)
    files[1].unlink()
    lookup("reader", "waymo").convert(tmp_path / "data", None, tmp_path / "index", options=options)
    out = untrained(small(run), tmp_path / "run")
    (out / "metrics_val.json").write_text("{}")
    applied = apply_run(out, "val")
    assert (applied.metrics, applied.results.name) == (None, "predictions_val.bin")
    assert not (out / "metrics_val.json").exists()
