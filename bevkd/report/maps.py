"""Response feature maps with ground truth (UniDistill, Figures S2 and S3)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bevkd.geometry import box_corners_bev
from bevkd.report.runs import Runs
from bevkd.report.scenes import SceneReader, predict_frames
from bevkd.report.spec import ResponseMaps, pool
from bevkd.report.style import TRUTH, axes_grid, canvas


def response_maps(spec: ResponseMaps, runs: Runs) -> Figure:
    """One scene per row, one detector per column; x to the right, y up; one colour scale per scene."""
    ids = [pool(column.run)[0] for column in spec.columns]
    config = runs.config(ids[0])
    reader = SceneReader(config.data, config.model.grid.area)
    split = config.data.report_split
    scenes = [reader.scene(token) for token in reader.fullest(split, spec.frames)]
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
