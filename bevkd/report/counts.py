"""What is kept of a data set: counts of its index, for the page."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bevkd.classes import LABEL_INDEX
from bevkd.config import DataConfig
from bevkd.data.index import BOXES, FRAMES, labels_of, read_stamp
from bevkd.data.parquet import read_parquet
from bevkd.data.present import require_index
from bevkd.io import write_json
from bevkd.report.stored import read_as
from bevkd.splits import split_names


@dataclass(frozen=True)
class DatasetRecord:
    """One data set, the splits that runs are trained, tuned and reported on: counts of each, its boxes per class, and
    the frames of all of them per weather and lighting.

    Attributes:
        index: folder of the index.
        splits: scenes, frames and labelled frames.
        boxes: annotated boxes per class.
        conditions: frames per value of `weather` and `lighting`.
        source: where this was read from if not from the index.
    """

    index: str
    splits: dict[str, dict[str, int]]
    boxes: dict[str, dict[str, int]]
    conditions: dict[str, dict[str, int]]
    source: str | None = None


def count(data: DataConfig) -> DatasetRecord:
    """Count an index.

    Raises:
        DataError: there is no index, or a part of it is missing.
    """
    require_index(data)
    folder = Path(data.index)
    own = {**read_stamp(folder).get("categories", {}), **data.categories}
    frames = _columns(folder / "frames.parquet", FRAMES, ["split", "scene", "labelled", "weather", "lighting"])
    boxes = _columns(folder / "boxes.parquet", BOXES, ["frame", "label", "category"])
    split = np.array(frames["split"])
    trained = split_names(data.train_split)
    named = (*trained, *split_names(data.tune_split), *split_names(data.report_split))
    wanted = [name for name in dict.fromkeys(named) if (split == name).any()]
    owner = split[np.array(boxes["frame"], dtype=int)] if boxes["frame"] else np.array([], dtype=str)
    labels = labels_of(boxes["category"], np.array(boxes["label"], dtype=np.int64), own)
    splits, by_class = {}, {}
    for name in wanted:
        rows = np.flatnonzero(split == name)
        labelled = [frames["labelled"][i] for i in rows]
        splits[name] = {
            "scenes": len({frames["scene"][i] for i in rows}),
            "frames": len(rows),
            # The lists bind training only; without any list every keyframe is labelled.
            "labelled": sum(name not in trained or s is None or 0 in s for s in labelled),
        }
        counts = Counter(labels[owner == name].tolist())
        by_class[name] = {label: counts.get(LABEL_INDEX[label], 0) for label in data.classes}
    conditions = {}
    for name in ("weather", "lighting"):
        known = [str(value) for value in np.array(frames[name], dtype=object)[np.isin(split, wanted)] if value]
        conditions[name] = dict(sorted(Counter(known).items()))
    return DatasetRecord(data.index, splits, by_class, conditions)


def _columns(path: Path, schema: pa.Schema, names: list[str]) -> dict[str, list[Any]]:
    table = read_parquet(path, schema, names)
    return {name: table[name].to_pylist() for name in names}


def dataset_file(results: Path, index: str) -> Path:
    """Where the counts of an index lie."""
    name = index.removeprefix("data/index/").strip("/").replace("/", "-")
    return results / "records" / "datasets" / f"{name}.json"


def write_dataset(record: DatasetRecord, results: Path) -> Path:
    """Write the counts of an index."""
    path = dataset_file(results, record.index)
    write_json(path, asdict(record))
    return path


def read_dataset(results: Path, index: str) -> DatasetRecord:
    """Read back the counts of an index.

    Raises:
        DataError: missing, or not such counts.
    """
    path = dataset_file(results, index)
    missing = f"data set {index!r} has no record: no part of the results that reads it was made"
    return read_as(DatasetRecord, path, "the counts of a data set", missing)
