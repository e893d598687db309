"""The diagram of two BEV encoders: what it says is what the networks do, and all of it can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diagram_case import assert_legible
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from models_batch import model_config
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bevkd.config import MethodConfig, RunConfig, load_rows, load_run
from bevkd.errors import ConfigError
from bevkd.models.bev.base import BEVEncoder
from bevkd.models.detector import build_detector, outline
from bevkd.models.layers import residual_blocks
from bevkd.registry import names
from bevkd.report.diagrams import bev_encoders
from bevkd.report.encoders import Encoders, layers_said, read_encoders
from bevkd.report.figure_kinds import BEVEncoders, CurveSpec
from bevkd.report.runs import Runs
from bevkd.report.spec import load_figures, reads
from bevkd.report.style import style

FINER = {"finer": 2, "strides": [1, 2, 4], "widths": [8, 8, 16], "depths": [0, 1, 0], "up_channels": 8}
PILLARS = {"cell": 0.8, "channels": [16], "out_channels": 16}


def published() -> BEVEncoders:
    found = load_figures("sim")["distillbev_4"]
    assert isinstance(found, BEVEncoders)
    return found


def configs() -> list[RunConfig]:
    return published().settings(load_rows())


@pytest.fixture(scope="module")
def found() -> Encoders:
    return read_encoders(*configs())


def test_maps_are_the_published_ones(found: Encoders) -> None:
    """Spec, sections 2.1, 3.1.7 and 4."""
    assert {one.name: (one.shape, round(one.cell, 6)) for one in found.teacher} == {
        "low": ((64, 512, 512), 0.2),
        "B0": ((64, 256, 256), 0.4),
        "B1": ((128, 128, 128), 0.8),
        "B2": ((256, 64, 64), 1.6),
        "neck": ((384, 128, 128), 0.8),
        "high": ((384, 128, 128), 0.8),
    }
    assert {one.name: (one.shape, round(one.cell, 6)) for one in found.student} == {
        "low": ((128, 128, 128), 0.8),
        "B0": ((128, 64, 64), 1.6),
        "B1": ((256, 32, 32), 3.2),
        "B2": ((512, 16, 16), 6.4),
        "neck": ((512, 64, 64), 1.6),
        "high": ((256, 128, 128), 0.8),
    }


def test_layers_are_the_published_ones(found: Encoders) -> None:
    teacher, student = ({one.name: one for one in maps} for maps in (found.teacher, found.student))
    assert [teacher[name].layers for name in ("B0", "B1", "B2")] == [
        (f"{count} × (conv 3 × 3, BN, ReLU), stride 2",) for count in (4, 6, 6)
    ]
    assert teacher["neck"].reads == ("B0", "B1", "B2")
    assert teacher["neck"].layers == (
        *("B0: conv 2 × 2, stride 2", "B1: deconv 1 × 1", "B2: deconv 2 × 2, stride 2"),
        "concatenated, 384 channels",
    )
    assert teacher["high"].layers == ("BN, ReLU",)
    assert {student[name].layers for name in ("B0", "B1", "B2")} == {("2 residual blocks, stride 2",)}
    assert student["neck"].reads == ("B0", "B2")
    neck = ("B0", "B2: ×4 bilinear", "concatenated, 640 channels", "2 × (conv 3 × 3, BN, ReLU)")
    assert student["neck"].layers == neck
    assert student["high"].layers == ("×2 bilinear", "conv 3 × 3, BN, ReLU", "conv 1 × 1, BN, ReLU")


def test_adapters_are_the_published_ones(found: Encoders) -> None:
    wanted = {"B1": 0.166e6, "B2": 0.659e6, "high": 0.099e6}
    assert {link.level: link.parameters for link in found.links} == pytest.approx(wanted, rel=6e-3)
    links = {link.level: link for link in found.links}
    assert links["B1"].widths == (256, 256, 256, 128)
    assert links["B2"].widths == (512, 512, 512, 256)
    assert links["B1"].layers == links["B2"].layers == ("×4 bilinear", "3 × (conv 1 × 1, BN, ReLU)")
    assert (links["high"].layers, links["high"].widths) == (("conv 1 × 1",), (256, 384))


def test_levels_are_those_of_the_method() -> None:
    teacher, student, distilled = configs()
    options = {"levels": ["B0", "high"], "adapters": {"layers": 2}}
    other = replace(distilled, row=replace(distilled.row, method=MethodConfig("distillbev", options)))
    (first, last) = read_encoders(teacher, student, other).links
    assert (first.level, last.level) == ("B0", "high")
    assert (first.layers, first.widths) == (("×4 bilinear", "2 × (conv 1 × 1, BN, ReLU)"), (128, 128, 64))
    assert first.parameters == 128 * 128 + 128 * 64 + 2 * (128 + 64)


def test_a_level_outside_of_the_encoders_is_named() -> None:
    _, student, distilled = configs()
    method = MethodConfig("distillbev", {"levels": ["camera"], "false_positives": "none"})
    with pytest.raises(ConfigError, match="'distillbev_further_mvp': level 'camera' is in no BEV encoder"):
        read_encoders(student, student, replace(distilled, row=replace(distilled.row, method=method)))


@pytest.mark.parametrize(
    ("model", "over"),
    [
        ("lidar_pillar", {}),
        ("lidar_pillar", {"lidar": PILLARS, "bev": FINER}),
        ("bevdet", {}),
        ("bevdet", {"bev": {"final_norm": True, "align_corners": True}}),
        ("bevdet", {"bev": {"widths": [8], "depths": [1], "strides": [2]}}),
    ],
)
def test_steps_are_what_forward_does(model: str, over: dict[str, Any]) -> None:
    torch.manual_seed(0)
    detector = build_detector(model_config(model, "smoke", **over)).eval()
    encoder, info = detector.bev, detector.spec.info("low")
    assert isinstance(encoder, BEVEncoder)
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean)  # type: ignore[arg-type]
    low = torch.randn(1, info.channels, *(round(n / info.stride) for n in (detector.grid.H, detector.grid.W)))
    made: dict[str, Tensor] = {"low": low.clone()}
    with torch.inference_mode():
        for step in encoder.steps():
            parts = [made[name] if module is None else module(made[name]) for name, module in step.reads]
            if step.like:
                size, corners = made[step.like].shape[-2:], encoder.align_corners
                parts = [interpolate(x, size=size, mode="bilinear", align_corners=corners) for x in parts]  # type: ignore[arg-type]
            joined = torch.cat(parts, dim=1)
            made[step.name] = joined if step.layers is None else step.layers(joined.clone())
        wanted = encoder(low)
    assert wanted.keys() == made.keys() - {"low", "neck"}
    for name, maps in wanted.items():
        torch.testing.assert_close(made[name], maps)


def test_every_encoder_says_its_steps() -> None:
    seen = {model_config(model, "paper").bev.kind for model in ("lidar_pillar", "bevdet")}
    assert seen == set(names("bev_encoder"))


def test_words_of_layers() -> None:
    norm = model_config("bevdet", "paper").norm
    assert [*layers_said(residual_blocks(4, 8, 3, norm, 2))] == ["3 residual blocks, stride 2"]
    assert [*layers_said(residual_blocks(4, 8, 1, norm))] == ["residual block"]
    assert [*layers_said(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Identity(), nn.Conv2d(4, 4, 1)))] == [
        *("conv 3 × 3", "conv 1 × 1")
    ]
    with pytest.raises(ConfigError, match="no word for a layer GELU"):
        [*layers_said(nn.GELU())]


def test_an_outline_has_no_values() -> None:
    detector = outline(configs()[1].model)
    assert not detector.training
    assert {p.device.type for p in detector.parameters()} == {"meta"}


# --- the figure


def test_nothing_trained_is_waited_for() -> None:
    rows = load_rows()
    for scale in ("smoke", "sim", "paper"):
        spec = load_figures(scale)["distillbev_4"]
        assert (spec.needs(rows), reads(spec, rows)) == ([], {})
        assert spec == published()
    assert replace(published(), target="preview").needs(rows) == []


def test_runs_stand_for_others_as_at_the_scale_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from bevkd.report import spec as specs

    plain = {"kind": "bev_encoders", "title": "", "caption": "", "teacher": {"L": "distillbev_cp"}}
    plain |= {"student": {"S": "distillbev_4d"}, "distilled": {"D": "distillbev_4d_cp"}}
    paper = next(paper for paper in specs.load_papers().values() if paper.name == "distillbev")
    rows = load_rows()
    for key, teacher in (({}, "distillbev_cp"), ({"scale": "sim"}, rows["distillbev_cp"].same_as["sim"])):
        item = specs._figure("f", plain | key, paper, "sim", "here")
        assert item.runs(rows)[0] == teacher
        assert item.needs(rows) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"teacher": "distillbev_cp"},
            r"figure 'distillbev_4': 'distillbev_further_mvp' is not distilled from 'distillbev_cp'",
        ),
        ({"student": "camera_base"}, "'distillbev_further_mvp' has another BEV encoder than 'camera_base'"),
        ({"student": "distillbev_4e"}, "unknown run 'distillbev_4e' .*'distillbev_4d'"),
        ({"scale": "papre"}, "unknown scale 'papre' .*'paper'"),
    ],
)
def test_what_cannot_be_shown_is_named(change: dict[str, str], message: str) -> None:
    new = {key: value if key == "scale" else CurveSpec("x", value) for key, value in change.items()}
    with pytest.raises(ConfigError, match=message):
        replace(published(), **new).needs(load_rows())  # type: ignore[arg-type]


def test_methods_without_map_adapters_are_named() -> None:
    rows = load_rows()
    row = next(row for row in rows.values() if row.method and row.method.kind == "unidistill" and row.target == "all")
    distilled = load_run(row.id, "sim", row.seeds[0])
    teacher = load_run(distilled.row.teacher or "", "sim", 0)
    with pytest.raises(ConfigError, match=rf"'{row.id}': method 'unidistill' adapts no whole maps"):
        read_encoders(teacher, distilled, distilled)
    with pytest.raises(ValueError, match="networks are drawn of single runs"):
        replace(published(), student=CurveSpec("x", ("distillbev_4d", "distillbev_det")))


def drawn(scale: str, dpi: int = 150) -> Figure:
    rows = load_rows()
    with style():
        figure = bev_encoders(replace(published(), scale=scale), Runs(None, "sim", rows))  # type: ignore[arg-type]
        figure.set_dpi(dpi)
        figure.canvas.draw()
    return figure


def crossed(figure: Figure, box: Any) -> Iterator[Any]:
    """Lines and arrows that go through a box of the page."""
    (axes,) = figure.axes
    for line in axes.lines:
        if line.get_path().transformed(line.get_transform()).intersects_bbox(box, filled=False):
            yield line
    for patch in axes.patches:
        if isinstance(patch, FancyArrowPatch) and patch.get_window_extent().overlaps(box):
            yield patch


@pytest.mark.parametrize(("scale", "dpi"), [("paper", 150), ("paper", 600), ("sim", 150)])
def test_everything_can_be_read(scale: str, dpi: int) -> None:
    """In the PNG and, letters being as wide as in high resolution there, in the PDF."""
    figure = drawn(scale, dpi)
    (axes,) = figure.axes
    texts, boxes = assert_legible(figure, axes)
    said = [text.get_text() for text in texts]
    assert said.count("not distilled") == 1
    assert len(boxes) == 6 + 6 + 3
    for text, extent in texts.items():
        assert not [*crossed(figure, extent)], text
    assert all(figure.bbox.contains(box.x0, box.y0) and figure.bbox.contains(box.x1, box.y1) for box in boxes)


def test_the_figure_says_what_was_read(found: Encoders) -> None:
    said = [text.get_text() for text in drawn("paper").axes[0].texts]
    for one in (*found.teacher, *found.student):
        for line in (*one.layers, f"{one.shape[0]} × {one.shape[1]} × {one.shape[2]}, cells of {one.cell:.3g} m"):
            assert line in said
    for link in found.links:
        assert f"{link.parameters / 1e6:.3f} M parameters" in said
    assert {"Teacher: MVP", "Student: BEVDet4D", "DistillBEV", "input", "B0", "B1", "B2", "neck", "H"} <= set(said)
