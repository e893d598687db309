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

from bevkd.errors import DataError

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
        try:
            return pq.ParquetFile(self.path)
        except FileNotFoundError:
            raise DataError("component is missing", file=self.path) from None
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"cannot be read as Parquet: {error}", file=self.path) from error

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
        try:
            table = self._parquet.read(columns=[self.column(field) for field in fields])
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"broken row group: {error}", file=self.path) from error
        return table.select([self.column(field) for field in fields]).rename_columns(fields)

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
        try:
            for group in range(self._parquet.num_row_groups):
                count = self._parquet.metadata.row_group(group).num_rows
                here = at[(at >= first) & (at < first + count)] - first
                if len(here):
                    parts += self._decode(group, here, columns)
                first += count
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"broken row group: {error}", file=self.path, token=frame) from error
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
            if not self.has(field):
                raise DataError("column is missing", file=self.path, field=self.column(field))


def numbers(table: pa.Table, field: str, file: Path) -> NDArray[np.float64]:
    """A numeric column as float64 (N,); null becomes NaN.

    Raises:
        DataError: the column holds something else.
    """
    try:
        return np.asarray(table[field].cast(pa.float64()).to_numpy(), dtype=np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"column is not numeric: {error}", file=file, field=field) from error


def transforms(table: pa.Table, field: str, file: Path) -> NDArray[np.float64]:
    """A column of 4x4 matrices, (N, 4, 4).

    Raises:
        DataError: a row is null, has another number of values, or does not hold an invertible transform.
    """
    rows = table[field].to_pylist()
    for i, row in enumerate(rows):
        good = row is not None and len(row) == 16 and None not in row and np.isfinite(row).all()
        if not good or abs(np.linalg.det(np.reshape(row, (4, 4)))) < 1e-6:
            raise DataError(f"row {i} is not an invertible 4x4 matrix", file=file, field=field)
    return np.array(rows, dtype=np.float64).reshape(-1, 4, 4)
