"""`evaluate`: metrics of the benchmarks, for results of any detector."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bevkd.cli.common import Classes, app, own_categories, say
from bevkd.io import check_output

logger = logging.getLogger(__name__)

evaluate_app = typer.Typer(no_args_is_help=True, help="Metrics equal to the official evaluators.")
app.add_typer(evaluate_app, name="evaluate")


def check_outputs(*files: Path | None) -> None:
    """What can be known of the files to write before the work for them, see `check_output`."""
    for file in files:
        if file is not None:
            check_output(file)


def metres(text: str) -> tuple[float, ...]:
    """Numbers with commas between them.

    Raises:
        BadParameter: one is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r:.80} are not numbers with commas between them, as in 0,20,30,50.") from None


def show(metrics: Mapping[str, Any], file: Path) -> None:
    """Tables of the metrics and where they lie, unless quiet; last, not to be overlooked, what is odd (stderr)."""
    from bevkd.report.shown import shown

    say(shown(metrics), f"metrics: {file}")
    for text in metrics.get("warnings", ()):
        logger.warning("%s", text)


@evaluate_app.command("nuscenes")
def evaluate_nuscenes(
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    version: Annotated[str, typer.Option(help="Version, such as v1.0-trainval.")],
    split: Annotated[str, typer.Option(help="Split, such as val.")],
    results: Annotated[Path, typer.Option(help="Submission file.")],
    out: Annotated[Path, typer.Option(help="metrics.json to write.")],
    config: Annotated[Path | None, typer.Option(help="Detection config (devkit JSON); default cvpr_2019.")] = None,
    details: Annotated[Path | None, typer.Option(help="Also write the precision-recall curves (JSON).")] = None,
    classes: Classes = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Also by range, weather or lighting, as `breakdowns`; may be repeated."),
    ] = None,
    range_bins: Annotated[str, typer.Option(metavar="METRES", help="Borders of the groups by range.")] = "0,20,30,50",
) -> None:
    """NuScenes detection metrics, with the keys of the devkit's metrics_summary.json."""
    from bevkd.eval.nuscenes import DetectionConfig, evaluate_files

    check_outputs(out, details)
    settings = DetectionConfig.from_json(config) if config else None
    bins, own = metres(range_bins), own_categories(classes)
    found = evaluate_files(root, version, split, results, out, settings, details, own, by or (), bins)
    show(found.content(), out)


@evaluate_app.command("kitti")
def evaluate_kitti(
    labels: Annotated[Path, typer.Option(help="Folder of label files, such as training/label_2.")],
    results: Annotated[Path, typer.Option(help="Folder of result files, or the folder above `data`.")],
    out: Annotated[Path, typer.Option(help="metrics.json to write.")],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="List of the frames that count (ImageSets/val.txt, or val); without it those with a result file.",
        ),
    ] = None,
    classes: Classes = None,
) -> None:
    """KITTI AP (2D, BEV, 3D) and AOS in percent, 11 and 40 recall positions, three difficulties."""
    from bevkd.eval.kitti import evaluate_files, read_split

    check_outputs(out)
    frames = None if split is None else read_split(split, labels)
    show(evaluate_files(labels, results, out, frames, own_categories(classes)), out)


@evaluate_app.command("waymo")
def evaluate_waymo(
    sets: Annotated[Path, typer.Option(help=".npz with the arrays pred_* and gt_*.")],
    out: Annotated[Path, typer.Option(help="metrics.json to write.")],
    let: Annotated[bool, typer.Option(help="Longitudinal error tolerant metrics (LET-3D: AP, APH, APL).")] = False,
) -> None:
    """Waymo AP and APH per type, range and level."""
    from bevkd.eval.waymo import LetConfig, evaluate_files

    check_outputs(out)
    show(evaluate_files(sets, out, LetConfig() if let else None), out)
