"""Curves of metrics over a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from report_synthetic import write_run

from bevkd.config import RowConfig, load_rows
from bevkd.errors import ConfigError, DataError
from bevkd.io import write_json
from bevkd.report.figure_kinds import CurveSpec, TrainingCurves
from bevkd.report.figures import write
from bevkd.report.metrics import metric
from bevkd.report.runs import Runs
from bevkd.report.spec import load_figures, pool
from bevkd.report.training import snapshot_values, training_curves


def kept(root: Path, row: RowConfig, mean_ap: dict[int, list[float]], train: dict[str, int]) -> None:
    """Finished runs of a row with snapshots; mean AP by seed, the model's own last."""
    for seed, values in mean_ap.items():
        folder = write_run(root, row, seed, values[-1])
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["train"] |= train | {"snapshots": len(values)}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        for i, value in enumerate(values[:-1], 1):
            write_json(folder / "snapshots" / f"{i}of{len(values)}" / "metrics_val.json", {"mean_ap": value})


ROWS = {name: RowConfig(id=name, dataset="d", model="camera", seeds=(0, 1)) for name in ("camera_a", "camera_b")}
SPEC = TrainingCurves(
    name="f", title="", caption="", kind="training_curves",
    curves=(CurveSpec("A", "camera_a"), CurveSpec("B", "camera_b")),
)  # fmt: skip


def test_values_over_a_training(tmp_path: Path) -> None:
    kept(tmp_path, ROWS["camera_a"], {0: [0.1, 0.2, 0.3], 1: [0.2, 0.4, 0.5]}, {"steps": 600})
    kept(tmp_path, ROWS["camera_b"], {0: [0.1, 0.1], 1: [0.2, 0.3]}, {"steps": 300})
    runs = Runs(tmp_path, "sim", ROWS)
    assert snapshot_values(runs, "camera_b", "report", ["mAP"])[1] == {
        0.5: {"mAP": pytest.approx(20)},
        1.0: {"mAP": pytest.approx(30)},
    }
    (axes,) = training_curves(SPEC, runs).axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[200, 400, 600], [150, 300]]
    assert axes.lines[0].get_ydata() == pytest.approx([15, 30, 40])
    assert axes.lines[1].get_ydata() == pytest.approx([15, 20])
    assert axes.get_xlabel() == "training step"
    png, pdf = write(SPEC, runs, tmp_path / "figures")
    assert png.stat().st_size > 5000
    assert pdf.exists()
    (runs.folder("camera_a", 1) / "snapshots" / "2of3" / "metrics_val.json").unlink()
    with pytest.raises(DataError, match="'camera_a', seed 1: snapshot 2 of 3 has no metrics"):
        training_curves(SPEC, runs)


def test_the_published_curves_stand_below(tmp_path: Path) -> None:
    """DistillBEV, Fig. 6, at the six points of its table; the runs of the figure say which curves."""
    rows = load_rows("sim")
    spec = load_figures("sim")["distillbev_f6"]
    assert isinstance(spec, TrainingCurves)
    for curve in spec.curves:
        (run,) = pool(curve.run)
        row = replace(rows[run], seeds=(0, 1))
        kept(tmp_path, row, {0: [0.1] * 6, 1: [0.3] * 6}, {"steps": 600})
        rows[run] = row
    figure = training_curves(replace(spec, metrics=("mAP",)), Runs(tmp_path, "sim", rows))
    ours, paper = figure.axes
    assert (ours.get_title(), paper.get_title()) == ("ours", "paper")
    plain, from_cp, _ = paper.lines
    assert plain.get_xdata() == pytest.approx([1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1])
    assert plain.get_ydata() == pytest.approx([22.93, 28.66, 29.56, 31.29, 32.74, 32.84])
    assert from_cp.get_ydata()[-1] == pytest.approx(36.34)
    band = ours.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((20 - 200**0.5, 20 + 200**0.5))
    with pytest.raises(ConfigError, match=r"published: unknown table 'distillbev_f7' .did you mean 'distillbev_f6'"):
        training_curves(replace(spec, published="distillbev_f7"), Runs(tmp_path, "sim", rows))


def test_parts_of_a_training_are_metrics(tmp_path: Path) -> None:
    """Columns and claims name them as they name groups; two of them compare as groups do."""
    kept(tmp_path, ROWS["camera_a"], {0: [0.1, 0.2, 0.35], 1: [0.2, 0.4, 0.5]}, {"steps": 600})
    runs = Runs(tmp_path, "sim", ROWS)
    first, late, gain = "mAP@training:1/3", "mAP@training:3/3", "mAP@training:3/3 vs training:1/3"
    assert {metric(key).file for key in (first, late, gain)} == {"snapshots"}
    found = runs.values("camera_a", "report", ["mAP", first, late, gain])
    assert found[0] == pytest.approx({"mAP": 35, first: 10, late: 35, gain: 25})
    assert found[1] == pytest.approx({"mAP": 50, first: 20, late: 50, gain: 30})
    with pytest.raises(DataError, match="training:1/6"):
        runs.values("camera_a", "report", ["mAP@training:1/6"])
    for wrong in ("frames@training:1/3", "mAP@training:1/3 vs range:0-20"):
        with pytest.raises(ConfigError, match="a part of the training"):
            metric(wrong)


def test_schedules_in_epochs(tmp_path: Path) -> None:
    """DistillBEV, Fig. 6: mAP after 4, 8, ... epochs."""
    kept(tmp_path, ROWS["camera_a"], dict.fromkeys((0, 1), [0.1] * 6), {"steps": 0, "epochs": 24})
    kept(tmp_path, ROWS["camera_b"], dict.fromkeys((0, 1), [0.2] * 6), {"steps": 0, "epochs": 24})
    (axes,) = training_curves(SPEC, Runs(tmp_path, "sim", ROWS)).axes
    assert axes.lines[0].get_xdata().tolist() == [4, 8, 12, 16, 20, 24]
    assert axes.get_xlabel() == "epoch"
    kept(tmp_path, ROWS["camera_b"], dict.fromkeys((0, 1), [0.2] * 6), {"steps": 10})
    with pytest.raises(ConfigError, match="some schedules are counted in steps"):
        training_curves(SPEC, Runs(tmp_path, "sim", ROWS))


def test_a_run_without_snapshots(tmp_path: Path) -> None:
    write_run(tmp_path, ROWS["camera_a"], 0, 0.1)
    with pytest.raises(ConfigError, match="'camera_a' keeps no snapshots"):
        snapshot_values(Runs(tmp_path, "sim", ROWS), "camera_a", "report", ["mAP"])
