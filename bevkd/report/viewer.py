"""`bevkd view`: one frame as a run and those that it is compared with see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from bevkd.config import DataConfig, RunConfig
from bevkd.errors import BevkdError, DataError
from bevkd.geometry import Area
from bevkd.report.companions import companions
from bevkd.report.labels import LabelPlacer, class_name, words
from bevkd.report.overlay import Layer, draw_bev, draw_cameras
from bevkd.report.runs import Runs, not_trained, read_config
from bevkd.report.scenes import Array, CameraView, Prediction, Scene, SceneReader, predict_frames
from bevkd.report.style import PALETTE, TRUTH, canvas, save, style

MIN_SCORE = 0.3
WIDTH, DPI = 16.0, 150
_BEV, _TITLE, _LINE = (
    4.65,
    0.4,
    0.28,
)  # inches, at the usual width: a side of a bird's-eye view, the title, a line below it
_LABELS = 40  # at most so many boxes of a picture are named


@dataclass(frozen=True)
class Look:
    """How a picture is made.

    Attributes:
        min_score: detections with less are left out.
        width: of the picture in inches.
        dpi: pixels per inch.
    """

    min_score: float = MIN_SCORE
    width: float = WIDTH
    dpi: int = DPI


@dataclass(frozen=True)
class Viewed:
    """A trained run and the data set that its frames are taken from.

    Attributes:
        where: root, index and version, if other ones than those that it was trained on.
    """

    runs: Runs
    run: str
    seed: int
    config: RunConfig
    where: DataConfig

    @classmethod
    def open(cls, runs: Runs, run: str, seed: int, index: Path | None = None, root: Path | None = None) -> Viewed:
        """The run as it was trained; it need not be in the configuration any more.

        Raises:
            ConfigError: the run is unknown.
            DataError: it has not been trained, or what it left cannot be read.
        """
        folder = runs.folder(run, seed)
        if not (folder / "model.pt").exists():
            runs.row(run)
            raise DataError(not_trained(runs, run, seed), file=folder / "model.pt")
        config = read_config(folder / "config.yaml")
        where = config.data
        if index is not None:
            where = replace(where, index=str(index))
        if root is not None:
            where = replace(where, root=str(root))
        return cls(runs, run, seed, config, where)

    def reader(self) -> SceneReader:
        """Its frames.

        Raises:
            DataError: there is no index, or no data set.
        """
        return SceneReader(self.where, self.config.model.grid.area)


def view_frame(
    viewed: Viewed,
    reader: SceneReader,
    token: str,
    out: Path,
    look: Look | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write `<run>_<token>.png`: the frame as the run and its companions see it, in BEV and on the cameras.

    Companions that cannot be shown are left out; the picture and `tell` say why.

    Raises:
        CheckpointError: the run has no usable model.
        DataError: unknown frame, or bad data.
    """
    look = look or Look()
    scene = reader.scene(token)
    layers, notes = _layers(viewed, scene, tell)
    with style():
        figure = draw(scene, layers, viewed.config.model.grid.area, look, notes)
        return save(figure, out / f"{viewed.run}_{token.replace('/', '_')}.png", look.dpi)


def _layers(viewed: Viewed, scene: Scene, tell: Callable[[str], None]) -> tuple[list[Layer], list[str]]:
    """What the run and its companions see, and which of them are left out."""
    runs, row = viewed.runs, viewed.config.row
    layers, notes = [], []
    for colour, one in zip(PALETTE, companions(runs.rows, row, viewed.config.scale, viewed.seed), strict=False):
        itself = (one.run, one.seed) == (viewed.run, viewed.seed)
        if not (runs.folder(one.run, one.seed) / "model.pt").exists():
            notes.append(f"{one.label} (not trained)")
            tell(f"left out {one.role}: {not_trained(runs, one.run, one.seed)}")
            continue
        try:
            (found,) = predict_frames(
                runs, one.run, one.seed, [(scene.split, scene.token)], viewed.where, response=False
            )
        except BevkdError as error:
            if itself:
                raise
            notes.append(f"{one.label} (cannot look at this frame)")
            tell(f"left out {one.label}: {error}")
            continue
        seed = f", seed {one.seed}" if one.seed != viewed.seed or viewed.seed else ""
        layers.append(Layer(f"{one.label}{seed}", colour, found))
    return layers, notes


def draw(scene: Scene, layers: list[Layer], area: Area, look: Look, notes: list[str]) -> Figure:
    """A title, then per layer the bird's-eye view and the cameras."""
    zoom = look.width / WIDTH
    heights = [(_TITLE + _LINE * (2 if notes else 1)) * zoom, *[_BEV * zoom * _tallness(area)] * len(layers)]
    figure = canvas(look.width, sum(heights))
    head, *parts = np.array(figure.subfigures(len(heights), 1, height_ratios=heights), dtype=object)
    _title(head, scene, look, notes, zoom)
    drawn = [_row(part, scene, layer, area, look, zoom) for part, layer in zip(parts, layers, strict=True)]
    _settle(figure, [axes for bev, cameras in drawn for axes in (bev, *cameras)])
    placer = LabelPlacer(figure, 6.5 * zoom)
    for places, layer in zip(drawn, layers, strict=True):
        _name_boxes(placer, places, scene, layer.prediction.above(look.min_score), layer.colour, area)
    return figure


