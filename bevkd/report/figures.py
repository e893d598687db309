"""Figures by name: the drawing function of each kind, and writing them as PNG and PDF."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from bevkd.io import write_text
from bevkd.report.figure_kinds import (
    AttentionMaps,
    BEVEncoders,
    BranchMaps,
    Detections,
    Dots,
    Examples,
    FigureConfig,
    GatedMaps,
    LearningCurves,
    LossCurves,
    Pipelines,
    ResponseMaps,
    SamplingOffsets,
    TopView,
    TrainingCurves,
)
from bevkd.report.frames import to_csv
from bevkd.report.runs import Runs
from bevkd.report.style import save, style


def draw(spec: FigureConfig, runs: Runs) -> Figure:
    """Draw a figure.

    Raises:
        ConfigError: unknown run.
        DataError: a run is missing or unusable.
    """
    from bevkd.report import curves

    spec.needs(runs.rows)
    match spec:
        case LossCurves():
            return curves.loss_curves(spec, runs)
        case LearningCurves():
            return curves.learning_curves(spec, runs)
        case Dots():
            return curves.dots(spec, runs)
        case TrainingCurves():
            from bevkd.report.training import training_curves

            return training_curves(spec, runs)
        case Examples():
            from bevkd.report.examples import examples

            return examples(spec, runs)
        case BEVEncoders():  # these load detectors, and with them torch
            from bevkd.report.diagrams import bev_encoders

            return bev_encoders(spec, runs)
        case ResponseMaps():
            from bevkd.report.maps import response_maps

            return response_maps(spec, runs)
        case Detections():
            from bevkd.report.overlay import detections

            return detections(spec, runs)
        case GatedMaps():
            from bevkd.report.maps import gated_maps

            return gated_maps(spec, runs)
        case AttentionMaps():
            from bevkd.report.maps import attention_maps

            return attention_maps(spec, runs)
        case BranchMaps():
            from bevkd.report.branches import branch_maps

            return branch_maps(spec, runs)
        case TopView():
            from bevkd.report.top_view import top_view

            return top_view(spec, runs)
        case SamplingOffsets():
            from bevkd.report.lifted import sampling_offsets

            return sampling_offsets(spec, runs)
        case Pipelines():
            from bevkd.report.pipelines import pipelines

            return pipelines(spec, runs)


def write(spec: FigureConfig, runs: Runs, folder: Path) -> list[Path]:
    """Write `<name>.png`, `<name>.pdf` and, of learning curves, `<name>.csv` with their points; return their paths."""
    with style():
        figure = draw(spec, runs)
        png = save(figure, folder / f"{spec.name}.png")
        figure.set_layout_engine("none")  # the layout is settled, and finding it is most of the work
        out = [png, save(figure, folder / f"{spec.name}.pdf")]
    if isinstance(spec, LearningCurves):  # no table has these numbers: each is of a training of its own
        from bevkd.report.curves import points

        out.append(folder / f"{spec.name}.csv")
        write_text(out[-1], to_csv(points(spec, runs)))
    return out
