"""Whether a data set is there before anything is read of it: who lacks it is told what makes it."""

from __future__ import annotations

from pathlib import Path

from bevkd.config.schema import DataConfig
from bevkd.errors import DataError
from bevkd.hints import how_to_index, simulate_command


def require_index(data: DataConfig) -> None:
    """Check that the index of a data set is there.

    Raises:
        DataError: it is not; the message names the command that makes it.
    """
    index = Path(data.index)
    if not (index / "frames.parquet").exists():
        raise DataError(f"no index of the data set; {how_to_index(data)}", file=index)


def require_data_set(data: DataConfig) -> None:
    """Check that the index and the folder of a data set are there.

    Raises:
        DataError: one is not; the message names the command that makes it.
    """
    require_index(data)
    root = Path(data.root)
    if not root.is_dir():
        made = simulate_command(data)
        how = f"simulate it with `{made}`" if made else "say where it is: --set data.root=..."
        raise DataError(f"there is an index, but its data set is missing; {how}", file=root, field="data.root")
