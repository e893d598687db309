"""Diagrams of whole networks: what they say is what the networks do, and all of it can be read."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from diagram_case import assert_legible
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from models_batch import make_batch, model_config

from bevkd.config import MethodConfig, RunConfig, load_rows, load_run
from bevkd.errors import ConfigError
from bevkd.models.detector import build_detector
from bevkd.report import figure_kinds
from bevkd.report import spec as specs
from bevkd.report.figure_kinds import ArrowSpec, CurveSpec, PanelSpec, Pipelines
from bevkd.report.networks import Network, lessons, read_network, stages_compared
from bevkd.report.pipelines import pipelines
from bevkd.report.runs import Runs
from bevkd.report.style import style

LOSSES = {"imd": ArrowSpec("IMD", "#2ca02c"), "cmd": ArrowSpec("CMD", "#1f5fd0")}


def run_of(model: str, scale: str = "paper", teacher: str | None = None, method: str | None = None) -> RunConfig:
    """A run of a model that no row needs to have."""
    base = load_run("camera_base", scale, 0)
    row = replace(base.row, id=model, model=model, teacher=teacher, method=MethodConfig(method, {}) if method else None)
    return replace(base, run=model, row=row, model=model_config(model, scale))


def figure_of(*panels: PanelSpec, **options: Any) -> Pipelines:
    return Pipelines(name="f", title="", caption="", kind="pipelines", panels=panels, **options)


def panel(title: str, *runs: str) -> PanelSpec:
    return PanelSpec(title, tuple(CurveSpec(run.replace("_", " "), run) for run in runs))


def sizes(network: Network) -> dict[str, str]:
    """Sizes that the blocks of maps say."""
    return {name: block.lines[-1] for name, block in network.blocks.items() if not name.startswith("input.")}


def test_the_student_of_two_branches_has_the_published_sizes() -> None:
    """SimDistill spec, sections 2 and 3."""
    student = read_network(run_of("simdistill"))
    assert sizes(student) == {
        "image": "256 × 32 × 88",
        "simulated.image": "256 × 32 × 88",
        "simulated.raw": "80 × 180 × 180",
        "simulated": "80 × 180 × 180",
        "camera": "80 × 180 × 180",
        "low": "256 × 180 × 180",
        "high": "256 × 180 × 180",
        "heads": f"{student.spec.channels('heads')} × 180 × 180",
    }
    assert {block.title for block in student.blocks.values() if not block.reads} == {"images"}
    assert student.blocks["low"].reads == ("simulated", "camera")
    assert (student.blocks["simulated.image"].reads, student.blocks["simulated.raw"].reads) == (
        ("image",),
        ("simulated.image",),
    )
    assert read_network(run_of("fusion_gated")).blocks["low"].reads == ("gated.lidar", "gated.camera")
    teacher = read_network(run_of("fusion_simdistill"))
    assert [teacher.blocks[name].lines[-1] for name in ("lidar", "camera", "low")] == [
        *("256 × 180 × 180", "80 × 180 × 180", "256 × 180 × 180")
    ]
    assert teacher.blocks["input.camera"].lines == ("+ LiDAR depths", "3 × 256 × 704")
    assert read_network(run_of("bevfusion_c")).blocks["camera"].lines[-1] == "80 × 128 × 128"


@pytest.mark.parametrize("model", ["lidar_pillar", "camera", "fusion", "camera_radar", "simdistill", "bevdet"])
def test_sizes_are_those_of_a_pass(model: str) -> None:
    config = run_of(model, "smoke")
    network = read_network(config, ("B0", "B1"))
    detector = build_detector(config.model).eval()
    with torch.inference_mode():
        outputs = detector(make_batch(config.model))
    said = sizes(network)
    for name in network.blocks.keys() & detector.spec.features.keys():
        if detector.spec.info(name).layout == "bev":
            assert said[name] == " × ".join(map(str, outputs.feature(name).shape[1:])), name
    assert {"high", "heads", "B0"} <= said.keys()
    for block in network.blocks.values():
        assert set(block.reads) <= network.blocks.keys()
        assert all(network.blocks[name].row < block.row for name in block.reads)


def test_maps_of_a_network_have_rows_of_their_own() -> None:
    for model in ("simdistill", "fusion_simdistill", "fusion_gated", "camera_radar"):
        blocks = [b for b in read_network(run_of(model), ("B0", "B1")).blocks.values() if b.reads]
        assert len({block.row for block in blocks}) == len(blocks), model


def found(teacher: RunConfig, student: RunConfig) -> dict[tuple[str, str], tuple[str, ...]]:
    stages = stages_compared(student, teacher)
    own, taught = read_network(student, stages), read_network(teacher, stages)
    return {(one.teacher, one.student): one.losses for one in lessons(student, own, teacher, taught)}


def test_lessons_of_simdistill() -> None:
    teacher = run_of("fusion_simdistill")
    student = run_of("simdistill", teacher="fusion_simdistill", method="simdistill")
    assert found(teacher, student) == {
        ("camera", "camera"): ("imd",),
        ("lidar", "simulated"): ("cmd",),
        ("low", "low"): ("mmd_f",),
        ("heads", "heads"): ("mmd_p",),
    }
    assert found(run_of("fusion"), student) == {}, "not its teacher"


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        (
            "unidistill_p4",
            {("lidar", "camera"): ("feature",), ("high", "high"): ("relation",), ("heads", "heads"): ("response",)},
        ),
        (
            "crkd",
            {
                ("heads", "radar"): ("csrd",),
                ("gated.camera", "gated.camera"): ("msfd_camera",),
                ("low", "low"): ("msfd_fused", "reld"),
                ("heads", "heads"): ("respd",),
            },
        ),
        ("distillbev_4d_mvp", {("B1", "B1"): ("B1",), ("B2", "B2"): ("B2",), ("high", "high"): ("high",)}),
        ("le_dense", None),
    ],
)
def test_lessons_of_every_method(run: str, wanted: dict[tuple[str, str], tuple[str, ...]] | None) -> None:
    rows = load_rows()
    name = run if run in rows else next(r.id for r in rows.values() if r.method and r.method.kind == "dense")
    student = load_run(name, "paper", rows[name].seeds[0])
    teacher = load_run(student.row.teacher or "", "paper", 0)
    assert found(teacher, student) == (wanted or {("heads", "heads"): ("dense", "regression")})


def test_methods_that_do_without_their_teacher_have_no_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    student = load_run("unidistill_p4", "sim", 0)
    teacher = load_run(student.row.teacher or "", "sim", 0)
    assert found(teacher, student)
    monkeypatch.setattr("bevkd.distill.base.DistillMethod.uses_teacher", False)
    assert found(teacher, student) == {}


def test_networks_that_are_no_pipeline_are_named() -> None:
    with pytest.raises(ConfigError, match="run 'image': a diagram shows BEV detectors, not a 'image2d' one"):
        read_network(run_of("image"))
    network = read_network(run_of("camera"))
    with pytest.raises(ConfigError, match="run 'camera': no part of a diagram shows 'lidar'"):
        network.block_of("lidar")
    assert [network.block_of(name) for name in ("low", "low.pre", "image0", "depth")] == [
        *("camera", "camera", "image", "camera")
    ]


# --- the figure


def test_nothing_trained_is_waited_for() -> None:
    rows = load_rows()
    item = figure_of(panel("", "lidar_base", "unidistill_p4"))
    assert (item.needs(rows), specs.reads(item, rows)) == ([], {})
    assert [config.run for config in item.settings(rows)] == ["lidar_base", "unidistill_p4"]
    with pytest.raises(ConfigError, match=r"figure 'f': unknown run 'lidar_bas' .*'lidar_base'"):
        figure_of(panel("", "lidar_bas")).needs(rows)
    with pytest.raises(ConfigError, match=r"unknown scale 'papre' .*'paper'"):
        figure_of(panel("", "lidar_base"), scale="papre").needs(rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (figure_of, "a panel shows one network at least"),
        (lambda: figure_of(PanelSpec("", ())), "a panel shows one network at least"),
        (lambda: figure_of(PanelSpec("", (CurveSpec("x", ("a", "b")),))), "networks are drawn of single runs"),
        (lambda: ArrowSpec("x", "green"), "colour 'green' is not of the form #rrggbb"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_yaml_says_it_in_short() -> None:
    paper = next(paper for paper in specs.load_papers().values() if paper.name == "crkd")
    plain = {"kind": "pipelines", "title": "", "caption": "", "panels": {"(a)": {"T": "lidar_base", "S": "crkd"}}}
    plain |= {"losses": {"csrd": {"label": "CSRD", "colour": "#123456"}}}
    item = specs._figure("f", plain, paper, "sim", "here")
    assert isinstance(item, Pipelines)
    assert item.panels == (PanelSpec("(a)", (CurveSpec("T", "lidar_base"), CurveSpec("S", "crkd"))),)
    assert item.losses == {"csrd": ArrowSpec("CSRD", "#123456")}
    assert item.scale == figure_kinds.PUBLISHED
    top = {"kind": "top_view", "title": "", "caption": "", "detector": {"Student": "crkd"}}
    assert getattr(specs._figure("t", top, paper, "sim", "here"), "detector") == CurveSpec("Student", "crkd")  # noqa: B009
    maps = {"kind": "branch_maps", "title": "", "caption": "", "columns": {"S": "crkd"}}
    maps |= {"maps": {"Camera": "camera", "LiDAR": ["simulated", "lidar"]}}
    shown = getattr(specs._figure("m", maps, paper, "sim", "here"), "maps")  # noqa: B009
    assert [(one.label, one.features) for one in shown] == [("Camera", "camera"), ("LiDAR", ("simulated", "lidar"))]
    with pytest.raises(ConfigError, match="the figure is of a single run"):
        specs._figure("t", top | {"detector": {"S": ["crkd", "lidar_base"]}}, paper, "sim", "here")


def drawn(item: Pipelines, configs: dict[str, RunConfig], monkeypatch: pytest.MonkeyPatch, dpi: int = 150) -> Figure:
    rows = load_rows() | {name: config.row for name, config in configs.items()}
    plain = figure_kinds.load_run
    monkeypatch.setattr(
        figure_kinds, "load_run", lambda run, *rest: configs[run] if run in configs else plain(run, *rest)
    )
    with style():
        figure = pipelines(item, Runs(None, "sim", rows))  # type: ignore[arg-type]
        figure.set_dpi(dpi)
        figure.canvas.draw()
    return figure


def simdistill() -> dict[str, RunConfig]:
    student = run_of("simdistill", teacher="fusion_simdistill", method="simdistill")
    return {run.run: run for run in (run_of("fusion_simdistill"), student, run_of("bevfusion_c"))}


THREE = (
    panel("(a) Intra-modal", "camera_base", "unidistill_c_to_c_p2"),
    panel("(b) Cross-modal", "lidar_base", "unidistill_p4"),
    panel("(c) Simulated multi-modal", "fusion_simdistill", "simdistill"),
)


@pytest.mark.parametrize(
    ("panels", "dpi"),
    [
        (THREE, 150),
        (THREE, 600),
        ((panel("", "bevfusion_c", "simdistill"),), 150),
        ((panel("", "crkd_teacher", "crkd"), panel("", "distillbev_mvp", "distillbev_4d_mvp")), 150),
    ],
)
def test_everything_can_be_read(panels: tuple[PanelSpec, ...], dpi: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the PNG and, letters being as wide as in high resolution there, in the PDF."""
    figure = drawn(figure_of(*panels), simdistill(), monkeypatch, dpi)
    (axes,) = figure.axes
    _, boxes = assert_legible(figure, axes)
    # A line ends at the edges of boxes, and goes through none.
    segments = [patch._posA_posB for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    segments += [pair for line in axes.lines for pair in pairwise(line.get_xydata())]
    assert len(segments) >= len(boxes) / 2
    for (x0, y0), (x1, y1) in segments:
        assert abs(x0 - x1) < 1e-9 or abs(y0 - y1) < 1e-9, "no slanted lines"
        for box in (patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)):
            left, bottom = box.get_x(), box.get_y()
            right, top = left + box.get_width(), bottom + box.get_height()
            beside = max(x0, x1) <= left + 0.01 or min(x0, x1) >= right - 0.01
            assert beside or max(y0, y1) <= bottom + 0.01 or min(y0, y1) >= top - 0.01
    assert figure.get_size_inches()[0] == 11


def test_arrows_have_the_colours_of_their_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(figure_of(*THREE[2:], losses=LOSSES), simdistill(), monkeypatch)
    said = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert (said["IMD"], said["CMD"]) == ("#2ca02c", "#1f5fd0")
    assert {"mmd f", "mmd p", "simulated LiDAR map", "fused map", "compensation"} <= said.keys()
    assert len({said["IMD"], said["CMD"], said["mmd f"], said["mmd p"]}) == 4
    # BEVFusion-C teaches nobody, and the student stands without its teacher.
    alone = drawn(figure_of(panel("", "bevfusion_c", "simdistill")), simdistill(), monkeypatch)
    assert not {"imd", "IMD", "mmd f"} & {text.get_text() for text in alone.axes[0].texts}
