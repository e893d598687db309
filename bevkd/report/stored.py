"""Reading back what the report keeps as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from bevkd.config import parse
from bevkd.errors import ConfigError, DataError
from bevkd.io import read_json

T = TypeVar("T")


def read_as(kind: type[T], path: Path, what: str, missing: str) -> T:
    """A dataclass from a JSON file; `what` it is, and what to say when it is `missing`, for messages.

    Raises:
        DataError: missing, or not such a thing.
    """
    if not path.exists():
        raise DataError(missing, file=path)
    try:
        return parse(kind, read_json(path), str(path))
    except ConfigError as error:
        raise DataError(f"not {what}: {error}", file=path) from error
