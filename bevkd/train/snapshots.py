"""Weights from before the end of a training, at equal parts of its schedule.

Each lies in a folder of its own, `snapshots/<i>of<k>/model.pt`, that is read and evaluated like the folder of a run.
The last of the k is the run's own model.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bevkd.config.snapshots import FOLDER, snapshot_name
from bevkd.errors import CheckpointError, ConfigError
from bevkd.train.checkpoint import MODEL


def snapshot_steps(count: int, steps: int) -> dict[int, str]:
    """Name of the snapshot that is due after each number of steps, without the last, which is the model itself.

    Raises:
        ConfigError: more snapshots than steps.
    """
    if count > steps:
        raise ConfigError(f"train.snapshots: there are no {count} parts of {steps} steps")
    return {round(i * steps / count): snapshot_name(i, count) for i in range(1, count)}


def missing(out: Path, due: dict[int, str], step: int) -> list[str]:
    """Snapshots that a training which has come to `step` should have left."""
    return [name for at, name in due.items() if at <= step and not (out / FOLDER / name / MODEL).exists()]


def drop_others(out: Path, due: dict[int, str]) -> None:
    """Remove snapshots that are not asked for (any more)."""
    for folder in (out / FOLDER).glob("*"):
        if folder.name not in due.values():
            shutil.rmtree(folder)


def snapshot_folder(out: Path, number: int) -> Path:
    """Folder of the snapshot `number` (from 1) of a run.

    Raises:
        CheckpointError: there is none.
    """
    found = sorted((out / FOLDER).glob(f"{snapshot_name(number, '*')}/{MODEL}"))
    if len(found) != 1:
        known = ", ".join(sorted(path.parent.name for path in (out / FOLDER).glob(f"*/{MODEL}"))) or "none"
        raise CheckpointError(f"{out}: no snapshot {number} (there are: {known}); see train.snapshots")
    return found[0].parent
