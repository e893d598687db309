"""Files of snapshots: known to the workflow before anything is trained."""

from __future__ import annotations

FOLDER = "snapshots"


def snapshot_name(number: int, count: int | str) -> str:
    """Folder of snapshot `number` (from 1) of `count`, within `FOLDER` of a run."""
    return f"{number}of{count}"


def snapshot_metrics(number: int, count: int, split: str) -> str:
    """Metrics of a snapshot, within the folder of a run; the last snapshot is the run's model itself."""
    file = f"metrics_{split}.json"
    return file if number == count else f"{FOLDER}/{snapshot_name(number, count)}/{file}"
