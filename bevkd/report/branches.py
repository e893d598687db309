"""BEV maps of the branches of several detectors, one above the other (SimDistill)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bevkd.models.detector import outline
from bevkd.report.figure_kinds import BranchMaps
from bevkd.report.maps import from_above, shown_frames
from bevkd.report.runs import Runs
from bevkd.report.scenes import predict_frames
from bevkd.report.style import axes_grid, canvas

_SIDE, _HEIGHT, _LABELS = 3.1, 2.65, 0.6  # inches of a map with its scale, of its row, and of labels


def branch_maps(spec: BranchMaps, runs: Runs) -> Figure:
    """A detector of a frame per row, a map per column, forward up: mean of the absolute values over channels.

    Maps of different networks have no common unit, so that each has a colour scale of its own, from the 1st to the 99th
    percentile of its cells; colours are perceptually uniform, where the paper's (jet) make edges that are not there.

    Raises:
        ConfigError: a network has none of the features of a column.
        DataError: a run is missing.
    """
    ids, scenes = shown_frames(spec, runs)
    frames = [(scene.split, scene.token) for scene in scenes]
    seen, features = [], []
    for run in ids:
        known = outline(runs.config(run).model).spec.features
        flat = [name for name, info in known.items() if info.layout == "bev"]
        features.append([column.of(flat, f"figure {spec.name!r}: run {run!r}") for column in spec.maps])
        seen.append(predict_frames(runs, run, runs.row(run).seeds[0], frames, response=False, features=[*features[-1]]))

    rows = [(k, r) for r in range(len(scenes)) for k in range(len(ids))]
    figure = canvas(_SIDE * len(spec.maps) + _LABELS, _HEIGHT * len(rows) + _LABELS)
    grid = axes_grid(figure, len(rows), len(spec.maps), sharex=True, sharey=True)
    for place, ((k, r), row) in enumerate(zip(rows, grid, strict=True)):
        found, scene = seen[k][r], scenes[r]
        for axes, name, column in zip(row, features[k], spec.maps, strict=True):
            values = found.maps[name]
            low, high = np.percentile(values, [1, 99])
            image = from_above(axes, values, found, scene, cmap="viridis", vmin=low, vmax=high)
            figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
            if place == 0:
                axes.set_title(column.label)
            if place == len(rows) - 1:
                axes.set_xlabel("to the right (m)")
        words = [spec.columns[k].label] + ([scene.name] if len(scenes) > 1 else [])
        row[0].set_ylabel("\n".join([*words, "forward (m)"]))
    return figure
