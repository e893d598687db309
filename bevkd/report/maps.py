"""Feature maps with ground truth: responses (UniDistill, Figures S2 and S3), gated sensor maps (CRKD, Figure 1),
attention (DistillBEV, Figure 7).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bevkd.geometry import box_corners_bev
from bevkd.report.figure_kinds import AttentionMaps, BranchMaps, GatedMaps, ResponseMaps
from bevkd.report.runs import Runs
from bevkd.report.scenes import Array, Prediction, Scene, SceneReader, predict_frames
from bevkd.report.spec import pool
from bevkd.report.style import TRUTH, axes_grid, canvas, forward_up


def response_maps(spec: ResponseMaps, runs: Runs) -> Figure:
    """One scene per row, one detector per column; x to the right, y up; one colour scale per scene."""
    ids, scenes = shown_frames(spec, runs)
    frames = [(scene.split, scene.token) for scene in scenes]
    columns = [predict_frames(runs, run, runs.row(run).seeds[0], frames) for run in ids]

    figure = canvas(3.3 * len(ids) + 0.6, 3.3 * len(scenes) + 0.3)
    grid = axes_grid(figure, len(scenes), len(ids), sharex=True, sharey=True)
    for r, (scene, row) in enumerate(zip(scenes, grid, strict=True)):
        maps = [column[r].response for column in columns]
        # Single cells next to a box can be far out; the scale covers all but one in two hundred at either end.
        low, high = np.percentile(np.stack(maps), [0.5, 99.5])
        for c, axes in enumerate(row):
            prediction = columns[c][r]
            image = axes.imshow(
                prediction.response,
                origin="lower",
                extent=prediction.extent,
                cmap="viridis",
                vmin=low,
                vmax=high,
                interpolation="nearest",
            )
            for corners in box_corners_bev(scene.boxes) if len(scene.boxes) else []:
                axes.fill(*corners.T, fill=False, edgecolor=TRUTH, lw=1.1)
            axes.grid(visible=False)
            axes.set_xlim(*prediction.extent[:2])
            axes.set_ylim(*prediction.extent[2:])
            if r == 0:
                axes.set_title(spec.columns[c].label)
            if r == len(scenes) - 1:
                axes.set_xlabel("x, forward (m)")
        row[0].set_ylabel(f"{scene.name}\ny, left (m)")
        figure.colorbar(image, ax=row, shrink=0.85, label="mean response")
    return figure


def gated_maps(spec: GatedMaps, runs: Runs) -> Figure:
    """A detector of a frame per row, its map before the gate on the left and after it on the right; forward is up.

    A gate makes every value smaller, so that each map has a colour scale of its own: from the 1st to the 99th
    percentile of its cells, for single cells can be far out (CRKD spec, 10.5).
    """
    ids, scenes = shown_frames(spec, runs)
    frames = [(scene.split, scene.token) for scene in scenes]
    names = {"before the gate": spec.sensor, "after the gate": f"gated.{spec.sensor}"}
    features = tuple(names.values())
    seen = [predict_frames(runs, run, runs.row(run).seeds[0], frames, response=False, features=features) for run in ids]

    rows = [(k, r) for r in range(len(scenes)) for k in range(len(ids))]
    figure = canvas(9.4, 4.4 * len(rows) + 0.3)
    grid = axes_grid(figure, len(rows), len(names), sharex=True, sharey=True)
    for (k, r), row in zip(rows, grid, strict=True):
        found, scene = seen[k][r], scenes[r]
        for axes, (said, name) in zip(row, names.items(), strict=True):
            values = found.maps[name]
            low, high = np.percentile(values, [1, 99])
            image = from_above(axes, values, found, scene, cmap="inferno", vmin=low, vmax=high)
            axes.set_title(f"{spec.columns[k].label}: {spec.sensor} map {said}")
            axes.set_xlabel("to the right (m)")
            figure.colorbar(image, ax=axes, shrink=0.85, label="mean of absolute values")
        row[0].set_ylabel(f"{scene.name}\nforward (m)")
    return figure


def attention_maps(spec: AttentionMaps, runs: Runs) -> Figure:
    """One scene per row, one detector per column; forward is up. Each map is divided by its own maximum."""
    from bevkd.train.attention import FEATURE, attention_of_activity

    ids, scenes = shown_frames(spec, runs)
    frames = [(scene.split, scene.token) for scene in scenes]
    seen = [
        predict_frames(runs, run, runs.row(run).seeds[0], frames, response=False, features=(FEATURE,)) for run in ids
    ]

    figure = canvas(3.1 * len(ids) + 1.3, 3.0 * len(scenes) + 0.6)
    grid = axes_grid(figure, len(scenes), len(ids), sharex=True, sharey=True)
    for r, (scene, row) in enumerate(zip(scenes, grid, strict=True)):
        for axes, found, column in zip(row, seen, spec.columns, strict=True):
            values = attention_of_activity(found[r].maps[FEATURE])
            image = from_above(axes, values / values.max(), found[r], scene, cmap="viridis", vmin=0, vmax=1)
            if r == 0:
                axes.set_title(column.label)
            if r == len(scenes) - 1:
                axes.set_xlabel("to the right (m)")
        row[0].set_ylabel(f"{scene.name}\nforward (m)")
    figure.colorbar(image, ax=[axes for row in grid for axes in row], shrink=0.85, label="attention / its maximum")
    return figure


def shown_frames(
    spec: ResponseMaps | GatedMaps | AttentionMaps | BranchMaps, runs: Runs
) -> tuple[list[str], list[Scene]]:
    """The run of each column, and the fullest frames of the reported split."""
    ids = [pool(column.run)[0] for column in spec.columns]
    config = runs.config(ids[0])
    reader = SceneReader(config.data, config.model.grid.area)
    return ids, [reader.scene(token) for token in reader.fullest(config.data.report_split, spec.frames)]


def from_above(axes: Axes, values: Array, found: Prediction, scene: Scene, **colours: Any) -> AxesImage:
    """Draw a map (H, W) of a frame with its boxes and the vehicle; forward is up."""
    x_min, x_max, y_min, y_max = found.extent
    image = axes.imshow(
        values.T[:, ::-1],  # (H, W) is (y, x): x upwards, and y, which points left, to the left
        origin="lower",
        extent=(-y_max, -y_min, x_min, x_max),
        interpolation="nearest",
        **colours,
    )
    for corners in box_corners_bev(scene.boxes) if len(scene.boxes) else []:
        axes.fill(*forward_up(corners).T, fill=False, edgecolor=TRUTH, lw=1.1)
    axes.plot(0, 0, marker="^", color="w", mec="k", ms=6)
    axes.set_xlim(-y_max, -y_min)
    axes.set_ylim(x_min, x_max)
    axes.grid(visible=False)
    return image
