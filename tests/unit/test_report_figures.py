from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from PIL import Image
from report_synthetic import write_run, write_runs

from bevkd.config import RowConfig, RunConfig, load_rows, to_plain
from bevkd.errors import ConfigError, DataError
from bevkd.models.heads.center_settings import CenterLossSettings
from bevkd.report import make_figure
from bevkd.report.curves import dots, learning_curves, loss_curves, points
from bevkd.report.figure_kinds import CurveSpec, Dots, LearningCurves, LossCurves, PanelSpec, SeriesSpec
from bevkd.report.figures import write
from bevkd.report.logs import curve, read_lines, smooth, training_seconds
from bevkd.report.runs import Runs
from bevkd.report.spec import load_figures
from bevkd.report.style import PALETTE, Outside, canvas, legend_outside

ROOT = Path(__file__).resolve().parents[2]
LOSS = CenterLossSettings()
PLAIN = [f.name for f in load_figures().values() if "model" not in f.artefacts and f.target == "all"]


def write_log(path: Path, values: list[float], field: str = "total") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"step": i, "losses": {field: v}, "data_s": 0.5, "compute_s": 1.0} for i, v in enumerate(values)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_moving_average_by_hand():
    values = np.array([1.0, 2.0, 6.0, 3.0])
    assert smooth(values, 1).tolist() == [1, 2, 6, 3]
    assert smooth(values, 3) == pytest.approx([1.5, 3.0, 11 / 3, 4.5])
    assert smooth(np.full(7, 2.5), 4) == pytest.approx(np.full(7, 2.5))


def test_log_errors_name_file_and_field(tmp_path: Path):
    path = write_log(tmp_path / "log.jsonl", [3.0, 2.0])
    steps, values = curve(path, "total", LOSS)
    assert (steps.tolist(), values.tolist()) == ([0, 1], [3, 2])
    assert training_seconds(read_lines(path)) == pytest.approx(3.0)
    with pytest.raises(DataError, match=r"no loss 'totale'.*did you mean 'total'.*field=totale"):
        curve(path, "totale", LOSS)
    path.write_text(path.read_text() + '{"step": 3, "los')
    with pytest.raises(DataError, match=r"line 3 .*not JSON.*log\.jsonl"):
        curve(path, "total", LOSS)
    path.write_text('{"step": 1}\n')
    with pytest.raises(DataError, match="lacks step or losses"):
        curve(path, "total", LOSS)
    path.write_text("")
    with pytest.raises(DataError, match="empty"):
        curve(path, "total", LOSS)
    write_log(path, [1.0, float("nan")])
    with pytest.raises(DataError, match="not finite at step 1"):
        curve(path, "total", LOSS)
    with pytest.raises(DataError, match="missing"):
        curve(tmp_path / "none.jsonl", "total", LOSS)


def test_detection_loss_by_hand(tmp_path: Path):
    terms = {"total": 99.0, "kd_total": 50.0, "heatmap": 2.0, "loc": 4.0, "depth": 7.0}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 10, "losses": terms}) + "\n")
    loss = CenterLossSettings(heatmap_weight=5.0, loc_weight=0.5, iou_aware_weight=3.0)
    assert curve(path, "det", loss)[1].tolist() == [5 * 2 + 0.5 * 4]
    path.write_text(json.dumps({"step": 10, "losses": terms | {"iou_aware": 1.0}}) + "\n")
    assert curve(path, "det", loss)[1].tolist() == [5 * 2 + 0.5 * 4 + 3]
    del terms["loc"]
    path.write_text(json.dumps({"step": 10, "losses": terms}) + "\n")
    with pytest.raises(DataError, match="no loss 'loc'"):
        curve(path, "det", loss)


def test_loss_curves_draw_the_mean_of_the_seeds(tmp_path: Path):
    rows = {"a": RowConfig(id="a", dataset="d", model="m", seeds=(0, 1))}
    for seed, level in enumerate((2.0, 4.0)):
        folder = write_log(tmp_path / f"sim/a/seed{seed}/log.jsonl", [level] * 5).parent
        config = to_plain(RunConfig(run="a", scale="sim", seed=seed, row=rows["a"]))
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    runs = Runs(tmp_path, "sim", rows)
    spec = LossCurves(
        name="f",
        title="",
        caption="",
        kind="loss_curves",
        field="total",
        panels=(PanelSpec("p", (CurveSpec("x", "a"),)),),
    )
    (axes,) = loss_curves(spec, runs).axes
    assert axes.lines[0].get_ydata() == pytest.approx(np.full(5, 3.0))
    write_log(tmp_path / "sim/a/seed1/log.jsonl", [4.0] * 4)
    with pytest.raises(DataError, match="different steps"):
        loss_curves(spec, runs)


