"""Maps of nuScenes: masks of roads and pavements, one picture per location, 0.1 m a pixel, rows from the north.

The tables call them `semantic_prior`. They are those that the metadata of every version come with, not the map
expansion, which is a download of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd import regular
from bevkd.data.inside import Inside
from bevkd.data.nuscenes.tables import read_table, records
from bevkd.data.pictures import picture
from bevkd.errors import DataError
from bevkd.io import reading

METRES_PER_PIXEL = 0.1
ROAD = 225  # pixels from this value on are road or pavement, as in the devkit
PIXELS = 1 << 31  # of the largest map of nuScenes: 1.2e9
_CATEGORY = "semantic_prior"
_STRIP = 2_048  # rows that are looked at together: a map as bytes is larger than all else that a job holds


class NoMapError(DataError):
    """A data set, or a location of it, of which there is no map."""


class RoadMask:
    """The roads and pavements of a location.

    Args:
        path: the picture.
        token: of its record, for messages.

    Raises:
        DataError: it is unreadable.
    """

    def __init__(self, path: Path, token: str | None = None) -> None:
        with reading(path, "map", token=token, field="filename"):
            stream = regular.open_regular(path, regular.IMAGE)
        with stream, picture(stream, path, token, "filename", PIXELS) as image:
            self.width, self.height = image.size
            image.load()
            strips = [
                image.crop((0, top, self.width, min(top + _STRIP, self.height)))
                for top in range(0, self.height, _STRIP)
            ]
            rows = [np.packbits(np.asarray(strip.convert("L")) >= ROAD, axis=1) for strip in strips]
        self._bits = np.concatenate(rows)  # (height, width / 8)

    def holds(self, xy: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which places (N, 2), in metres of the global frame, are road or pavement; none beyond the picture is."""
        at = np.floor(np.asarray(xy, dtype=np.float64) / METRES_PER_PIXEL)
        column, row = at[:, 0], self.height - 1 - at[:, 1]
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        column, row = (np.where(inside, place, 0).astype(np.int64) for place in (column, row))
        return np.asarray(inside & ((self._bits[row, column // 8] >> (7 - column % 8)) & 1).astype(bool))


class RoadMaps:
    """The maps of a data set, opened as locations are asked for.

    Args:
        root: folder of the data set.
        version: folder of its tables.
        link_targets: folders outside of the root that links within it may lead to.

    Raises:
        DataError: a table is unreadable, or names a log that is none.
        NoMapError: there is no table of maps.
    """

    def __init__(self, root: str | Path, version: str, link_targets: Sequence[str] = ()) -> None:
        self._inside = Inside(root, link_targets)
        self._table = Path(root) / version / "map.json"
        if not self._table.exists():
            raise NoMapError("there is no table of maps", file=self._table)
        logs = read_table(self._table.parent, "log", {"location": "text"})
        location = dict(zip((token.decode() for token in logs["token"]), logs["location"].tolist(), strict=True))
        self._files: dict[str, tuple[str, str]] = {}  # location -> file name, token
        for record in records(self._table):
            self._files |= _entry(record, location, self._table)
        self._open: dict[str, RoadMask] = {}

    def at(self, location: str) -> RoadMask:
        """The map of a location.

        Raises:
            DataError: it is unreadable, or lies outside of the data set.
            NoMapError: there is none, or its file is missing.
        """
        if location not in self._open:
            if location not in self._files:
                raise NoMapError(f"there is no map of location {location!r}", file=self._table)
            name, token = self._files[location]
            path = self._inside.path(name, token)
            if not path.exists():
                raise NoMapError("map is missing", file=path, token=token, field="filename")
            self._open[location] = RoadMask(path, token)
        return self._open[location]


def _entry(record: dict[str, Any], location: dict[str, str], table: Path) -> dict[str, tuple[str, str]]:
    """Location -> file name and token of one record; nothing of a map of another category."""
    named = record.get("token")
    token = named if isinstance(named, str) else None

    def text(name: str) -> str:
        word = record.get(name)
        if not isinstance(word, str):
            raise DataError("record lacks a field, or it is no text", file=table, token=token, field=name)
        return word

    entry, category = (text("filename"), text("token")), text("category")
    logs = record.get("log_tokens")
    if not isinstance(logs, list) or not all(isinstance(log, str) for log in logs):
        raise DataError("field is no list of tokens", file=table, token=token, field="log_tokens")
    if category != _CATEGORY:
        return {}
    # v1.0-mini lists logs of the whole data set, of which it has a few.
    return {location[log]: entry for log in logs if log in location}
