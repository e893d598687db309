"""Where a compensation module gathers the features of a mis-lifted object (SimDistill, Figure 3).

Which object: a wrong depth puts the features of an object before or behind it, as seen from the vehicle. So of all
annotated objects of the frames that one is shown on whose line of sight the map before the compensation holds most
beside what it holds in the box: the mean energy (square of the features, summed over channels) of the cells that lie in
no box, within `half` metres of the centre of the box and as far beside the line of sight through it as the box reaches,
over the mean energy of the cells of the box. Boxes that hold the centres of fewer than four cells are left out: a cell
that nothing was lifted into would win with any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid, box_corners_bev, points_in_boxes
from bevkd.models.base import Detector
from bevkd.models.camera.compensation.base import Compensation
from bevkd.report.figure_kinds import SamplingOffsets
from bevkd.report.runs import Runs
from bevkd.report.scenes import Array, Scene, SceneReader, look_at_frames
from bevkd.report.style import TRUTH, canvas, forward_up, legend_outside

BEFORE, AFTER = "simulated.raw", "simulated"
_DOT, _CELL = "#FFFFFF", "#FF4FD8"
_LEAST_CELLS = 4  # of a box
_LARGEST = 90.0  # area of a dot (points squared) of the largest weight
_LEGEND = 0.45  # inches


@dataclass(frozen=True)
class Sampled:
    """An object and where the compensation of the cell at its centre looks.

    Attributes:
        frame: its place among the frames; box: its place among the boxes of that one.
        ratio: mean energy before and behind it over that in its box.
        cell: (ix, iy).
        places: (n, 2) metres of the ego frame; weights: (n,), 1 in sum over a head.
        before, after: mean of the absolute values over channels (H, W).
    """

    frame: int
    box: int
    ratio: float
    cell: tuple[int, int]
    places: Array
    weights: Array
    before: Array
    after: Array


def sampling_offsets(spec: SamplingOffsets, runs: Runs) -> Figure:
    """The frame before the compensation, and the region of the object before and after it, forward up.

    Raises:
        ConfigError: the network does not compensate a BEV map by sampling.
        DataError: the run is missing, or its frames have no annotated object.
    """
    (run,) = spec.runs(runs.rows)
    config = runs.config(run)
    reader = SceneReader(config.data, config.model.grid.area, sensors=("lidar",))
    scenes = [reader.scene(token) for token in reader.fullest(config.data.report_split, spec.frames)]
    chosen = choose(spec, runs, run, scenes)
    if chosen is None:
        raise DataError(f"run {run!r}: no annotated object in {len(scenes)} frames", file=config.data.index)
    return _draw(spec, scenes[chosen.frame], chosen, config.model.grid.build())


def choose(spec: SamplingOffsets, runs: Runs, run: str, scenes: Sequence[Scene]) -> Sampled | None:
    """The object whose map is most outside of its box; of equals the first."""
    best: Sampled | None = None
    frames = [(scene.split, scene.token) for scene in scenes]
    for k, (detector, outputs) in enumerate(look_at_frames(runs, run, runs.row(run).seeds[0], frames)):
        module = compensation_of(detector, f"figure {spec.name!r}: run {run!r}")
        maps, after = (outputs.feature(name).double() for name in (BEFORE, AFTER))
        energy = maps[0].square().sum(0).numpy()
        ratios = outside_over_inside(energy, scenes[k].boxes, detector.grid, spec.half, _LEAST_CELLS)
        if ratios.max(initial=0.0) <= (0.0 if best is None else best.ratio):
            continue
        box = int(ratios.argmax())
        cell = _cell(scenes[k].boxes[box], detector.grid)
        with torch.inference_mode():
            places, weights = module.sampling(outputs.feature(BEFORE))  # type: ignore[operator]
        flat = cell[1] * detector.grid.W + cell[0]
        at = places[0, flat].double().reshape(-1, 2).numpy()
        corner = np.array([detector.grid.x_min, detector.grid.y_min])
        best = Sampled(
            frame=k,
            box=box,
            ratio=float(ratios[box]),
            cell=cell,
            places=corner + (at + 0.5) * detector.grid.cell,  # the centre of cell (iy, ix) is (ix, iy)
            weights=weights[0, flat].double().flatten().numpy(),
            before=maps[0].abs().mean(0).numpy(),
            after=after[0].abs().mean(0).numpy(),
        )
    return best


def compensation_of(detector: Detector, where: str) -> Compensation:
    """The module between `simulated.raw` and `simulated`.

    Raises:
        ConfigError: the network has none, or one that does not sample.
    """
    encoders = getattr(detector, "encoders", {})
    module = getattr(encoders["camera"], "gcm_bev", None) if "camera" in encoders else None
    if BEFORE not in detector.spec.features or not isinstance(module, Compensation):
        raise ConfigError(f"{where}: its network compensates no BEV map")
    if not hasattr(module, "sampling"):
        raise ConfigError(f"{where}: its compensation {type(module).__name__} does not say where it looks")
    return module


def outside_over_inside(energy: Array, boxes: Array, grid: BEVGrid, reach: float, least_cells: int = 0) -> Array:
    """Mean energy of a map (H, W) before and behind each box (G, 9) over that in it (G,), see the module.

    Args:
        energy: of the map.
        boxes: of the frame.
        grid: of the map.
        reach: how far before and behind the centre of a box (m).
        least_cells: centres of cells that a box has to hold; others have 0. With none a box has the cell at its own.
    """
    centres = grid.cell_centres().double().numpy().reshape(-1, 2)
    flat = energy.reshape(-1)
    if not len(boxes):
        return np.zeros(0)
    lifted = np.column_stack([centres, np.zeros(len(centres))])
    held = points_in_boxes(lifted, _flat(boxes)).T  # (H * W, G)
    large = held.sum(axis=0) >= least_cells
    rows = [grid.W * iy + ix for ix, iy in (_cell(box, grid) for box in boxes)]
    held[rows, np.arange(len(boxes))] = True
    free = ~held.any(axis=1)
    out = np.zeros(len(boxes))
    for k, box in enumerate(boxes):
        offset, azimuth = centres - box[:2], np.arctan2(box[1], box[0])
        beside = np.abs(offset @ [-np.sin(azimuth), np.cos(azimuth)])
        turned = box[6] - azimuth
        wide = (box[3] * np.abs(np.sin(turned)) + box[4] * np.abs(np.cos(turned))) / 2
        around = free & (np.hypot(*offset.T) <= reach) & (beside <= max(wide, grid.cell / 2))
        inside = flat[held[:, k]].mean()
        if large[k] and around.any() and inside > 0:
            out[k] = flat[around].mean() / inside
    return out


def _flat(boxes: Array) -> Array:
    """The boxes at height 0."""
    out = boxes.copy()
    out[:, 2] = 0
    return out


def _cell(box: Array, grid: BEVGrid) -> tuple[int, int]:
    """The cell (ix, iy) at the centre of a box; the nearest one of the grid."""
    ix, iy = np.floor((box[:2] - [grid.x_min, grid.y_min]) / grid.cell).astype(int)
    return int(np.clip(ix, 0, grid.W - 1)), int(np.clip(iy, 0, grid.H - 1))


def _draw(spec: SamplingOffsets, scene: Scene, chosen: Sampled, grid: BEVGrid) -> Figure:
    figure = canvas(11.5, 4.0 + _LEGEND)
    whole, before, after = figure.subplots(1, 3)
    extent = (-grid.y_max, -grid.y_min, grid.x_min, grid.x_max)
    # The object is in the middle, as far as the map goes around it.
    ends = np.array([[extent[0], extent[2]], [extent[1], extent[3]]])
    half = np.minimum(spec.half, (ends[1] - ends[0]) / 2)
    centre = np.clip(forward_up(scene.boxes[chosen.box, :2]), ends[0] + half, ends[1] - half)
    low, high = centre - half, centre + half
    near = _within(chosen.before, chosen.after, low, high, grid)
    scales = [np.percentile(chosen.before, [1, 99]), near, near]
    for axes, maps, (least, most), title in zip(
        (whole, before, after),
        (chosen.before, chosen.before, chosen.after),
        scales,
        ("(a) simulated LiDAR map", "(b) before compensation", "(c) after compensation"),
        strict=True,
    ):
        options = {"origin": "lower", "cmap": "viridis", "interpolation": "nearest"}
        image = axes.imshow(maps.T[:, ::-1], extent=extent, vmin=least, vmax=most, **options)
        for k, corners in enumerate(box_corners_bev(scene.boxes)):
            width = 2.0 if k == chosen.box else 1.0
            axes.fill(*forward_up(corners).T, fill=False, edgecolor=TRUTH, lw=width, zorder=3)
        axes.grid(visible=False)
        axes.set_title(title)
        axes.set_xlabel("to the right (m)")
        figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    whole.set_ylabel(f"{scene.name}\nforward (m)")
    whole.plot(0, 0, marker="^", color="w", mec="k", ms=6)
    whole.set_xlim(extent[0], extent[1])
    whole.set_ylim(extent[2], extent[3])
    whole.add_patch(Rectangle((low[0], low[1]), *(high - low), fill=False, ec="w", lw=1.6))
    for axes in (before, after):
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        _outline_cell(axes, chosen.cell, grid)
    at = forward_up(chosen.places)
    sizes = _LARGEST * chosen.weights / chosen.weights.max()
    before.scatter(at[:, 0], at[:, 1], s=sizes, c=_DOT, ec="k", lw=0.6, alpha=0.85, zorder=5)
    handles = [
        Line2D([], [], color=TRUTH, lw=2, label="ground truth"),
        Line2D([], [], marker="s", ls="", mfc="none", mec=_CELL, mew=2, ms=9, label="cell at the object's centre"),
        Line2D([], [], marker="o", ls="", mfc=_DOT, mec="k", ms=8, label="where it looks, area by weight"),
    ]
    said = f"energy before and behind the box over that in it: {chosen.ratio:.1f}"
    legend_outside(figure, handles, title=said, title_fontsize=10)
    return figure


def _within(before: Array, after: Array, low: Array, high: Array, grid: BEVGrid) -> NDArray[np.float64]:
    """One colour scale of both maps between two corners of the page, so that they can be compared."""
    centres = grid.cell_centres().double().numpy().reshape(-1, 2)
    places = forward_up(centres)
    near = ((low <= places) & (places <= high)).all(axis=1)
    return np.percentile(np.concatenate([before.reshape(-1)[near], after.reshape(-1)[near]]), [1, 99])


def _outline_cell(axes: Axes, cell: tuple[int, int], grid: BEVGrid) -> None:
    x, y = grid.x_min + cell[0] * grid.cell, grid.y_min + cell[1] * grid.cell
    corners = np.array([[x, y], [x + grid.cell, y], [x + grid.cell, y + grid.cell], [x, y + grid.cell]])
    axes.fill(*forward_up(corners).T, fill=False, edgecolor=_CELL, lw=2.0, zorder=4)
