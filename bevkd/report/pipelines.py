"""Networks from their sensors to their heads, and what is distilled between them (SimDistill, Figures 1, 2 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from bevkd.config import RunConfig
from bevkd.report.figure_kinds import ArrowSpec, PanelSpec, Pipelines
from bevkd.report.networks import INPUT, Block, Lesson, Network, Row, lessons, read_network, stages_compared
from bevkd.report.pens import INK, arrow, write
from bevkd.report.runs import Runs
from bevkd.report.style import PALETTE, canvas

# Inches. Lanes are so far apart that the line of one passes beside the boxes of the other.
_WIDTH, _BOX, _INPUT, _LANE = 11.0, 1.9, 1.14, 1.2
_LINE, _PAD, _GAP = 0.185, 0.085, 0.24
_APART, _BETWEEN, _MARGIN = 1.2, 0.55, 0.15  # networks with arrows between them, and without; panels and edges
_TITLE, _NAME = 0.42, 0.36
_TRACK = 0.2  # between arrows at one box, and between those that lead to another row
_CLEAR = {"fc": "white", "ec": "none", "pad": 0.6}  # below names of losses, which other arrows may cross
_UNREADABLE = PALETTE[6]  # yellow, as text
_FILL = {"teacher": "#DCEBF5", "student": "#FBEBCB", "alone": "#F0F0F0"}


@dataclass(frozen=True)
class _Column:
    """A network at its place in a panel: `left` and `width` in inches of the panel."""

    label: str
    network: Network
    left: float
    role: str

    @property
    def width(self) -> float:
        return _column_width(self.network)

    @property
    def middle(self) -> float:
        return self.left + self.width / 2

    def x(self, block: Block) -> float:
        """The middle of a block."""
        return self.left + _BOX / 2 + _LANE * (block.lane[0] + block.lane[1]) / 2


@dataclass(frozen=True)
class _Panel:
    title: str
    columns: list[_Column]
    lessons: list[list[Lesson]]  # from each column to the next one
    width: float

    @property
    def rows(self) -> dict[Row, float]:
        """Height of each row that is there, from above."""
        out: dict[Row, float] = {}
        for column in self.columns:
            for block in column.network.blocks.values():
                out[block.row] = max(out.get(block.row, 0.0), _height(block))
        return dict(sorted(out.items()))

    @property
    def height(self) -> float:
        return _TITLE * bool(self.title) + _NAME + sum(self.rows.values()) + _GAP * (len(self.rows) - 1) + _MARGIN

    def middles(self, top: float) -> dict[Row, float]:
        """The middle of each row, where the panel begins at `top`."""
        out, y = {}, top - _TITLE * bool(self.title) - _NAME
        for row, height in self.rows.items():
            out[row] = y - height / 2
            y -= height + _GAP
        return out


def pipelines(spec: Pipelines, runs: Runs) -> Figure:
    """Panels of networks, as many beside each other as the page holds; within one, rows are of the same kind of part.

    Raises:
        ConfigError: a run is unknown, or its network, or its method, is none that can be shown.
    """
    configs = iter(spec.settings(runs.rows))
    panels = [_panel(panel, [next(configs) for _ in panel.curves]) for panel in spec.panels]
    lines = _packed(panels)
    width = max(_WIDTH, *(panel.width + 2 * _MARGIN for panel in panels))
    heights = [max(panel.height for panel in line) for line in lines]
    total = sum(heights) + _GAP * (len(lines) - 1) + _MARGIN

    figure = canvas(width, total)
    figure.set_layout_engine("none")  # all places are given
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, total))
    axes.axis("off")
    colours = _colours(spec, panels)
    top = total - _MARGIN / 2
    for line, height in zip(lines, heights, strict=True):
        spare = width - 2 * _MARGIN - sum(panel.width for panel in line)
        left, between = (_MARGIN, spare / (len(line) - 1)) if len(line) > 1 else (_MARGIN + spare / 2, 0.0)
        for panel in line:
            _draw(axes, panel, left, top, colours)
            left += panel.width + between
        top -= height + _GAP
    return figure


def _packed(panels: Sequence[_Panel]) -> list[list[_Panel]]:
    """Panels in lines of the page."""
    out: list[list[_Panel]] = []
    for panel in panels:
        used = sum(one.width + _MARGIN for one in out[-1]) + _MARGIN if out else 0.0
        if out and used + panel.width + _MARGIN <= _WIDTH:
            out[-1].append(panel)
        else:
            out.append([panel])
    return out


def _panel(spec: PanelSpec, configs: Sequence[RunConfig]) -> _Panel:
    pairs = [(configs[k], configs[k + 1]) for k in range(len(configs) - 1)]
    shown = [stages_compared(student, teacher) for teacher, student in pairs]
    networks = []
    for k, config in enumerate(configs):
        stages = {*(shown[k - 1] if k else ()), *(shown[k] if k < len(shown) else ())}
        networks.append(read_network(config, stages))
    taught = [lessons(student, networks[k + 1], teacher, networks[k]) for k, (teacher, student) in enumerate(pairs)]
    columns, left = list[_Column](), 0.0
    for k, network in enumerate(networks):
        learns, teaches = k > 0 and bool(taught[k - 1]), k < len(taught) and bool(taught[k])
        role = "student" if learns else "teacher" if teaches else "alone"
        columns.append(_Column(spec.curves[k].label, network, left, role))
        left = columns[-1].left + columns[-1].width + (_APART if teaches else _BETWEEN)
    return _Panel(spec.title, columns, taught, columns[-1].left + columns[-1].width)


def _column_width(network: Network) -> float:
    return _BOX + _LANE * (network.lanes - 1)


def _height(block: Block) -> float:
    return _LINE * (1 + len(block.lines)) + 2 * _PAD


def _colours(spec: Pipelines, panels: Sequence[_Panel]) -> dict[str, ArrowSpec]:
    """Label and colour of every loss; those of which nothing is said take what is left of the palette."""
    there = [loss for panel in panels for links in panel.lessons for lesson in links for loss in lesson.losses]
    out = dict(spec.losses)
    taken = {one.colour for one in out.values()} | {_UNREADABLE}
    spare = [colour for colour in PALETTE if colour not in taken]
    for loss in dict.fromkeys(there):
        if loss not in out:
            colour = spare[(len(out) - len(spec.losses)) % len(spare)]
            out[loss] = ArrowSpec(loss.replace("_", " "), colour)
    return out


def _draw(axes: Axes, panel: _Panel, left: float, top: float, colours: dict[str, ArrowSpec]) -> None:
    middles = panel.middles(top)
    if panel.title:
        write(axes, left + panel.width / 2, top - _TITLE / 2, panel.title, size=12, weight="bold", ha="center")
    for column in panel.columns:
        y = top - _TITLE * bool(panel.title) - _NAME / 2
        write(axes, left + column.middle, y, column.label, size=11, weight="bold", ha="center")
        for block in column.network.blocks.values():
            fill = "white" if block.row[0] == INPUT else _FILL[column.role]
            _flow(axes, column, block, left, middles)
            _box(axes, block, left + column.x(block), middles[block.row], _width(block, column), fill)
    for k, links in enumerate(panel.lessons):
        _lessons(axes, panel.columns[k], panel.columns[k + 1], links, left, middles, colours)


def _box(axes: Axes, block: Block, x: float, y: float, width: float, fill: str) -> None:
    height = _height(block)
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height,
        boxstyle="round,pad=0,rounding_size=0.07", fc=fill, ec=INK, lw=1.1, zorder=2,
    )  # fmt: skip
    axes.add_patch(shape)
    for k, line in enumerate((block.title, *block.lines)):
        at = y + height / 2 - _PAD - (k + 0.5) * _LINE
        write(axes, x, at, line, ha="center", weight="normal" if k else "bold", zorder=3)


def _width(block: Block, column: _Column) -> float:
    """Inputs of several sensors stand beside each other."""
    beside = column.network.lanes > 1 and block.lane[0] == block.lane[1]
    return _INPUT if block.row[0] == INPUT and beside else _BOX


def _flow(axes: Axes, column: _Column, block: Block, left: float, middles: dict[Row, float]) -> None:
    """Lines to a block from those that it reads, straight down the lane of whichever has the narrower one."""
    for name in block.reads:
        source = column.network.blocks[name]
        narrow = min((block, source), key=lambda one: one.lane[1] - one.lane[0])
        x = left + column.x(narrow)
        start = middles[source.row] - _height(source) / 2
        end = middles[block.row] + _height(block) / 2
        arrow(axes, [(x, start), (x, end)], INK)


def _lessons(
    axes: Axes,
    teacher: _Column,
    student: _Column,
    links: Sequence[Lesson],
    left: float,
    middles: dict[Row, float],
    colours: dict[str, ArrowSpec],
) -> None:
    """Arrows from blocks of the teacher to those of the student beside it."""
    edge = left + teacher.left + teacher.width, left + student.left
    at_teacher = [teacher.network.blocks[link.teacher] for link in links]
    at_student = [student.network.blocks[link.student] for link in links]
    tracks = [k for k, pair in enumerate(zip(at_teacher, at_student, strict=True)) if pair[0].row != pair[1].row]
    for k, (link, one, other) in enumerate(zip(links, at_teacher, at_student, strict=True)):
        shifts = [_shift(k, at_teacher), _shift(k, at_student)]
        if one.row == other.row:
            shifts = [max(shifts, key=abs)] * 2
        start = left + teacher.x(one) + _width(one, teacher) / 2, middles[one.row] + shifts[0]
        end = left + student.x(other) - _width(other, student) / 2, middles[other.row] + shifts[1]
        looks = [colours[loss] for loss in link.losses]
        points = [start, end]
        if one.row != other.row:
            x = edge[0] + _TRACK * (1 + tracks.index(k))
            points = [start, (x, start[1]), (x, end[1]), end]
        arrow(axes, points, looks[0].colour)
        middle = sum(edge) / 2 + (_TRACK if one.row != other.row else 0.0)
        for n, look in enumerate(reversed(looks)):
            y = end[1] + 0.13 + n * _LINE
            write(axes, middle, y, look.label, ha="center", weight="bold", color=look.colour, bbox=_CLEAR, zorder=4)


def _shift(k: int, blocks: Sequence[Block]) -> float:
    """How far above the middle of its block the k-th arrow is, where several meet there."""
    same = [n for n, block in enumerate(blocks) if block.name == blocks[k].name]
    return ((len(same) - 1) / 2 - same.index(k)) * 2 * _TRACK
