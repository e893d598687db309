"""Frames in which a distilled run does better than its student or its teacher, seen from above (CRKD, Figure 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from bevkd.eval.nuscenes.boxes import Floats
from bevkd.geometry import Area, box_corners_bev
from bevkd.report.chosen import STUDENT, TEACHER, Sample, choose
from bevkd.report.events import Matches, read_matches
from bevkd.report.figure_kinds import Examples
from bevkd.report.runs import Runs
from bevkd.report.scenes import Scene, SceneReader
from bevkd.report.style import TRUTH, canvas, forward_up

# As in the paper; its yellow is hard to see on white.
_COLOURS = {TEACHER: "#2CA02C", STUDENT: "#E0A800", "distilled": "#1F5FD0"}
_RADAR, _LIDAR = "#E000E0", "0.75"
_ZOOMS = ("#7B3FA0", "#E8590C")  # regions b and c
_DASHES = (0, (4, 2.5))
_CLOSEST, _SHARE = 6.0, 1 / 6  # half a side of a region: metres at least, and of half the width of the map
_HEAD, _TITLE, _PANEL, _NOTHING = 0.45, 0.34, 3.6, 0.3  # inches


@dataclass(frozen=True)
class _Drawn:
    """Boxes (N, 7) of a run, or of the annotations, and how they are drawn."""

    boxes: Floats
    colour: str
    width: float


def examples(spec: Examples, runs: Runs) -> Figure:
    """A sample per row: the whole map (a), and regions of it (b, c).

    Raises:
        DataError: a run is missing, or the three were not looked at in the same frames.
    """
    found: dict[str, Matches] = {}
    labels: dict[str, str] = {}
    parts = {TEACHER: spec.teacher, STUDENT: spec.student, "distilled": spec.distilled}
    for (role, curve), need in zip(parts.items(), spec.needs(runs.rows), strict=True):
        found[role], labels[role] = read_matches(runs, *need, "report"), curve.label
    config = runs.config(spec.runs(runs.rows)[-1])
    area = config.model.grid.area
    reader = SceneReader(config.data, area, sensors=("lidar", "radar"))
    half = max(_CLOSEST, _SHARE * min(area.x_max - area.x_min, area.y_max - area.y_min) / 2)
    tokens = found["distilled"].tokens
    scenes = [reader.scene_name(token) for token in tokens]
    samples = choose(found[TEACHER], found[STUDENT], found["distilled"], scenes, apart=half)

    ratios = [_HEAD]
    for sample in samples:
        ratios += [_TITLE, _NOTHING if sample.frame is None else _PANEL]
    figure = canvas(11.0, sum(ratios))
    head, *blocks = np.array(figure.subfigures(len(ratios), 1, height_ratios=ratios), dtype=object)
    _legend(head, labels)
    for sample, title, block in zip(samples, blocks[::2], blocks[1::2], strict=True):
        _title(title, sample)
        scene = None if sample.frame is None else reader.scene(tokens[sample.frame])
        _row(block, sample, scene, found, area, half)
    return figure


def _legend(part: SubFigure, labels: dict[str, str]) -> None:
    lines = [Line2D([], [], color=TRUTH, lw=2, label="ground truth")]
    lines += [Line2D([], [], color=_COLOURS[role], lw=2, label=label) for role, label in labels.items()]
    dots = {"label": "radar points", "color": _RADAR}
    lines.append(Line2D([], [], marker="o", ms=4, lw=0, **dots))  # type: ignore[arg-type]
    part.legend(handles=lines, loc="center", ncols=len(lines), frameon=False)


def _title(part: SubFigure, sample: Sample) -> None:
    text = f"{sample.number}  {sample.said}"
    if sample.frame is not None:
        text += f": {sample.events[0]} in this frame, and {sample.events[1]} the other way round"
    part.text(0.01, 0.5, text, ha="left", va="center", fontsize=10, fontweight="bold")


def _row(
    part: SubFigure, sample: Sample, scene: Scene | None, found: dict[str, Matches], area: Area, half: float
) -> None:
    if scene is None or sample.frame is None:
        part.text(0.03, 0.5, "The report split has no such frame for these runs.", ha="left", va="center")
        return
    places: list[Axes] = list(part.subplots(1, 3))
    frame = sample.frame
    truth = found["distilled"].annotations
    drawn = [_Drawn(truth.box[truth.frame == frame], TRUTH, 2.2)]
    for role in (*sample.beside, "distilled"):
        seen = found[role].detections
        drawn.append(_Drawn(seen.box[seen.frame == frame], _COLOURS[role], 1.2))
    for k, axes in enumerate(places):
        letter = "abc"[k]
        if k == 0:
            corners = np.array([[area.x_min, area.y_max], [area.x_max, area.y_min]])
            _panel(axes, scene, drawn, forward_up(corners), f"{sample.number}{letter}")
            for centre, colour in zip(sample.zooms, _ZOOMS, strict=False):
                at = forward_up(np.array(centre))
                ring = Ellipse((at[0], at[1]), 2 * half, 2 * half, fill=False, ec=colour, lw=1.8, ls=_DASHES, zorder=6)
                axes.add_patch(ring)
            axes.set_xlabel(f"to the right (m); {scene.name}")
            axes.set_ylabel("forward (m)")
        elif k <= len(sample.zooms):
            x, y = sample.zooms[k - 1]
            corners = np.array([[x - half, y + half], [x + half, y - half]])
            _panel(axes, scene, drawn, forward_up(corners), f"{sample.number}{letter}")
            for spine in axes.spines.values():
                spine.set(visible=True, edgecolor=_ZOOMS[k - 1], linewidth=2.0, linestyle=_DASHES)
        else:
            axes.axis("off")
            if k <= sample.panels:
                said = "Nothing else differs\nin this frame."
                axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center")


def _panel(axes: Axes, scene: Scene, drawn: list[_Drawn], corners: NDArray[np.floating[Any]], name: str) -> None:
    """Points and boxes between two corners (2, 2) of the page: lower left and upper right."""
    (left, bottom), (right, top) = corners
    if scene.points is not None:
        x, y = forward_up(scene.points).T
        axes.scatter(x, y, s=0.5, c=_LIDAR, lw=0, rasterized=True, zorder=1)
    if scene.radar is not None:
        x, y = forward_up(scene.radar).T
        axes.scatter(x, y, s=7, c=_RADAR, lw=0, zorder=2)
    for layer, style in enumerate(drawn):
        _boxes(axes, style, 3 + 0.1 * layer)
    axes.plot(0, 0, marker="^", color="k", ms=5, zorder=5)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_title(name, loc="left", fontsize=10)


def _boxes(axes: Axes, style: _Drawn, zorder: float) -> None:
    """Outlines, and a tick from the centre of each to its front."""
    if not len(style.boxes):
        return
    corners = box_corners_bev(style.boxes)
    outlines = forward_up(np.concatenate([corners, corners[:, :1]], axis=1))
    front = corners[:, 2:].mean(axis=1)
    ticks = forward_up(np.stack([style.boxes[:, :2], front], axis=1))
    for lines, width in ((outlines, style.width), (ticks, 0.8 * style.width)):
        axes.add_collection(LineCollection(list(lines), colors=style.colour, linewidths=width, zorder=zorder))
