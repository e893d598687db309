"""Files of virtual points, one beside each LiDAR sweep, with the arrays of MVP's public pipeline.

`samples/LIDAR_TOP/x.pcd.bin` has its virtual points in `samples/LIDAR_TOP_VIRTUAL/x.pcd.bin.npz`: `virtual_points`
(V, 14) and `real_points` (R, 15), floats in the sensor frame of the sweep, and `real_points_indice` (R,), integers; see
`VirtualSweep`. That pipeline pickles the same three arrays as `x.pcd.bin.pkl.npy`, which is not read here: to read a
pickle is to run it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.data.points import moved
from bevkd.data.valid import FARTHEST_M, within
from bevkd.data.virtual.points import SEMANTIC, VirtualSweep
from bevkd.errors import DataError
from bevkd.instance_masks import sibling
from bevkd.io import atomic_path
from bevkd.npz import Wanted, read_npz
from bevkd.regular import DOCUMENT

SUFFIX, ENDING = "_VIRTUAL", ".npz"
VIRTUAL, PAINTED, INDEX = "virtual_points", "real_points", "real_points_indice"
_ARRAYS = (
    Wanted(VIRTUAL, "float", 3 + SEMANTIC),
    Wanted(PAINTED, "float", 4 + SEMANTIC),
    Wanted(INDEX, "integer", 0, PAINTED),
)
MOST_POINTS = 1 << 31

# Columns of points with what masks say of them (DistillBEV spec, 2.1), and what the last but one holds.
COLUMNS = 4 + SEMANTIC + 2
INTENSITY, LABEL, AGE = 3, COLUMNS - 2, COLUMNS - 1
RAW_POINT, PAINTED_POINT, VIRTUAL_POINT = 1.0, 0.0, -1.0
NO_INTENSITY = -1.0  # of virtual points


def virtual_name(sweep: str) -> str:
    """Name of the file of virtual points of a sweep, relative to the same root."""
    return sibling(sweep, SUFFIX, ENDING)


def write_virtual(path: Path, sweep: VirtualSweep) -> None:
    """Write the virtual points of a sweep; equal content gives equal bytes.

    Raises:
        DataError: the system refuses.
    """
    arrays = {VIRTUAL: sweep.virtual, PAINTED: sweep.painted, INDEX: sweep.index}
    with atomic_path(path, flush=False) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_virtual(path: Path, token: str | None = None) -> VirtualSweep:
    """The virtual points of a sweep.

    Raises:
        DataError: the file is missing, damaged or none of virtual points, or a value cannot be: places that are not
            finite or farther away than any LiDAR sees, class values or scores outside of 0 to 1, a negative index.
    """
    arrays = read_npz(path, _ARRAYS, token, most=DOCUMENT)
    for name, columns in ((VIRTUAL, 3), (PAINTED, 4)):
        _check(within(arrays[name][:, :columns], FARTHEST_M), "not a place that a LiDAR sees", path, token, name)
        _check(within(arrays[name][:, columns:], 1.0, 0.0), "no class values and score from 0 to 1", path, token, name)
    _check(within(arrays[INDEX], MOST_POINTS, 0), "not the number of a point", path, token, INDEX)
    virtual, painted = (arrays[name].astype(np.float32) for name in (VIRTUAL, PAINTED))
    return VirtualSweep(virtual, painted, arrays[INDEX].astype(np.int64))


def _check(good: NDArray[np.bool_], what: str, path: Path, token: str | None, field: str) -> None:
    if not good.all():
        raise DataError(f"row {int(np.argmin(good))} is {what}", file=path, token=token, field=field)


def as_points(sweep: VirtualSweep, target_from_sensor: NDArray[np.float64], age: float) -> NDArray[np.float32]:
    """Painted points, then virtual ones (N, 17): x, y, z (m), intensity, ten classes, score, label, age (s).

    Args:
        sweep: in its sensor frame.
        target_from_sensor: (4, 4).
        age: of the sweep.
    """
    painted, virtual = len(sweep.painted), len(sweep.virtual)
    out = np.empty((painted + virtual, COLUMNS), dtype=np.float32)
    out[:painted, :LABEL] = sweep.painted
    out[painted:, :INTENSITY] = sweep.virtual[:, :3]
    out[painted:, INTENSITY] = NO_INTENSITY
    out[painted:, INTENSITY + 1 : LABEL] = sweep.virtual[:, 3:]
    out[:, :3] = moved(out, target_from_sensor)
    out[:painted, LABEL], out[painted:, LABEL] = PAINTED_POINT, VIRTUAL_POINT
    out[:, AGE] = age
    return out
