"""Where detectors look: spatial attention of every frame of a split, in a file, and what is counted of it.

Attention is DistillBEV's N(F) = H W softmax(P(F) / tau) over the cells of the map before the head, P(F) the mean of |F|
over channels (Eqs. 4, 5), of which Figure 7 shows a few frames. Near and far are by distance from the vehicle, in
circles: of the range, which is the distance to the farthest side of the map; in a square map around the vehicle that is
half a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevkd.errors import DataError
from bevkd.geometry import BEVGrid
from bevkd.io import atomic_path
from bevkd.npz import Wanted, read_npz

NEAR, FAR = 0.2, 0.5  # of the range: what is at the vehicle, and from where on something is far
Maps = NDArray[np.float32]
_ARRAYS = (
    Wanted("tokens", "text"),
    Wanted("attention", "float", maps=True, rows_of="tokens"),
    Wanted("grid", "float"),
)


@dataclass(frozen=True)
class Attention:
    """Attention of a detector in the frames of a split.

    Attributes:
        file: where it stands.
        tokens: of the F frames.
        values: (F, H, W), mean 1 in each frame; rows are y, columns x.
        grid: of the maps, in the ego frame.
    """

    file: Path
    tokens: list[str]
    values: Maps
    grid: BEVGrid

    @property
    def distance(self) -> NDArray[np.float64]:
        """Distance (H, W) of the cell centres from the vehicle, as a share of the range."""
        grid = self.grid
        x = grid.x_min + (np.arange(grid.W) + 0.5) * grid.cell
        y = grid.y_min + (np.arange(grid.H) + 0.5) * grid.cell
        reach = max(map(abs, (grid.x_min, grid.x_max, grid.y_min, grid.y_max)))
        return np.asarray(np.hypot(x[None], y[:, None]) / reach)


def write_attention(found: Attention) -> None:
    """Write the arrays to the file; equal content gives equal bytes.

    `tokens` (F,), `attention` (F, H, W) float32, and `grid`, x_min and y_min of its lower corner and the side of a cell
    (m).

    Raises:
        DataError: the system refuses.
    """
    grid = np.array([found.grid.x_min, found.grid.y_min, found.grid.cell])
    with atomic_path(found.file) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, tokens=np.array(found.tokens), attention=found.values, grid=grid)


def read_attention(file: Path) -> Attention:
    """What `write_attention` has written.

    Raises:
        DataError: the file is missing, damaged or something else; the message names file and field.
    """
    arrays = read_npz(file, _ARRAYS)
    values, corner = arrays["attention"], arrays["grid"].astype(np.float64)
    tokens: list[str] = arrays["tokens"].tolist()
    if not tokens or len(set(tokens)) != len(tokens):
        raise DataError("no tokens of frames, each given once", file=file, field="tokens")
    if values[0].size < 2:
        raise DataError("maps of a single cell", file=file, field="attention")
    if corner.shape != (3,) or not np.isfinite(corner).all() or corner[2] <= 0:
        raise DataError("not x_min, y_min and the side of a cell", file=file, field="grid")
    for token, one in zip(tokens, values, strict=True):
        if not np.isfinite(one).all() or (one < 0).any() or not one.any():
            raise DataError("no attention: its values are finite, 0 or more, and not all 0", file=file, token=token)
    _, height, width = values.shape
    x_min, y_min, cell = map(float, corner)
    grid = BEVGrid(x_min, y_min, cell, width, height)
    return Attention(Path(file), tokens, values.astype(np.float32, copy=False), grid)


def summary(found: Attention) -> dict[str, float]:
    """Of one detector, means over frames, from 0 to 1.

    `entropy` of the attention, relative to that of a uniform map: the lower, the sharper; `near`, the share of
    attention within a fifth of the range; `centre_area`, the share of the cells there, which is what a map that knows
    nothing has.
    """
    inside = found.distance <= NEAR
    entropy, near = [], []
    for one in found.values:
        share = one.astype(np.float64)
        share /= share.sum()
        there = share[share > 0]
        entropy.append(-float(there @ np.log(there)) / np.log(share.size))
        near.append(float(share[inside].sum()))
    return {"entropy": float(np.mean(entropy)), "near": float(np.mean(near)), "centre_area": float(inside.mean())}


@dataclass(frozen=True)
class Likeness:
    """How alike the attention of two detectors is.

    Attributes:
        near, far: Pearson's correlation over cells within half of the range, and beyond, means over frames.
        frames: how many there are.
        constant: in how many of them a map is constant in one of the two places, and has no correlation there.
    """

    near: float
    far: float
    frames: int
    constant: int


def likeness(mine: Attention, other: Attention) -> Likeness:
    """How alike the attention of two detectors is in the same frames.

    Raises:
        DataError: they are of other frames or grids, or a map is constant in every frame; it names one of the files.
    """
    if mine.tokens != other.tokens:
        raise DataError(f"other frames than in {mine.file}", file=other.file, field="tokens")
    a, b = ((g.x_min, g.y_min, g.cell) for g in (mine.grid, other.grid))
    if mine.values.shape != other.values.shape or not np.allclose(a, b, rtol=1e-6, atol=1e-6):
        raise DataError(f"maps of another grid than in {mine.file}", file=other.file, field="grid")
    distance = mine.distance
    places = distance <= FAR, distance > FAR
    found = np.array(
        [
            [_correlation(one[inside], its[inside]) for inside in places]
            for one, its in zip(mine.values, other.values, strict=True)
        ]
    )
    missing = np.isnan(found)
    if missing.all(0).any():
        raise DataError(f"in every frame a map is constant, here or in {mine.file}", file=other.file, field="attention")
    near, far = map(float, np.nanmean(found, 0))
    return Likeness(near, far, len(found), int(missing.any(1).sum()))


def _correlation(one: Maps, its: Maps) -> float:
    """Pearson's correlation of two columns of numbers; NaN where one of them is constant."""
    a, b = one.astype(np.float64), its.astype(np.float64)
    if not a.size or a.min() == a.max() or b.min() == b.max():
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.clip(a @ b, -1, 1))
