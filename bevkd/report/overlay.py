"""Boxes over sensor data: bird's-eye view and cameras, one detector per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import Normal, Stroke

from bevkd.geometry import Area, box_corners_bev
from bevkd.report.figure_kinds import Detections
from bevkd.report.runs import Runs
from bevkd.report.scenes import Array, Prediction, Scene, SceneReader, predict_frames
from bevkd.report.spec import pool
from bevkd.report.style import PALETTE, TRUTH, canvas

_TITLE, _LAYER = 0.55, 2.75  # inches


@dataclass(frozen=True)
class Layer:
    """A detector's boxes in one frame with the text and colour they are drawn in."""

    label: str
    colour: str
    prediction: Prediction


def draw_bev(axes: Axes, scene: Scene, layer: Layer, area: Area) -> None:
    """LiDAR points, ground truth dashed, the layer solid; a tick on each box shows its heading."""
    if scene.points is not None:
        near = area.holds(scene.points)
        x, y = scene.points[near, :2].T
        axes.scatter(x, y, s=0.6, c="0.65", lw=0, rasterized=True)
    _bev_boxes(axes, scene.boxes, TRUTH, "--")
    _bev_boxes(axes, layer.prediction.boxes, layer.colour, "-")
    axes.plot(0, 0, marker=">", color="k", ms=5)
    axes.set_aspect("equal")
    axes.set_xlim(area.x_min, area.x_max)
    axes.set_ylim(area.y_min, area.y_max)
    axes.grid(visible=False)


def _bev_boxes(axes: Axes, boxes: Array, colour: str, line: str) -> None:
    if not len(boxes):
        return
    corners = box_corners_bev(boxes)
    outlines = np.concatenate([corners, corners[:, :1]], axis=1)
    front = corners[:, 2:].mean(axis=1)
    ticks = np.stack([boxes[:, :2], front], axis=1)
    axes.add_collection(LineCollection(list(outlines), colors=colour, linestyles=line, linewidths=1.3))
    axes.add_collection(LineCollection(list(ticks), colors=colour, linewidths=0.9))


def draw_cameras(axes: list[Axes], scene: Scene, layer: Layer) -> None:
    """The frame's images with ground truth dashed and the layer solid."""
    for place, view in zip(axes, scene.cameras, strict=False):
        height, width = view.image.shape[:2]
        place.imshow(view.image, extent=(0, width, height, 0))
        outlined = [Stroke(linewidth=1.8, foreground="white", alpha=0.35), Normal()]
        for boxes, colour, line in ((scene.boxes, TRUTH, "--"), (layer.prediction.boxes, layer.colour, "-")):
            lines = LineCollection(view.lines(boxes), colors=colour, linestyles=line, linewidths=1.0)
            lines.set_path_effects(outlined)
            place.add_collection(lines)
        place.set_xlim(0, width)
        place.set_ylim(height, 0)
        place.set_title(view.channel.removeprefix("CAM_").replace("_", " ").lower(), fontsize=8, pad=2)
        place.axis("off")


def _row(part: Figure | SubFigure, scene: Scene, layer: Layer, area: Area) -> None:
    """BEV on the left, the cameras in two rows on the right."""
    columns = max(1, -(-len(scene.cameras) // 2))
    grid = part.add_gridspec(2, columns + 1, width_ratios=[1.35, *[1.6] * columns])
    bev = part.add_subplot(grid[:, 0])
    draw_bev(bev, scene, layer, area)
    bev.set_title(layer.label, color=layer.colour, fontweight="bold")
    bev.set_xlabel("x, forward (m)")
    bev.set_ylabel("y, left (m)")
    places = [part.add_subplot(grid[i // columns, i % columns + 1]) for i in range(len(scene.cameras))]
    draw_cameras(places, scene, layer)


def height(layers: int) -> float:
    """Inches that a block of so many layers needs."""
    return _LAYER * layers + _TITLE


def block(figure: Figure | SubFigure, scene: Scene, layers: list[Layer], area: Area) -> None:
    """One frame: a title, then one row per layer."""
    text = f"{scene.name}: {scene.description}" if scene.description else scene.name
    # The title gets a part of its own: the layout engine does not make room for one above subfigures.
    ratios = [_TITLE, *[_LAYER] * len(layers)]
    title, *parts = np.array(figure.subfigures(len(ratios), 1, height_ratios=ratios), dtype=object)
    title.text(0.5, 0.5, f"{text}\nground truth dashed red, detections solid", ha="center", va="center", fontsize=10)
    for part, layer in zip(parts, layers, strict=True):
        _row(part, scene, layer, area)


def detections(spec: Detections, runs: Runs) -> Figure:
    """The fullest frames of the report split, one block each."""
    ids = [pool(column.run)[0] for column in spec.columns]
    config = runs.config(ids[0])
    area = config.model.grid.area
    reader = SceneReader(config.data, area)
    scenes = [reader.scene(token) for token in reader.fullest(config.data.report_split, spec.frames)]
    frames = [(scene.split, scene.token) for scene in scenes]
    found = [predict_frames(runs, run, runs.row(run).seeds[0], frames, response=False) for run in ids]
    figure = canvas(11.5, height(len(ids)) * len(scenes))
    blocks = np.atleast_1d(np.array(figure.subfigures(len(scenes), 1), dtype=object))
    for i, (part, scene) in enumerate(zip(blocks, scenes, strict=True)):
        layers = []
        for k, column in enumerate(spec.columns):
            seen = found[k][i]
            shown = seen.best(len(scene.boxes)) if spec.min_score is None else seen.above(spec.min_score)
            layers.append(Layer(column.label, PALETTE[k], shown))
        block(part, scene, layers, area)
    return figure
