"""Which frames stand for what a distilled run does better, and how they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matches_synthetic import content, made_up, write
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.text import Text
from PIL import Image
from report_synthetic import write_run

from bevkd.config import DataConfig, RowConfig, read_yaml, to_plain
from bevkd.data.index import FrameIndex
from bevkd.io import write_text
from bevkd.report import examples as drawing
from bevkd.report.chosen import Sample, choose
from bevkd.report.events import Matches, read_matches
from bevkd.report.figure_kinds import Examples
from bevkd.report.figures import write as write_figure
from bevkd.report.runs import Runs

ROWS = {
    name: RowConfig(id=name, dataset="nuscenes_sim", model=model)
    for name, model in (("teacher", "fusion"), ("student", "camera"), ("arm", "camera"))
}
CAR = 0
FAR = 10.0  # between the regions of a frame


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    root = tmp_path / "results/runs"
    for row in ROWS.values():
        write_run(root, row, 0, 0.1)
    return Runs(root, "sim", ROWS)


def found(runs: Runs, truth: list[Any], frames: int, **detections: list[Any]) -> list[Matches]:
    """What teacher, student and distilled run find."""
    out = []
    for run in ("teacher", "student", "arm"):
        rows = sorted(detections[run], key=lambda row: -row[4])
        write(runs.folder(run, 0) / "matches_val.json", content(truth, rows, frames))
        out.append(read_matches(runs, run, 0, "report"))
    return out


def test_samples_by_hand(runs: Runs) -> None:
    # Frame 0: the student misses two cars that teacher and distilled run find. Frame 1: it misses one, and finds one
    # that they miss. Frames 2 and 3: false ones of the student, of the teacher. Frame 4: all kinds. Frame 5: nothing.
    truth = [(0, CAR, 0, 0), (0, CAR, 20, 0), (0, CAR, 24, 0), (1, CAR, 0, 0), (1, CAR, 20, 0), (4, CAR, 0, 0)]
    teacher = [
        (0, CAR, 0, 0, 0.9, 0),
        (0, CAR, 20, 0, 0.9, 1),
        (1, CAR, 0, 0, 0.9, 3),
        (3, CAR, 7, 7, 0.6, -1),
        (3, CAR, 0, 9, 0.8, -1),
        (4, CAR, -9, 0, 0.7, -1),
    ]
    student = [
        (0, CAR, 24, 0, 0.5, 2),
        (1, CAR, 20, 0, 0.5, 4),
        (2, CAR, 3, 4, 0.3, -1),
        (2, CAR, -15, 4, 0.4, -1),
        (4, CAR, 9, 9, 0.2, -1),
        (4, CAR, -9.5, 0, 0.1, -1),
    ]
    arm = [
        (0, CAR, 0, 0, 0.7, 0),
        (0, CAR, 20, 0, 0.8, 1),
        (0, CAR, 24, 0, 0.1, 2),
        (1, CAR, 0, 0, 0.9, 3),
        (4, CAR, 0, 0, 0.5, 5),
        (5, CAR, 0, 0, 0.05, -1),
    ]
    parts = found(runs, truth, 6, teacher=teacher, student=student, arm=arm)
    scenes = ["a", "b", "c", "d", "e", "f"]
    samples = choose(*parts, scenes, apart=FAR)
    assert [s.number for s in samples] == [1, 2, 3, 4, 5]
    one, two, three, four, five = samples
    assert (one.frame, one.events) == (0, (2, 0))
    assert one.zooms == ((20.0, 0.0), (0.0, 0.0)), "the most confident one first"
    assert (two.frame, two.events) == (2, (2, 0))
    assert two.zooms == ((-15.0, 4.0), (3.0, 4.0))
    assert (three.frame, three.events, three.zooms) == (3, (2, 0), ((0.0, 9.0),))
    assert (four.frame, four.zooms) == (4, ((-9.0, 0.0),)), "of the frames that are left"
    assert (five.frame, five.zooms) == (None, ()), "no other frame has all three"
    assert [s.beside for s in samples] == [("student",)] * 2 + [("teacher",)] * 2 + [("teacher", "student")]
    again = choose(*parts, scenes, apart=FAR)
    assert again == samples


def test_the_last_sample_has_all_three(runs: Runs) -> None:
    truth = [(1, CAR, 0, 0), (1, CAR, 30, 0)]
    teacher = [(1, CAR, -9, 0, 0.7, -1), (1, CAR, 5, 20, 0.9, -1)]
    student = [(1, CAR, 9, 9, 0.9, -1), (1, CAR, -9.5, 0, 0.1, -1)]
    arm = [(1, CAR, 0, 0, 0.5, 0), (1, CAR, 30, 0, 0.4, 1)]
    parts = found(runs, truth, 2, teacher=teacher, student=student, arm=arm)
    # The teacher misses the car, so that it guides nobody: sample 1 has none. Samples 2 and 3 would take the frame.
    samples = choose(*parts, ["a", "a"], apart=FAR)
    assert [s.frame for s in samples] == [None, 1, None, None, None]
    # With one such frame for each of those kinds, the last sample gets its own.
    more = [(f, CAR, 1.0, 1.0) for f in (0, 2, 3, 4)]
    truth = [(0, CAR, 1, 1), *truth, *more[1:]]
    student = [(1, CAR, 9, 9, 0.9, -1), (1, CAR, -9.5, 0, 0.1, -1), *((2, CAR, 9.0 * k, -9, 0.3, -1) for k in range(4))]
    teacher += [(f, CAR, 9.0 * k, 9, 0.3, -1) for f in (3, 4) for k in range(4)]
    arm = [(1, CAR, 0, 0, 0.5, 1), (1, CAR, 30, 0, 0.4, 2)]
    samples = choose(*found(runs, truth, 5, teacher=teacher, student=student, arm=arm), list("abcde"), apart=FAR)
    assert [s.frame for s in samples] == [None, 2, 3, 4, 1]
    assert samples[4].zooms == ((0.0, 0.0), (5.0, 20.0)), "what both have false lies too near to the first region"
    near = choose(*found(runs, truth, 5, teacher=teacher, student=student, arm=arm), list("abcde"), apart=4.0)
    assert near[4].zooms == ((0.0, 0.0), (-9.0, 0.0))
    assert samples[4].events == (2 + 2 + 2, 0)


def test_frames_are_of_different_scenes_while_there_are_others(runs: Runs) -> None:
    """Frames that follow each other look the same."""
    truth = [(f, CAR, 0, 0) for f in range(4)]
    # The teacher is false everywhere, most often in frames 0 and 1, which are of one scene.
    teacher = [(f, CAR, 9.0 * k, 9, 0.3, -1) for f, n in enumerate((4, 3, 2, 1)) for k in range(n)]
    parts = {"teacher": teacher, "student": [], "arm": []}
    assert [s.frame for s in choose(*found(runs, truth, 4, **parts), list("aabb"), apart=FAR)][2:4] == [0, 2]
    assert [s.frame for s in choose(*found(runs, truth, 4, **parts), list("aaaa"), apart=FAR)][2:4] == [0, 1]


def test_a_better_student_leaves_nothing_to_show(runs: Runs) -> None:
    truth = [(0, CAR, 0, 0)]
    hit, miss = [(0, CAR, 0, 0, 0.5, 0)], [(0, CAR, 30, 0, 0.5, -1)]
    samples = choose(*found(runs, truth, 1, teacher=hit, student=hit, arm=miss), ["a"], apart=FAR)
    assert [s.frame for s in samples] == [None] * 5


def figure_of(runs: Runs, dataset: Any) -> Examples:
    """The figure's settings; runs read the data set, and find what is made up in its frames."""
    data = DataConfig(root=str(dataset.root), version=dataset.version, index=str(dataset.index))
    index = FrameIndex.open(dataset.index, "val")
    for k, run in enumerate(ROWS):
        file = runs.config_file(run)
        config = {**read_yaml(file), "data": to_plain(data)}
        write_text(file, yaml.safe_dump(config))
        what = made_up(np.random.default_rng(k), (0.8, 0.4, 0.6)[k])
        what["tokens"] = index.columns["token"][: len(what["tokens"])]
        write(runs.folder(run, 0) / "matches_val.json", what)
    curves = {role: {"label": role, "run": role} for role in ("teacher", "student")}
    return Examples("f", "", "", kind="examples", distilled={"label": "CRKD", "run": "arm"}, **curves)  # type: ignore[arg-type]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_the_figure_shows_five_samples(runs: Runs, smoke_dataset: Any, tmp_path: Path) -> None:
    spec = figure_of(runs, smoke_dataset)
    figure = drawing.examples(spec, runs)
    said = texts(figure)
    for name in ("1a", "1b", "1c", "2a", "2b", "2c", "3a", "3b", "4a", "4b", "5a", "5b"):
        assert name in said
    assert "3c" not in said
    rings = [ring for ring in figure.findobj(Ellipse) if ring.get_linestyle() != "-"]
    assert len(rings) == 8, "two each, but one in samples 3 and 4"
    png, pdf = write_figure(spec, runs, tmp_path / "figures")
    assert pdf.read_bytes().startswith(b"%PDF")
    before = png.read_bytes()
    assert write_figure(spec, runs, tmp_path / "figures")[0].read_bytes() == before, "the same bytes again"
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for colour in ("#D62728", *drawing._COLOURS.values(), drawing._RADAR):
        rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        assert (np.abs(pixels - rgb).sum(-1) < 40).sum() > 100, f"{colour} is drawn"


def test_a_kind_that_does_not_occur_is_said(runs: Runs, smoke_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = figure_of(runs, smoke_dataset)
    samples = [Sample(1, "a kind", ("student",), 2), Sample(2, "another", ("student",), 2, 0, ((0.0, 0.0),), (1, 0))]
    monkeypatch.setattr(drawing, "choose", lambda *_, **__: samples)
    said = texts(drawing.examples(spec, runs))
    assert "The report split has no such frame for these runs." in said
    assert "Nothing else differs\nin this frame." in said
    assert "2  another: 1 in this frame, and 0 the other way round" in said