def _settle(figure: Figure, axes: list[Axes]) -> None:
    """Fix the layout, without the work of drawing: names are placed where boxes have come to lie."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")
    for one in axes:
        one.apply_aspect()


def _tallness(area: Area) -> float:
    """Height of a bird's-eye view beside its width, within what looks good."""
    return float(np.clip((area.y_max - area.y_min) / (area.x_max - area.x_min), 0.7, 1.3))


def _title(part: SubFigure, scene: Scene, look: Look, notes: list[str], zoom: float) -> None:
    name = scene.name if scene.name != scene.token else ""
    text = ": ".join(one for one in (name, scene.description) if one)
    count = len(scene.boxes)
    truth = f"{count} box{'' if count == 1 else 'es'}, dashed red" if count else "none"
    lines = [
        " · ".join(one for one in (text, f"frame {scene.token}", f"split {scene.split}" if scene.split else "") if one),
        f"ground truth: {truth}; detections with a score of at least {look.min_score:g}: solid, with class and score",
        *(["left out: " + ", ".join(notes)] if notes else []),
    ]
    sizes, colours = (11, 9.5, 9.5), ("black", "black", "#B22222")
    for number, (line, size, colour) in enumerate(zip(lines, sizes, colours, strict=False)):
        place = 1 - (0.6 * _TITLE + _LINE * number) / (_TITLE + _LINE * (len(lines) - 1))
        part.text(0.5, place, line, ha="center", va="center", fontsize=size * zoom, color=colour)


def _row(part: SubFigure, scene: Scene, layer: Layer, area: Area, look: Look, zoom: float) -> tuple[Axes, list[Axes]]:
    """BEV on the left, the cameras on the right: in two rows, or a single one large."""
    count = len(scene.cameras)
    lines = 2 if count > 1 else 1
    columns = -(-count // lines)
    wide = [1.6 if count > 1 else 3.2] * columns
    grid = part.add_gridspec(lines, columns + 1, width_ratios=[1.6, *wide])
    shown = Layer(layer.label, layer.colour, layer.prediction.above(look.min_score))
    bev = part.add_subplot(grid[:, 0])
    draw_bev(bev, scene, shown, area)
    found = len(shown.prediction.boxes)
    bev.set_title(f"{layer.label}: {found or 'no'} detection{'' if found == 1 else 's'}", color=layer.colour,
                  fontweight="bold", fontsize=10 * zoom)  # fmt: skip
    bev.set_xlabel("x, forward (m)", fontsize=8 * zoom)
    bev.set_ylabel("y, left (m)", fontsize=8 * zoom)
    bev.tick_params(labelsize=8 * zoom)
    if not found:
        _say_nothing_found(bev, layer.prediction, look, zoom)
    places = [part.add_subplot(grid[i // columns, i % columns + 1]) for i in range(count)]
    draw_cameras(places, scene, shown)
    return bev, places


def _say_nothing_found(axes: Axes, prediction: Prediction, look: Look, zoom: float) -> None:
    scores = prediction.scores
    best = f"the best score is {scores.max():.2g}" if len(scores) else "none with any score"
    axes.text(
        0.5, 0.06, f"no detection with a score of at least {look.min_score:g};\n{best}", transform=axes.transAxes,
        ha="center", va="bottom", fontsize=8.5 * zoom, zorder=10,
        bbox={"boxstyle": "round", "facecolor": "white", "alpha": 0.9, "edgecolor": "0.6"},
    )  # fmt: skip


def _name_boxes(
    placer: LabelPlacer, places: tuple[Axes, list[Axes]], scene: Scene, found: Prediction, colour: str, area: Area
) -> None:
    """Class and score at detections, the best first, then the class at annotations, where there is still room."""
    bev, cameras = places
    order = np.argsort(-found.scores, kind="stable")[:_LABELS]
    texts = [words(int(found.labels[i]), float(found.scores[i])) for i in order]
    names = [class_name(int(label)) for label in scene.labels[:_LABELS]]
    taken = placer.place(bev, _tops(found.boxes[order]), texts, colour)
    placer.place(bev, _tops(scene.boxes[:_LABELS]), names, TRUTH, taken)
    for axes, view in zip(cameras, scene.cameras, strict=True):
        anchors = [_anchor(view, box) for box in found.boxes[order]]
        seen = [(place, text) for place, text in zip(anchors, texts, strict=True) if place is not None]
        placer.place(axes, [place for place, _ in seen], [text for _, text in seen], colour)


def _tops(boxes: Array) -> list[tuple[float, float]]:
    """Just left of each box (up in the picture), in metres."""
    return [(float(x), float(y + 0.5 * (abs(np.sin(yaw)) * length + abs(np.cos(yaw)) * width)))
            for x, y, _, length, width, _, yaw, *_ in boxes]  # fmt: skip


def _anchor(view: CameraView, box: Array) -> tuple[float, float] | None:
    """The upper middle of a box in an image (px); None where little of it is in the picture."""
    lines = view.lines(box[None])
    if not lines:
        return None
    height, width = view.image.shape[:2]
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    left, right = max(low[0], 0.0), min(high[0], float(width))
    if right - left < 0.3 * (high[0] - low[0]) or high[1] < 0 or low[1] > height:
        return None
    return 0.5 * (left + right), float(max(low[1], 0.0))
