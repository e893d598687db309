"""What a detector finds over LiDAR points seen from above, several frames on black (SimDistill, Figure 5)."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bevkd.geometry import Area, box_corners_bev
from bevkd.report.figure_kinds import TopView
from bevkd.report.runs import Runs
from bevkd.report.scenes import Array, Prediction, Scene, SceneReader, predict_frames
from bevkd.report.style import canvas, forward_up, legend_outside

# As in the paper: prediction green, ground truth red, points white.
_FOUND, _TRUTH, _POINTS, _BACK = "#00E000", "#FF3030", "white", "black"
_COLUMNS, _SIDE, _LEGEND, _TITLE = 3, 3.7, 0.45, 0.3  # panels in a row, inches


def top_view(spec: TopView, runs: Runs) -> Figure:
    """The fullest frames of the report split, each of another scene, forward up; footprints of boxes alone.

    Raises:
        DataError: the run is missing, or bad data.
    """
    (run,) = spec.runs(runs.rows)
    config = runs.config(run)
    area = config.model.grid.area
    reader = SceneReader(config.data, area, sensors=("lidar",))
    scenes = [reader.scene(token) for token in reader.fullest(config.data.report_split, spec.frames)]
    frames = [(scene.split, scene.token) for scene in scenes]
    found = predict_frames(runs, run, runs.row(run).seeds[0], frames, response=False)

    columns = min(_COLUMNS, len(scenes))
    rows = math.ceil(len(scenes) / columns)
    tall = (area.x_max - area.x_min) / (area.y_max - area.y_min)
    figure = canvas(max(_SIDE * columns, 1.5 * _SIDE), (_SIDE * tall + _TITLE) * rows + _LEGEND)
    figure.set_facecolor(_BACK)
    layout = figure.get_layout_engine()
    assert layout is not None
    layout.set(w_pad=0.04, h_pad=0.04, wspace=0.02, hspace=0.02)  # type: ignore[call-arg]
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, scene, prediction in zip(places, scenes, found, strict=False):
        count = len(scene.boxes)
        _panel(
            axes, scene, prediction.best(count) if spec.min_score is None else prediction.above(spec.min_score), area
        )
    for axes in places[len(scenes) :]:
        axes.axis("off")
    lines = [
        Line2D([], [], color=_TRUTH, lw=2, label="ground truth"),
        Line2D([], [], color=_FOUND, lw=2, label=spec.detector.label),
    ]
    legend_outside(figure, lines, labelcolor="white", fontsize=12)
    return figure


def _panel(axes: Axes, scene: Scene, found: Prediction, area: Area) -> None:
    axes.set_facecolor(_BACK)
    if scene.points is not None:
        x, y = forward_up(scene.points[area.holds(scene.points)]).T
        axes.scatter(x, y, s=1.0, c=_POINTS, lw=0, alpha=0.7, rasterized=True, zorder=1)
    _outlines(axes, scene.boxes, _TRUTH, 2)
    _outlines(axes, found.boxes, _FOUND, 3)
    axes.set_aspect("equal")
    axes.set_xlim(-area.y_max, -area.y_min)
    axes.set_ylim(area.x_min, area.x_max)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color="0.45", linewidth=0.8)
    several = "" if len(found.boxes) == 1 else "s"
    said = f"{scene.name}: {len(found.boxes)} detection{several}, {len(scene.boxes)} annotated"
    axes.set_title(said, color="white", fontsize=10.5, pad=4)


def _outlines(axes: Axes, boxes: Array, colour: str, zorder: float) -> None:
    if len(boxes):
        corners = list(forward_up(box_corners_bev(boxes)))
        lines = [[*one, one[0]] for one in corners]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.4, zorder=zorder))