def test_dots_show_every_seed_and_the_interval(tmp_path: Path):
    rows = {"a": RowConfig(id="a", dataset="d", model="camera", seeds=(0, 1, 2))}
    for seed, value in enumerate((0.10, 0.11, 0.12)):
        write_run(tmp_path, rows["a"], seed, value)
    panel = PanelSpec("p", (CurveSpec("x", "a"),))
    spec = Dots(name="f", title="", caption="", kind="dots", panels=(panel,), baseline="a")
    (axes,) = dots(spec, Runs(tmp_path, "sim", rows)).axes
    shown = np.concatenate([c.get_offsets()[:, 1] for c in axes.collections if len(c.get_offsets()) == 3])
    assert sorted(shown) == pytest.approx([10, 11, 12])
    whisker = next(c for c in axes.collections if hasattr(c, "get_segments") and len(c.get_segments()))
    low, high = whisker.get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((11 - 2.484138, 11 + 2.484138), abs=1e-5)


def test_learning_curves_are_sorted_by_steps(tmp_path: Path):
    rows = {
        name: RowConfig(id=name, dataset="d", model="camera", set={"train": {"steps": steps}})
        for name, steps in (("base", 600), ("curve_150", 150), ("curve_1200", 1200))
    }
    for i, r in enumerate(rows.values()):
        write_run(tmp_path, r, 0, 0.1 + 0.1 * i)
    series = (SeriesSpec("s", ("curve_*", "base")),)
    spec = LearningCurves(name="f", title="", caption="", kind="learning_curves", series=series)
    (axes,) = learning_curves(spec, Runs(tmp_path, "sim", rows)).axes
    assert axes.lines[0].get_xdata().tolist() == [150, 600, 1200]
    assert axes.lines[0].get_ydata() == pytest.approx([20, 10, 30])


def test_learning_curves_over_the_time_of_a_training(tmp_path: Path):
    rows = {name: RowConfig(id=name, dataset="d", model="camera", seeds=(0, 1)) for name in ("slow", "quick")}
    for name, row in rows.items():
        for seed in row.seeds:
            folder = write_run(tmp_path, row, seed, 0.1 if name == "slow" else 0.2)
            line = {"losses": {}, "data_s": 1.0, "compute_s": 9.0 + 10 * seed if name == "slow" else 0.5}
            log = "".join(json.dumps({"step": step, **line}) + "\n" for step in (10, 20))
            (folder / "log.jsonl").write_text(log)
            config = folder / "config.yaml"
            config.write_text(config.read_text().replace("threads: 1", "threads: 2"))
    series = (SeriesSpec("s", ("slow", "quick")),)
    spec = LearningCurves(name="f", title="", caption="", kind="learning_curves", series=series, over="core_seconds")
    (axes,) = learning_curves(spec, Runs(tmp_path, "sim", rows)).axes
    assert axes.lines[0].get_xdata() == pytest.approx([6, 60]), "mean over seeds, on both threads"
    assert axes.lines[0].get_ydata() == pytest.approx([20, 10])
    assert "core-seconds" in axes.get_xlabel()


