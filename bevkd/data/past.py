"""The table `past` of an index: which earlier images belong to a frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bevkd.data.parquet import read_parquet, require_no_null
from bevkd.errors import DataError

FILE = "past.parquet"
PAST = pa.schema(
    [
        ("token", pa.string()),  # of the frame
        # Rows of `sensors`: set after set, newest first; in each set a record per camera of the frame, in the order of
        # its key records.
        ("sets", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class PastTable:
    """Earlier images of some frames.

    Attributes:
        path: the file.
        start: (n + 1,) those of frame i are `rows[start[i] : start[i + 1]]`.
        rows: (K,) rows of the index's `sensors`.
    """

    path: Path
    start: NDArray[np.int64]
    rows: NDArray[np.int32]

    @classmethod
    def read(cls, folder: Path, tokens: list[str]) -> PastTable:
        """Of the frames with these tokens.

        Raises:
            DataError: the index has no such table, as those that were made before there was one and those of formats
                without a past; or it is damaged.
        """
        path = folder / FILE
        if not path.exists():
            raise DataError("the index lists no earlier images; convert the data set again (nuScenes alone)", file=path)
        table = read_parquet(path, PAST)
        require_no_null(table, path, PAST.names)
        at = {token: i for i, token in enumerate(table["token"].to_pylist())}
        if missing := next((token for token in tokens if token not in at), None):
            raise DataError("a frame is missing; convert the data set again", file=path, token=missing, field="token")
        sets = table["sets"].combine_chunks().take(pa.array([at[token] for token in tokens], pa.int64()))
        start = np.concatenate([[0], np.cumsum(sets.value_lengths().to_numpy(zero_copy_only=False))])
        return cls(path, start.astype(np.int64), sets.flatten().to_numpy(zero_copy_only=False))

    def sets(self, frame: int, cameras: int) -> NDArray[np.int32]:
        """Rows (S, N) of the index's `sensors` for a frame that has N cameras, newest set first."""
        return self.rows[self.start[frame] : self.start[frame + 1]].reshape(-1, cameras)

    def check(self, tokens: list[str], keys: list[list[int]], sensors: Any) -> None:
        """Check that every set holds an earlier record of each camera of its frame, in their order.

        Args:
            tokens: of the frames.
            keys: rows of their key records.
            sensors: all records that the index or this table lists (`SensorTable`).

        Raises:
            DataError: one does not.
        """
        code = {name: i for i, name in enumerate(dict.fromkeys(sensors.channel))}
        codes = np.array([code[name] for name in sensors.channel], dtype=np.int64)
        at = self._positions(sensors.position)
        for i, (token, key) in enumerate(zip(tokens, keys, strict=True)):
            own = [sensors.position[row] for row in key if row in sensors.position]
            own = [k for k in own if sensors.modality[k] == "camera"]
            found = at[self.start[i] : self.start[i + 1]]
            good = len(found) == 0 or (len(own) > 0 and len(found) % len(own) == 0 and bool((found >= 0).all()))
            if good and len(found):
                sets = found.reshape(-1, len(own))
                good = bool(
                    (codes[sets] == codes[own]).all() and (sensors.timestamp[sets] < sensors.timestamp[own]).all()
                )
            if not good:
                what = "a frame lists earlier images that are not there, not earlier, or not of its cameras"
                raise DataError(what, file=self.path, token=token, field="sets")

    def _positions(self, position: dict[int, int]) -> NDArray[np.int64]:
        """Place (K,) of each row among the records that were read; -1 where it is not among them."""
        if not position:
            return np.full(len(self.rows), -1)
        known, at = (np.fromiter(part, np.int64) for part in (position.keys(), position.values()))
        order = np.argsort(known)
        place = np.minimum(np.searchsorted(known[order], self.rows), len(known) - 1)
        return np.where(known[order][place] == self.rows, at[order][place], -1)
