"""Writing an index: tables of the schemas of `bevkd.data.index`, and a folder that appears only when it is complete."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bevkd.data.index import FRAMES, read_stamp, stamp
from bevkd.errors import BevkdError, DataError
from bevkd.io import atomic_folder, names_in, only_writer

Result = TypeVar("Result")

_FILES = {f"{name}.parquet" for name in ("frames", "unlabelled", "sensors", "boxes", "objects", "past")}


def write_frames(
    path: Path,
    frames: dict[str, Any],
    words: dict[str, NDArray[Any]],
    labelled: list[list[int] | None] | None,
    facts: dict[str, Any],
) -> None:
    """Write `frames` or `unlabelled`.

    Args:
        path: the file.
        frames: columns that are known per frame.
        words: columns that are known per scene, by scene number.
        labelled: for each frame the labelled subsets that hold it; None where the data set has no such lists.
        facts: for the stamp.
    """
    n = len(frames["token"])
    columns = {**frames, **{name: values[frames["scene"]] for name, values in words.items()}}
    columns["labelled"] = labelled if labelled is not None else [None] * n
    write_table(path, stamp(FRAMES, facts), columns)


def write_table(path: Path, schema: pa.Schema, columns: dict[str, Any]) -> None:
    """Write one table."""
    pq.write_table(arrow_table(schema, columns), path, compression="zstd")


def arrow_table(schema: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    """Columns (arrays, lists, bytes) as a table of a schema; fixed-size lists come as arrays (N, ...)."""
    return pa.Table.from_arrays([_array(columns[field.name], field.type) for field in schema], schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), kind.list_size)
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        values = pa.array(values.tolist(), pa.binary()).cast(pa.string())
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def is_current(out: Path, version: str, source: str) -> bool:
    """Whether `out` holds an index of this format, made from the same source."""
    try:
        facts = read_stamp(out)
    except BevkdError:
        return False
    return bool(facts.get("version") == version and facts.get("source") == source)


def converter(convert: Callable[..., Result]) -> Callable[..., Result]:
    """A function that converts into its argument `out`: whether it can, and nobody else does, is known before the work.

    What it wraps raises also:
        ConfigError: another process is converting into `out`.
        DataError: `out` cannot be written, or holds something else than (parts of) an index.
    """
    signature = inspect.signature(convert)

    @wraps(convert)
    def wrapped(*values: Any, **named: Any) -> Result:
        out = Path(signature.bind(*values, **named).arguments["out"])
        with ExitStack() as stack:
            try:
                _check_is_index(out)
                stack.enter_context(only_writer(out))
            except DataError:
                if not (out / "frames.parquet").exists():
                    raise  # else it may be up to date, where nothing can be written
            return convert(*values, **named)

    return wrapped


def _check_is_index(out: Path) -> None:
    if set(names_in(out)) - _FILES:
        raise DataError("folder is not empty and holds no index", file=out)


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block succeeds, and disappears when it does not.

    Raises:
        DataError: `out` holds something else than (parts of) an index.
    """
    _check_is_index(out)
    with atomic_folder(out) as temporary:
        yield temporary
