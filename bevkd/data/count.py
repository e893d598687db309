"""What an index holds, in one line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from bevkd.data.index import read_stamp


def describe_index(folder: Path) -> str:
    """Such as `40 frames (train 24, val 16), 120 between keyframes, 640 sensor files, 312 boxes`.

    Raises:
        DataError: there is no index.
    """
    facts = read_stamp(folder)
    splits = pq.read_table(folder / "frames.parquet", columns=["split"])["split"].cast("string").to_pylist()
    counts = Counter(splits)
    named = [f"{split} {counts[split]:,}" for split in [*facts["splits"], ""] if split and counts[split]]
    if counts[""]:
        named.append(f"in no split {counts['']:,}")
    rows = {name: pq.read_metadata(folder / f"{name}.parquet").num_rows for name in ("sensors", "boxes")}
    parts = [f"{len(splits):,} frames ({', '.join(named)})"]
    if facts["unlabelled"]:
        parts.append(f"{facts['unlabelled']:,} between keyframes")
    parts += [f"{rows['sensors']:,} sensor files", f"{rows['boxes']:,} boxes"]
    return ", ".join(parts)
