"""Masks as nuImages stores them: COCO's run lengths, column by column, in its compressed text, in base64.

Run lengths alternate between pixels outside and inside of the mask, from outside. The text holds each as its difference
to the one two before it (from the fourth on), five bits a character, low bits first; bit 5 says that more follow.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 12  # characters of one number: 60 bits
MOST_SIDE = 65_535  # pixels, as many as an image may have


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask (H, W) as `{"size": [H, W], "counts": base64}`."""
    flat = np.asarray(mask, dtype=np.uint8).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()  # a first run of length 0 where pixel 0 is inside
    runs = np.diff([0, *edges, len(flat)])
    return {"size": list(mask.shape), "counts": base64.b64encode(_to_text(runs.tolist())).decode("ascii")}


def decode_mask(record: Any) -> NDArray[np.bool_]:
    """The mask (H, W) of such a record.

    Raises:
        ValueError: it is none, or its runs do not add up to its size.
    """
    return decode_counts(*check_record(record))


def check_record(record: Any) -> tuple[tuple[int, int], str]:
    """Size (H, W) and base64 text of a record.

    Raises:
        ValueError: it lacks one of them, or one is of another kind.
    """
    if not isinstance(record, dict) or not {"size", "counts"} <= record.keys():
        raise ValueError("a mask needs `size` and `counts`")
    size, counts = record["size"], record["counts"]
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n <= MOST_SIDE for n in size):
        raise ValueError(f"the size of a mask is [height, width], not {size!r:.40}")
    if not isinstance(counts, str) or not counts.isascii():
        raise ValueError("the counts of a mask are text in base64")
    return (size[0], size[1]), counts


def decode_counts(size: tuple[int, int], counts: str) -> NDArray[np.bool_]:
    """The mask (H, W) of a size and a base64 text.

    Raises:
        ValueError: the text is damaged, or its runs do not add up to the size.
    """
    try:
        text = base64.b64decode(counts, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the counts of a mask are no base64: {error}") from None
    runs = _from_text(text)
    pixels = size[0] * size[1]
    # Each by itself first: sums of numbers of 60 bits go round.
    if ((runs < 0) | (runs > pixels)).any() or int(runs.sum(dtype=np.float64)) != pixels:
        raise ValueError(f"the runs of a mask do not add up to {size[0]} x {size[1]} pixels")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[::-1]).T


def _to_text(runs: list[int]) -> bytes:
    out = bytearray()
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            low, value = value & 31, value >> 5
            more = value != (-1 if low & 16 else 0)
            out.append(48 + (low | 32 * more))
            if not more:
                break
    return bytes(out)


def _from_text(text: bytes) -> NDArray[np.int64]:
    digits = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if len(digits) == 0:
        return np.zeros(0, dtype=np.int64)
    last = digits & 32 == 0
    if ((digits < 0) | (digits > 63)).any() or not last[-1]:
        raise ValueError("the counts of a mask are damaged")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    length = ends - starts + 1
    if length.max() > _LARGEST:
        raise ValueError("the counts of a mask are damaged")
    place = np.arange(len(digits)) - np.repeat(starts, length)
    values = np.add.reduceat((digits & 31) << (5 * place), starts)
    values -= np.where(digits[ends] & 16, np.int64(1) << (5 * length), 0)  # the sign
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
