"""Masks of nuImages: round trips, texts made by hand, damaged ones."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bevkd.geometry.rle import decode_mask, encode_mask


def naive_text(mask: NDArray[np.bool_]) -> str:
    """COCO's text, run by run and bit by bit."""
    pixels = [bool(mask[r, c]) for c in range(mask.shape[1]) for r in range(mask.shape[0])]
    runs, value = [0], False
    for pixel in pixels:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    out = ""
    for i, run in enumerate(runs):
        number = run - runs[i - 2] if i > 2 else run
        while True:
            low, number = number & 31, number >> 5
            more = number != -1 if low & 16 else number != 0
            out += chr(48 + (low | (32 if more else 0)))
            if not more:
                break
    return out


def test_masks_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        h, w = rng.integers(1, 60, 2)
        mask = rng.random((h, w)) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])
        record = encode_mask(mask)
        assert base64.b64decode(record["counts"]).decode() == naive_text(mask)
        assert np.array_equal(decode_mask(record), mask)


def test_texts_made_by_hand() -> None:
    """4 x 4 with a square of 2 in the middle: runs 5, 2, 2, 2, 5, of which the fourth and fifth are differences."""
    mask = np.zeros((4, 4), dtype=bool)
    mask[1:3, 1:3] = True
    assert base64.b64decode(encode_mask(mask)["counts"]) == b"52203"
    long = np.zeros((100, 1), dtype=bool)
    long[40:] = True  # runs 40 = 8 + 32 * 1 and 60 = 28 + 32 * 1
    assert base64.b64decode(encode_mask(long)["counts"]) == b"X1l1"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "needs `size` and `counts`"),
        ({"size": [4, 4]}, "needs `size` and `counts`"),
        ({"size": [4], "counts": ""}, r"size of a mask is \[height, width\]"),
        ({"size": [4, 0], "counts": ""}, r"size of a mask is \[height, width\]"),
        ({"size": [4, 4], "counts": 3}, "text in base64"),
        ({"size": [4, 4], "counts": "%%"}, "no base64"),
        ({"size": [4, 4], "counts": base64.b64encode(b"52203\xff").decode()}, "damaged"),
        ({"size": [4, 4], "counts": base64.b64encode(b"5220P").decode()}, "damaged"),  # says that more follows
        ({"size": [4, 4], "counts": base64.b64encode(b"P" * 20 + b"0").decode()}, "damaged"),
        ({"size": [4, 5], "counts": base64.b64encode(b"52203").decode()}, "do not add up to 4 x 5"),
        ({"size": [4, 4], "counts": ""}, "do not add up"),
    ],
)
def test_damaged_masks_are_refused(record: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_mask(record)
