"""Two BEV encoders and what is distilled between them, as a diagram (DistillBEV, Figure 4 of the supplement)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from bevkd.report.encoders import Link, Map, read_encoders
from bevkd.report.figure_kinds import BEVEncoders
from bevkd.report.pens import FAINT, INK, arrow, write
from bevkd.report.runs import Runs
from bevkd.report.style import PALETTE, canvas

# Inches. The page is 11 wide: lanes of skip connections outside, adapters between teacher and student.
_WIDTH, _BOX, _ADAPTER = 11.0, 3.3, 2.5
_TEACHER, _STUDENT = 0.62, _WIDTH - 0.62 - _BOX
_LANE, _LINE, _PAD, _GAP, _NAME = 0.18, 0.2, 0.1, 0.3, 0.66
_TITLE, _END = 0.5, 0.65
_DISTILLED = PALETTE[5]
_FILL = {"teacher": "#DCEBF5", "student": "#FBEBCB", "adapter": "#FCE8DC"}
_NAMES = {"low": "input", "high": "H"}  # as the paper has them


@dataclass(frozen=True)
class _Box:
    """A box with lines of text, `name` in bold before them; inches from the lower left corner of the page."""

    left: float
    middle: float
    width: float
    lines: tuple[str, ...]
    name: str = ""

    @property
    def height(self) -> float:
        return _height(self.lines)

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def top(self) -> float:
        return self.middle + self.height / 2

    @property
    def bottom(self) -> float:
        return self.middle - self.height / 2


def bev_encoders(spec: BEVEncoders, runs: Runs) -> Figure:
    """Teacher on the left, student on the right, a map per row from the input to H; adapters between maps that are
    compared; dashed: stages of both that are not. Sizes are C x H x W.

    Raises:
        ConfigError: a run is unknown, or its network is none that can be shown.
    """
    found = read_encoders(*spec.settings(runs.rows))
    links = {link.level: link for link in found.links}
    names = _rows(found.teacher, found.student)
    middles, height = _places(names, (found.teacher, found.student), links)
    in_both = {one.name for one in found.teacher} & {one.name for one in found.student}
    apart = {name for name in in_both if name.startswith("B")} - links.keys()

    figure = canvas(_WIDTH, height)
    figure.set_layout_engine("none")  # all places are given
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _WIDTH), ylim=(0, height))
    axes.axis("off")
    centres = (_TEACHER + _BOX / 2, _WIDTH / 2, _STUDENT + _BOX / 2)
    titles = (f"Teacher: {spec.teacher.label}", spec.distilled.label, f"Student: {spec.student.label}")
    for x, title in zip(centres, titles, strict=True):
        colour = _DISTILLED if title == spec.distilled.label else INK
        write(axes, x, height - _TITLE / 2, title, size=12, weight="bold", ha="center", color=colour)
    columns = []
    for role, maps, left in (("teacher", found.teacher, _TEACHER), ("student", found.student, _STUDENT)):
        boxes = {one.name: _Box(left, middles[one.name], _BOX, _lines(one), _named(one)) for one in maps}
        for name, box in boxes.items():
            _draw(axes, box, _FILL[role] if name in links else "white", dashed=name in apart)
        _connect(axes, maps, boxes, outwards=-1 if role == "teacher" else 1)
        columns.append(boxes)
    for name, link in links.items():
        box = _Box(_WIDTH / 2 - _ADAPTER / 2, middles[name], _ADAPTER, _adapter_lines(link))
        _draw(axes, box, _FILL["adapter"], edge=_DISTILLED)
        arrow(axes, [(columns[1][name].left, box.middle), (box.right, box.middle)], _DISTILLED)
        arrow(axes, [(box.left, box.middle), (columns[0][name].right, box.middle)], _DISTILLED)
    for name in sorted(apart):
        _apart(axes, columns[0][name].right, columns[1][name].left, middles[name])
    return figure


def _rows(teacher: Sequence[Map], student: Sequence[Map]) -> list[str]:
    """Maps from the input to H; stages that only one network has stand where they are in that one."""
    first, second = ([one.name for one in maps] for maps in (teacher, student))
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    assert set(shorter) <= set(longer), "stages are numbered"
    return longer


def _named(one: Map) -> str:
    return _NAMES.get(one.name, one.name)


def _lines(one: Map) -> tuple[str, ...]:
    return (*one.layers, f"{' × '.join(map(str, one.shape))}, cells of {one.cell:.3g} m")


def _adapter_lines(link: Link) -> tuple[str, ...]:
    widths = " → ".join(map(str, link.widths))
    return (*link.layers, f"{widths} channels", f"{link.parameters / 1e6:.3f} M parameters")


def _height(lines: Sequence[str]) -> float:
    return len(lines) * _LINE + 2 * _PAD


def _places(
    names: Sequence[str], columns: Sequence[Sequence[Map]], links: dict[str, Link]
) -> tuple[dict[str, float], float]:
    """The middle of each row, from below, and the height of the page."""
    heights = []
    for name in names:
        row = [_lines(one) for maps in columns for one in maps if one.name == name]
        heights.append(max(map(_height, [*row, *([_adapter_lines(links[name])] if name in links else [])])))
    total = _TITLE + sum(heights) + _GAP * (len(names) - 1) + _END
    out, top = {}, total - _TITLE
    for name, height in zip(names, heights, strict=True):
        out[name] = top - height / 2
        top -= height + _GAP
    return out, total


def _draw(axes: Axes, box: _Box, fill: str, edge: str = INK, dashed: bool = False) -> None:
    style, line = "round,pad=0,rounding_size=0.08", (0, (4, 2.5)) if dashed else "-"
    shape = FancyBboxPatch(
        (box.left, box.bottom), box.width, box.height, boxstyle=style, fc=fill, ec=edge, lw=1.1, ls=line, zorder=2
    )
    axes.add_patch(shape)
    if box.name:
        size = 12 if len(box.name) <= 2 else 10.5
        write(axes, box.left + _NAME / 2, box.middle, box.name, size=size, weight="bold", ha="center", zorder=3)
    for k, line_of_text in enumerate(box.lines):
        last = bool(box.name) and k == len(box.lines) - 1  # the size of the map
        x, align = (box.left + _NAME, "left") if box.name else (box.left + box.width / 2, "center")
        y = box.top - _PAD - (k + 0.5) * _LINE
        write(axes, x, y, line_of_text, ha=align, weight="bold" if last else "normal", zorder=3)


def _connect(axes: Axes, maps: Sequence[Map], boxes: dict[str, _Box], outwards: int) -> None:
    """What each map is made of: from the one before it straight, from others through lanes outside of the column."""
    for k, one in enumerate(maps):
        box = boxes[one.name]
        skips = [name for name in one.reads if k == 0 or name != maps[k - 1].name]
        if len(skips) < len(one.reads):
            before, x = boxes[maps[k - 1].name], box.left + box.width / 2
            arrow(axes, [(x, before.bottom), (x, box.top)], INK)
        for i, name in enumerate(skips):
            source = boxes[name]
            side = box.left if outwards < 0 else box.right
            # The earliest map takes the outermost lane and arrives lowest, so that no two lines cross.
            out = side + outwards * (len(skips) - i) * _LANE
            y = box.middle - (len(skips) - 1 - 2 * i) * _LINE / 2
            arrow(axes, [(side, source.middle), (out, source.middle), (out, y), (side, y)], INK)
    last = boxes[maps[-1].name]
    x, end = last.left + last.width / 2, _END - _GAP
    arrow(axes, [(x, last.bottom), (x, end)], INK)
    write(axes, x, end - 0.12, "to the head", ha="center", color=FAINT)


def _apart(axes: Axes, left: float, right: float, y: float) -> None:
    """Two maps that are not compared."""
    middle, half = (left + right) / 2, 0.55
    for ends in ((left, middle - half), (middle + half, right)):
        axes.plot(ends, (y, y), color=FAINT, lw=1.1, ls=(0, (4, 2.5)), zorder=1)
    write(axes, middle, y, "not distilled", ha="center", color=FAINT)
