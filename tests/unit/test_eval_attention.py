"""What is counted of attention maps, and files of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bevkd.errors import DataError
from bevkd.eval.attention import Attention, likeness, read_attention, summary, write_attention
from bevkd.geometry import BEVGrid
from bevkd.train.attention import TAU, attention_of_activity, spatial_attention

GRID = BEVGrid.centred(10.0, 1.0)  # 20 x 20 cells, of which 12 have their centres within 2 m
RNG = np.random.default_rng(0)


def drawn(values: Any, grid: BEVGrid = GRID, file: str = "a.npz") -> Attention:
    maps = np.asarray(values, dtype=np.float32).reshape(-1, grid.H, grid.W)
    return Attention(Path(file), [f"t{i}" for i in range(len(maps))], maps, grid)


def test_attention_of_the_feature_map() -> None:
    """Two cells of two channels: P = (0, 1), so that the second has e^2 times the attention of the first."""
    maps = torch.tensor([[[[0.0, 1.5]], [[0.0, -0.5]]]])
    found = spatial_attention(maps)
    assert TAU == 0.5
    first = 2 / (1 + math.exp(2))
    assert found.flatten().tolist() == pytest.approx([first, 2 - first])
    assert attention_of_activity(np.array([[0.0, 1.0]])).ravel().tolist() == pytest.approx([first, 2 - first])


def test_entropy_and_shares_by_hand() -> None:
    uniform = summary(drawn(np.ones((2, 20, 20))))
    assert uniform["entropy"] == pytest.approx(1)
    assert (uniform["near"], uniform["centre_area"]) == pytest.approx((12 / 400, 12 / 400))
    two = np.zeros((1, 20, 20))
    two[0, 10, 10] = 300  # its centre is 0.7 m from the vehicle
    two[0, 0, 0] = 100
    found = summary(drawn(two))
    share = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(400)
    assert found["entropy"] == pytest.approx(share)
    assert found["near"] == pytest.approx(0.75)
    both = summary(drawn(np.concatenate([two, np.ones((1, 20, 20))])))
    assert both["entropy"] == pytest.approx((share + 1) / 2), "a mean over frames"
    assert both["near"] == pytest.approx((0.75 + 0.03) / 2)


def test_the_range_reaches_to_the_farthest_side() -> None:
    """A map of 20 m ahead of the vehicle and 10 m to either side: a fifth is 4 m, and rows are y."""
    grid = BEVGrid(0.0, -10.0, 2.0, 10, 10)
    values = np.zeros((1, 10, 10))
    values[0, 5, 1], values[0, 1, 5] = 30, 70  # (x, y) = (3, 1) and (11, -7)
    found = summary(drawn(values, grid))
    assert found["near"] == pytest.approx(0.3)
    assert found["centre_area"] == pytest.approx(6 / 100)  # (1, ±1), (3, ±1), (1, ±3)


def test_likeness_by_hand() -> None:
    values = RNG.uniform(0.1, 2, (3, 20, 20))
    mine = drawn(values)
    same = likeness(mine, drawn(2 * values))
    assert (same.near, same.far) == (pytest.approx(1), pytest.approx(1)), "whatever the scale"
    assert (same.frames, same.constant) == (3, 0)
    shifted = likeness(mine, drawn(np.roll(values, 1, axis=2)))
    assert -0.5 < shifted.near < 0.5
    assert -0.5 < shifted.far < 0.5
    opposite = likeness(mine, drawn(3 - values))
    assert (opposite.near, opposite.far) == (pytest.approx(-1), pytest.approx(-1))
    # Changed near the vehicle alone: (8.5, 0.5) is far, (2.5, 0.5) is near.
    other = values.copy()
    other[:, 10, 12] += 5
    found = likeness(mine, drawn(other))
    assert found.near < 0.99
    assert found.far == pytest.approx(1)
    other = values.copy()
    other[:, 10, 18] += 5
    found = likeness(mine, drawn(other))
    assert found.near == pytest.approx(1)
    assert found.far < 0.99
    distance = mine.distance * 10
    for inside, got in ((distance <= 5, found.near), (distance > 5, found.far)):
        wanted = [
            np.corrcoef(a[inside], b[inside])[0, 1] for a, b in zip(values, other.astype(np.float32), strict=True)
        ]
        assert got == pytest.approx(np.mean(wanted), abs=1e-5)


def test_constant_maps_are_missing() -> None:
    values = RNG.uniform(0.1, 2, (3, 20, 20))
    flat = values.copy()
    flat[1] = 1.0
    found = likeness(drawn(values), drawn(flat))
    assert (found.near, found.far) == (pytest.approx(1), pytest.approx(1))
    assert (found.frames, found.constant) == (3, 1)
    assert likeness(drawn(flat), drawn(flat)).constant == 1
    far = values.copy()
    far[2, drawn(values).distance[:, :] > 0.5] = 0.1
    assert likeness(drawn(values), drawn(far)).constant == 1
    with pytest.raises(DataError, match=r"in every frame a map is constant.*b\.npz.*field=attention"):
        likeness(drawn(values), drawn(np.ones((3, 20, 20)), file="b.npz"))


def test_other_frames_or_grids_are_not_compared() -> None:
    mine = drawn(RNG.uniform(0.1, 2, (2, 20, 20)))
    with pytest.raises(DataError, match=r"other frames than in a\.npz.*b\.npz.*field=tokens"):
        likeness(mine, replace(mine, file=Path("b.npz"), tokens=["t1", "t0"]))
    for grid in (replace(GRID, cell=0.5), replace(GRID, x_min=0.0)):
        with pytest.raises(DataError, match=r"another grid.*b\.npz.*field=grid"):
            likeness(mine, replace(mine, file=Path("b.npz"), grid=grid))
    coarse = drawn(RNG.uniform(0.1, 2, (2, 10, 10)), BEVGrid.centred(10.0, 2.0), "b.npz")
    with pytest.raises(DataError, match="another grid"):
        likeness(mine, coarse)


def test_a_file_is_what_was_written(tmp_path: Path) -> None:
    grid = BEVGrid(0.0, -6.0, 2.0, 5, 6)
    found = drawn(RNG.uniform(0.1, 2, (3, 6, 5)), grid, str(tmp_path / "some" / "a.npz"))
    write_attention(found)
    first = found.file.read_bytes()
    write_attention(found)
    assert found.file.read_bytes() == first
    read = read_attention(found.file)
    assert (read.tokens, read.grid) == (found.tokens, grid)
    assert np.array_equal(read.values, found.values)
    with np.load(found.file, allow_pickle=False) as arrays:
        assert set(arrays.files) == {"tokens", "attention", "grid"}
        assert arrays["attention"].dtype == np.float32
        half = {"tokens": arrays["tokens"], "attention": arrays["attention"].astype(np.float16), "grid": arrays["grid"]}
    np.savez(found.file, **half)
    assert np.allclose(read_attention(found.file).values, found.values, rtol=1e-3)


def spoilt(name: str, at: Any, value: float) -> Any:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name][at] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("grid"), "no such array: grid.*field=grid"),
        (lambda a: a.update(tokens=np.array([1, 2])), "tokens must be a text array.*field=tokens"),
        (lambda a: a.update(tokens=np.array(["a", "b"], dtype=object)), "one of Python objects.*field=tokens"),
        (lambda a: a.update(tokens=np.array(["a", "a"])), "each given once.*field=tokens"),
        (lambda a: a.update(tokens=np.array(["a"])), "N = 1 as of tokens.*field=attention"),
        (lambda a: a.update({k: a[k][:0] for k in ("tokens", "attention")}), "field=tokens"),
        (lambda a: a.update(attention=a["attention"][0]), r"of shape \(N, H, W\).*field=attention"),
        (lambda a: a.update(attention=a["attention"][:, :1, :1]), "a single cell.*field=attention"),
        (lambda a: a.update(grid=a["grid"][:2]), "not x_min, y_min.*field=grid"),
        (spoilt("grid", 2, 0.0), "not x_min, y_min.*field=grid"),
        (spoilt("grid", 0, np.nan), "not x_min, y_min.*field=grid"),
        (spoilt("attention", (1, 0, 0), np.nan), "no attention.*token=t1"),
        (spoilt("attention", (1, 0, 0), -1.0), "no attention.*token=t1"),
        (spoilt("attention", 0, 0.0), "no attention.*token=t0"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "attention_val.npz"
    arrays = {"tokens": np.array(["t0", "t1"]), "attention": np.ones((2, 20, 20)), "grid": np.array([-10.0, -10, 1])}
    change(arrays)
    np.savez(file, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read_attention(file)
    assert "attention_val.npz" in str(caught.value)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "attention_val.npz"
    with pytest.raises(DataError, match=r"missing.*attention_val\.npz"):
        read_attention(file)
    file.write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=r"cannot be read as \.npz.*attention_val\.npz"):
        read_attention(file)
