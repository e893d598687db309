"""What an index holds, in a few lines: frames, sensors, what was left out, and boxes by category and class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bevkd.classes import LABELS
from bevkd.data.index import labels_of, read_stamp
from bevkd.errors import DataError

_NO_CLASS = "-"
_WARNING = "  WARNING: "
_UNLABELLED = ("test", "domain_")  # how splits begin whose labels are not published, or not all of them
_NO_BOXES = "  no boxes"


def summarise(folder: str | Path, name: str | Path | None = None) -> str:
    """An index in words; `name` stands for its folder.

    Raises:
        DataError: there is no index, or a part of it is missing.
    """
    folder = Path(folder)
    facts = read_stamp(folder)
    frames = _columns(folder / "frames.parquet", "split", "labelled")
    splits = Counter(frames["split"].cast(pa.string()).to_pylist())
    said = ", ".join(f"{split or 'no split'} {count}" for split, count in sorted(splits.items()))
    lines = [f"{name or folder}: {facts['reader']} {facts['version']}", f"  frames   {facts['frames']} ({said})"]
    if facts["unlabelled"]:
        lines.append(f"  between  {facts['unlabelled']} frames between keyframes")
    if facts["labelled_subsets"] is not None:
        lines.append(f"  labelled {_subsets(frames['labelled'].to_pylist(), facts['labelled_subsets'])}")
    lines.append(f"  sensors  {_sensors(folder)}")
    lines += _left_out(facts)
    lines += _boxes(folder, facts.get("categories", {}))
    unlabelled = all(split.startswith(_UNLABELLED) for split in splits if split)
    if lines[-1] == _NO_BOXES and not unlabelled and facts.get("without_labels", 0) < facts["frames"]:
        lines.append(f"{_WARNING}no frame has a box, nothing can be learnt from this data set")
    return "\n".join(lines)


def warnings_of(summary: str) -> list[str]:
    """What a summary warns of."""
    return [line.removeprefix(_WARNING) for line in summary.splitlines() if line.startswith(_WARNING)]


def _subsets(held: list[list[int] | None], subsets: list[int]) -> str:
    counts = Counter(number for one in held for number in one or ())
    without = sum(one is None for one in held)
    parts = [f"subset {number}: {counts[number]} frames" for number in subsets]
    return ", ".join(parts + [f"{without} frames without labels"] * bool(without))


def _sensors(folder: Path) -> str:
    table = _columns(folder / "sensors.parquet", "channel", "is_key")
    key = Counter(table["channel"].cast(pa.string()).filter(table["is_key"].combine_chunks()).to_pylist())
    every = Counter(table["channel"].cast(pa.string()).to_pylist())
    return ", ".join(
        f"{channel} {key[channel]}" + (f" (+{count - key[channel]} between)" if count > key[channel] else "")
        for channel, count in every.items()
    )


def _left_out(facts: Mapping[str, Any]) -> list[str]:
    parts = [f"{channel} {count}" for channel, count in facts.get("missing", {}).items()]
    parts += [f"{facts['missing_sweeps']} files between keyframes"] * bool(facts["missing_sweeps"])
    parts += [f"{facts.get('missing_frames')} whole frames"] * bool(facts.get("missing_frames"))
    if facts.get("without_labels") and facts["labelled_subsets"] is None:
        parts.append(f"labels of {facts['without_labels']} frames")
    return ["  missing  " + ", ".join(parts)] if parts else []


def _boxes(folder: Path, own: Mapping[str, str | None]) -> list[str]:
    """Lines of the table of boxes, by category."""
    table = _columns(folder / "boxes.parquet", "category", "label", "num_lidar_pts", "num_radar_pts")
    if len(table) == 0:
        return [_NO_BOXES]
    seen = table["num_lidar_pts"].cast(pa.int64()).fill_null(1).to_numpy() + table["num_radar_pts"].to_numpy()
    plain = pa.table({"name": table["category"].cast(pa.string()), "label": table["label"], "empty": seen == 0})
    groups = plain.group_by(["name", "label"]).aggregate([("empty", "count"), ("empty", "sum")])
    category = groups["name"].to_pylist()
    labels = labels_of(category, groups["label"].to_numpy().astype(np.int64), own)
    boxes: Counter[tuple[str, int]] = Counter()
    empty: Counter[tuple[str, int]] = Counter()
    counts = zip(groups["empty_count"].to_pylist(), groups["empty_sum"].to_pylist(), strict=True)
    for name, label, (count, without) in zip(category, labels.tolist(), counts, strict=True):
        boxes[name, label] += count
        empty[name, label] += without
    rows = sorted(boxes, key=lambda row: (row[1] < 0, row[1], row[0]))
    names = {row: (row[0] or "(no name)", LABELS[row[1]] if row[1] >= 0 else _NO_CLASS) for row in rows}
    wide = [max([len(title), *(len(names[row][i]) for row in rows)]) for i, title in enumerate(("category", "class"))]
    lines = [f"  {'category':{wide[0]}}  {'class':{wide[1]}}  {'boxes':>8}  {'no points':>9}"]
    lines += [f"  {names[row][0]:{wide[0]}}  {names[row][1]:{wide[1]}}  {boxes[row]:8}  {empty[row]:9}" for row in rows]
    none = [row for row in rows if row[1] < 0]
    if none:
        count = sum(boxes[row] for row in none)
        lines.append(
            f"  {count} of {len(table)} boxes have no class; to learn them: data.classes, {{{none[0][0]}: CLASS}}"
        )
    if len(none) == len(rows):
        lines.append(f"{_WARNING}no box has a class, nothing can be learnt from this data set as it is")
    elif all(empty[row] == boxes[row] for row in rows if row[1] >= 0):
        lines.append(f"{_WARNING}no box of a class has a point in it; training drops them unless data.min_points is 0")
    return lines


def _columns(path: Path, *names: str) -> pa.Table:
    try:
        return pq.read_table(path, columns=list(names))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"part of the index cannot be read: {error}", file=path) from error
