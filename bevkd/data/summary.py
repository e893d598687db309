"""What an index holds, in a few lines: frames, sensors, what was left out, and boxes by category and class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bevkd.classes import LABELS
from bevkd.data.index import BOXES, FRAMES, SENSORS, labels_of, read_stamp
from bevkd.data.nuimages.objects import FILE as OBJECTS_FILE
from bevkd.data.nuimages.objects import OBJECTS
from bevkd.data.parquet import read_parquet, require_no_null

_UNKNOWN = {"labelled", "mask", "num_lidar_pts"}  # columns whose values may be missing
_NO_CLASS = "-"
_UNLABELLED = ("test", "domain_")  # how splits begin whose labels are not published, or not all of them


@dataclass(frozen=True)
class Summary:
    """An index in words.

    Attributes:
        lines: what it holds.
        warnings: what a training would miss.
    """

    lines: list[str]
    warnings: list[str]

    def __str__(self) -> str:
        return "\n".join([*self.lines, *(f"  WARNING: {text}" for text in self.warnings)])


def summarise(folder: str | Path) -> str:
    """What `describe` finds, as text."""
    return str(describe(folder))


def describe(folder: str | Path, name: str | Path | None = None) -> Summary:
    """An index in words; `name` stands for its folder.

    Raises:
        DataError: there is no index, or a part of it is missing.
    """
    folder = Path(folder)
    facts = read_stamp(folder)
    frames = _columns(folder / "frames.parquet", FRAMES, "split", "labelled")
    splits = Counter(frames["split"].cast(pa.string()).to_pylist())
    said = ", ".join(f"{split or 'no split'} {count}" for split, count in sorted(splits.items()))
    lines = [f"{name or folder}: {facts['reader']} {facts['version']}", f"  frames   {facts['frames']} ({said})"]
    if facts["unlabelled"]:
        lines.append(f"  between  {facts['unlabelled']} frames between keyframes")
    if facts["labelled_subsets"] is not None:
        lines.append(f"  labelled {_subsets(frames['labelled'].to_pylist(), facts['labelled_subsets'])}")
    lines.append(f"  sensors  {_sensors(folder)}")
    lines += _left_out(facts)
    if "objects" in facts:
        return _of_objects(folder, facts, lines)
    boxes = _boxes(folder, facts.get("categories", {}))
    if boxes is not None:
        return Summary([*lines, *boxes.lines], boxes.warnings)
    unlabelled = all(split.startswith(_UNLABELLED) for split in splits if split)
    told = unlabelled or facts.get("without_labels", 0) >= facts["frames"]
    warnings = [] if told else ["no frame has a box, nothing can be learnt from this data set"]
    return Summary([*lines, "  no boxes"], warnings)


def _of_objects(folder: Path, facts: Mapping[str, Any], lines: list[str]) -> Summary:
    """Of a data set of images with 2D labels."""
    table = _columns(folder / OBJECTS_FILE, OBJECTS, "category", "label", "mask")
    category = table["category"].cast(pa.string()).to_pylist()
    labels = labels_of(category, table["label"].to_numpy().astype(np.int64), facts.get("categories", {})).tolist()
    rows = Counter(zip(labels, category, strict=True))
    wide = max([8, *map(len, category)])
    more = [f"  {'category':{wide}}  {'class':20}  {'objects':>8}"]
    for (label, name), count in sorted(rows.items(), key=lambda row: (row[0][0] < 0, row[0])):
        more.append(f"  {name:{wide}}  {LABELS[label] if label >= 0 else _NO_CLASS:20}  {count:8}")
    if outlined := table["mask"].null_count:
        more.append(f"  {outlined} of {len(table)} objects have no mask")
    if not any(label >= 0 for label in labels):
        return Summary([*lines, *more], ["no object has a class, nothing can be learnt from this data set as it is"])
    return Summary([*lines, *more], [])


def _subsets(held: list[list[int] | None], subsets: list[int]) -> str:
    counts = Counter(number for one in held for number in one or ())
    without = sum(one is None for one in held)
    parts = [f"subset {number}: {counts[number]} frames" for number in subsets]
    return ", ".join(parts + [f"{without} frames without labels"] * bool(without))


def _sensors(folder: Path) -> str:
    table = _columns(folder / "sensors.parquet", SENSORS, "channel", "is_key")
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


def _boxes(folder: Path, own: Mapping[str, str | None]) -> Summary | None:
    """The table of boxes, by category; None without any."""
    table = _columns(folder / "boxes.parquet", BOXES, "category", "label", "num_lidar_pts", "num_radar_pts")
    if len(table) == 0:
        return None
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
    warnings = []
    if len(none) == len(rows):
        warnings.append("no box has a class, nothing can be learnt from this data set as it is")
    elif all(empty[row] == boxes[row] for row in rows if row[1] >= 0):
        warnings.append("no box of a class has a point in it; training drops them unless data.min_points is 0")
    return Summary(lines, warnings)


def _columns(path: Path, schema: pa.Schema, *names: str) -> pa.Table:
    table = read_parquet(path, schema, names)
    require_no_null(table, path, set(names) - _UNKNOWN)
    return table
