"""Components of the Waymo Open Dataset v2: one folder per component, one Parquet file per segment.

    <root>/<training|validation|testing>/<component>/<segment>.parquet

Rows are found by their key columns (`key.*`); the other columns are called `[<Name>Component].<field>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bevkd.data.parquet import broken, open_parquet
from bevkd.data.valid import good_poses, repeats
from bevkd.errors import DataError
from bevkd.jsontext import is_text

# Folder -> the name in front of its columns.
COMPONENTS = {
    "vehicle_pose": "VehiclePoseComponent",
    "lidar": "LiDARComponent",
    "lidar_pose": "LiDARPoseComponent",
    "lidar_calibration": "LiDARCalibrationComponent",
    "lidar_box": "LiDARBoxComponent",
    "camera_image": "CameraImageComponent",
    "camera_calibration": "CameraCalibrationComponent",
    "stats": "StatsComponent",
}
# Laser and camera numbers are those of the key columns.
LASERS = {1: "TOP", 2: "FRONT", 3: "SIDE_LEFT", 4: "SIDE_RIGHT", 5: "REAR"}
CAMERAS = {1: "FRONT", 2: "FRONT_LEFT", 3: "FRONT_RIGHT", 4: "SIDE_LEFT", 5: "SIDE_RIGHT"}
TOP = 1
TIME = "key.frame_timestamp_micros"
LASER, CAMERA = "key.laser_name", "key.camera_name"
_STEP = 4  # rows that are decoded at a time: a row of `lidar` is megabytes


@dataclass(frozen=True)
class ComponentFile:
    """The file of one component of one segment."""

    path: Path
    prefix: str

    @classmethod
    def of(cls, root: Path, component: str, segment: str) -> ComponentFile:
        """The file of `<split folder>/<segment>`.

        Args:
            root: folder of the data set.
            component: a key of `COMPONENTS`.
            segment: such as `training/10023947602400723454_1120_000_1140_000`.
        """
        folder, name = segment.split("/")
        return cls(root / folder / component / f"{name}.parquet", COMPONENTS[component])

    def column(self, field: str) -> str:
        """The full name of a column; key columns keep theirs."""
        return field if field.startswith("key.") else f"[{self.prefix}].{field}"

    @cached_property
    def _parquet(self) -> pq.ParquetFile:
        return open_parquet(self.path, "component")

    @property
    def there(self) -> bool:
        """Whether there is such a file, readable or not."""
        return self.path.exists() or self.path.is_symlink()

    def has(self, field: str) -> bool:
        """Whether there is such a column (optional ones may be left out)."""
        return self.column(field) in self._parquet.schema_arrow.names

    def read(self, fields: Iterable[str]) -> pa.Table:
        """Some columns of all rows, under their short names.

        Raises:
            DataError: the file or a column is missing, or a row group is broken.
        """
        fields = list(fields)
        self.require(fields)
        with broken(self.path, "broken row group"):
            table = self._parquet.read(columns=[self.column(field) for field in fields])
            table.validate(full=True)
        return table.select([self.column(field) for field in fields]).rename_columns(fields)

    def keys(self, table: pa.Table, *fields: str) -> list[NDArray[np.int64]]:
        """Key columns of a table, of which no row is there twice.

        Raises:
            DataError: a key is missing or no whole number, or two rows have the same.
        """
        columns = [whole_numbers(table, field, self.path) for field in fields]
        again = repeats(*columns)
        if again.any():
            at = int(np.argmax(again))
            which = ", ".join(str(column[at]) for column in columns)
            raise DataError(f"two rows for one key ({which})", file=self.path, field=fields[0])
        return columns

    def rows(self, at: NDArray[np.int64], fields: Iterable[str], frame: str) -> pa.Table:
        """Some rows, decoded a few at a time; what is held meanwhile is at most a row group of these columns.

        Args:
            at: (n,) ascending positions in the file.
            fields: columns to read.
            frame: for messages.

        Raises:
            DataError: no row is asked for, a column is missing, or a row group is broken.
        """
        fields = list(fields)
        self.require(fields)
        if len(at) == 0:
            raise DataError("component has no row for the frame", file=self.path, token=frame)
        parts, first = [], 0
        columns = [self.column(field) for field in fields]
        with broken(self.path, "broken row group", frame):
            for group in range(self._parquet.num_row_groups):
                count = self._parquet.metadata.row_group(group).num_rows
                here = at[(at >= first) & (at < first + count)] - first
                if len(here):
                    parts += self._decode(group, here, columns)
                first += count
        return pa.concat_tables(parts).select(columns).rename_columns(fields)

    def _decode(self, group: int, rows: NDArray[np.int64], columns: list[str]) -> list[pa.Table]:
        parts, low = [], 0
        for batch in self._parquet.iter_batches(batch_size=_STEP, row_groups=[group], columns=columns):
            here = rows[(rows >= low) & (rows < low + batch.num_rows)] - low
            if len(here):
                parts.append(pa.Table.from_batches([batch]).take(here))
            low += batch.num_rows
            if low > rows[-1]:
                break
        return parts

    def require(self, fields: Iterable[str]) -> None:
        """Check that columns are there.

        Raises:
            DataError: the file or a column is missing.
        """
        for field in fields:
            count = self._parquet.schema_arrow.names.count(self.column(field))
            if count != 1:
                what = "column is there twice" if count else "column is missing"
                raise DataError(what, file=self.path, field=self.column(field))


def numbers(table: pa.Table, field: str, file: Path) -> NDArray[np.float64]:
    """A numeric column as float64 (N,); null becomes NaN.

    Raises:
        DataError: the column holds something else.
    """
    try:
        if not (pa.types.is_floating(table[field].type) or pa.types.is_integer(table[field].type)):
            raise pa.ArrowInvalid(str(table[field].type))
        return np.asarray(table[field].cast(pa.float64()).to_numpy(), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"column is not numeric: {error}", file=file, field=field) from error


def whole_numbers(table: pa.Table, field: str, file: Path) -> NDArray[np.int64]:
    """A column of whole numbers (N,), none of them missing.

    Raises:
        DataError: the column holds something else.
    """
    column = table[field]
    if not pa.types.is_integer(column.type) or column.null_count:
        what = "a value is missing" if column.null_count else f"column is of {column.type}, not of whole numbers"
        raise DataError(what, file=file, field=field)
    try:
        return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    except pa.ArrowInvalid as error:
        raise DataError(f"a value is too large: {error}", file=file, field=field) from error


def words(table: pa.Table, field: str, file: Path) -> list[str]:
    """A column of words (N,); null becomes "".

    Raises:
        DataError: the column holds something else, or a word with NUL.
    """
    values = table[field].to_pylist()
    for i, value in enumerate(values):
        if value is not None and not (isinstance(value, str) and is_text(value)):
            raise DataError(f"row {i} is no text: {value!r:.40}", file=file, field=field)
    return [value or "" for value in values]


def transforms(table: pa.Table, field: str, file: Path, most: float) -> NDArray[np.float64]:
    """A column of 4x4 matrices of a rotation and a translation of at most `most` metres, (N, 4, 4).

    Raises:
        DataError: a row is null, has another number of values, or does not hold such a matrix.
    """
    what = f"is not a 4x4 matrix of a rotation and a translation of at most {most:g} m"
    kind = table[field].type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)) or not pa.types.is_floating(kind.value_type):
        raise DataError(f"column of {kind} {what}", file=file, field=field)
    rows = table[field].to_pylist()
    for i, row in enumerate(rows):
        if row is None or len(row) != 16 or None in row:
            raise DataError(f"row {i} {what}", file=file, field=field)
    out = np.array(rows, dtype=np.float64).reshape(-1, 4, 4)
    good = good_poses(out, most)
    if not good.all():
        raise DataError(f"row {int(np.argmin(good))} {what}", file=file, field=field)
    return out