def test_learning_curves_leave_their_points_as_numbers(tmp_path: Path):
    """What is drawn and nothing else; errors as papers print them, times 100, which are drawn in their own unit."""
    rows = {
        "two": RowConfig(id="two", dataset="d", model="camera", seeds=(0, 1), set={"train": {"steps": 20}}),
        "one": RowConfig(id="one", dataset="d", model="camera", set={"train": {"steps": 10}}),
    }
    for row, seed, mean_ap in ((rows["two"], 0, 0.1), (rows["two"], 1, 0.2), (rows["one"], 0, 0.125)):
        folder = write_run(tmp_path, row, seed, mean_ap)
        content = json.loads((folder / "metrics_val.json").read_text())
        content["tp_errors"]["trans_err"] = 0.5 + seed
        (folder / "metrics_val.json").write_text(json.dumps(content))
        lines = [{"step": step, "losses": {}, "data_s": 1.0, "compute_s": 2.0 + seed} for step in (5, 10)]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    series = (SeriesSpec("now", ("two", "one")), SeriesSpec("then", ("one",)))
    spec = LearningCurves("f", "", "", kind="learning_curves", series=series, metrics=("mAP", "mATE"))
    runs = Runs(tmp_path, "sim", rows)
    (csv,) = (path for path in write(spec, runs, tmp_path / "figures") if path.suffix == ".csv")
    head = "series,run,steps,seeds,mAP,mAP_low,mAP_high,mATE,mATE_low,mATE_high"
    one, two = "12.5000,12.5000,12.5000,50.0000,50.0000,50.0000", "15.0000,10.0000,20.0000,100.0000,50.0000,150.0000"
    assert csv.read_text().splitlines() == [head, f"now,one,10,1,{one}", f"now,two,20,2,{two}", f"then,one,10,1,{one}"]
    assert learning_curves(spec, runs).axes[1].lines[0].get_ydata() == pytest.approx([0.5, 1.0])
    timed = points(replace(spec, over="core_seconds"), runs)
    assert timed.filter(like="core_seconds").to_numpy().tolist() == [[6, 6, 6], [7, 6, 8], [6, 6, 6]]


def test_findings_print_the_committed_points():
    """Times and mAP of learning_costs.csv as the section prints them, in the order of its cells."""
    points = pd.read_csv(ROOT / "results/figures/learning_costs.csv")
    text = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    section = text.partition("## Learning per core-second")[2].partition("\n## ")[0]
    lines = [line.split("|") for line in section.splitlines() if " after " in line]
    for name in ("LiDAR + camera", "LiDAR", "camera"):
        before, now = next(line[2:4] for line in lines if line[1].strip() == name)
        for series, cell in ((f"{name}, before", before), (name, now)):
            found = points[points["series"] == series]
            printed = re.findall(r"([\d.]+) after (\d+)", cell)
            assert printed == [(f"{p.mAP:.1f}", f"{p.core_seconds:.0f}") for p in found.itertuples()], series


@pytest.mark.parametrize("name", PLAIN)
def test_figure_files(tmp_path: Path, name: str):
    rows = load_rows()
    write_runs(tmp_path / "results/runs", rows, load_figures()[name].needs(rows))
    png, pdf = make_figure(name, "sim", tmp_path / "results/runs")
    assert pdf.read_bytes().startswith(b"%PDF")
    with Image.open(png) as image:
        assert min(image.size) > 400
        assert np.asarray(image.convert("RGB")).std() > 10, "an empty picture"
    before = png.read_bytes(), pdf.read_bytes()
    make_figure(name, "sim", tmp_path / "results/runs")
    assert (png.read_bytes(), pdf.read_bytes()) == before


def test_unknown_figure(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'detections'"):
        make_figure("detection", "sim", tmp_path)


def test_palette_stays_apart_for_colour_blind_eyes():
    """The colours of up to three series differ clearly for deuteranopes and protanopes.

    Simulated by the matrices of Machado et al. (2009), severity 1, in linear light.
    """
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    colours = np.array([to_rgb(c) for c in PALETTE[:3]])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for sight in (np.eye(3), np.array(deutan), np.array(protan)):
        seen = np.clip(linear @ sight.T, 0, 1)
        seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(3)
        assert distance.min() > 0.25


@pytest.mark.parametrize("place", get_args(Outside))
def test_a_legend_is_never_wider_than_its_figure(place: Outside) -> None:
    """Six series below one panel: in one row their names were cut off at both ends."""
    names = [f"LiDAR + camera, before {number}" for number in range(6)]

    def drawn(labels: list[str]) -> tuple[Figure, Legend]:
        figure = canvas(4.2, 3.8)
        axes = figure.subplots()
        lines = [axes.plot([0, 1], label=label)[0] for label in labels]
        legend = legend_outside(figure, lines, place, title="a title")
        figure.canvas.draw()
        return figure, legend

    figure, legend = drawn(names)
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert [text.get_text() for text in legend.get_texts()] == names
    assert len(figure.legends) == 1
    short, _ = drawn(["a", "b"])
    assert short.get_figheight() == 3.8
    heights = [one.axes[0].get_window_extent().height for one in (figure, short)]
    assert heights[0] == pytest.approx(heights[1], rel=0.05), "rows of the legend take nothing from the panel"
