"""Files of 2D instance masks, one beside each image: what a detector in the images found, with class and score.

`samples/CAM_FRONT/x.jpg` has its masks in `samples/CAM_FRONT_MASKS/x.jpg.json`:

    {"instances": [{"class": "car", "score": 0.87, "mask": {"size": [900, 1600], "counts": "<base64>"}}, ...]}

`class` is one of the ten nuScenes detection classes, `score` is 0 to 1, `mask` is as nuImages has it
(`bevkd.geometry.rle`). Masks may overlap: where they do, earlier instances come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASS_INDEX
from bevkd.errors import DataError, nearest
from bevkd.geometry.rle import check_record, decode_counts, encode_mask
from bevkd.io import atomic_path, json_text, read_json

SUFFIX, ENDING = "_MASKS", ".json"
MOST = 10_000  # instances in an image


@dataclass(frozen=True)
class Instance:
    """An object that was found in an image.

    Attributes:
        label: index of its class in `bevkd.classes.CLASSES`.
        score: from 0 to 1.
        mask: (H, W) its pixels.
    """

    label: int
    score: float
    mask: NDArray[np.bool_]


def sibling(filename: str, suffix: str, ending: str) -> str:
    """Name of what lies beside a file, in a folder of its own: `a/b/c` -> `a/b<suffix>/c<ending>`."""
    folder, _, name = filename.rpartition("/")
    return f"{folder}{suffix}/{name}{ending}"


def masks_name(image: str) -> str:
    """Name of the file of masks of an image, relative to the same root."""
    return sibling(image, SUFFIX, ENDING)


def write_masks(path: Path, instances: Sequence[tuple[str, float, NDArray[np.bool_]]]) -> None:
    """Write the masks of an image: class, score and mask (H, W) of each instance. No instance is a file, too.

    Raises:
        DataError: the system refuses.
    """
    records = [{"class": name, "score": score, "mask": encode_mask(mask)} for name, score, mask in instances]
    with atomic_path(path, flush=False) as temporary:
        temporary.write_text(json_text({"instances": records}) + "\n", encoding="utf-8")


def read_masks(path: Path, size: tuple[int, int], token: str | None = None) -> Iterator[Instance]:
    """The instances of an image, one after the other: only one mask is in memory at a time.

    Args:
        path: the file.
        size: height and width of the image.
        token: of the image, for messages.

    Raises:
        DataError: the file is missing, or not as above; the message names the instance and its field.
    """
    content = read_json(path)
    records = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(records, list) or len(records) > MOST:
        message = f"wants {{'instances': [...]}} with at most {MOST} instances"
        raise DataError(message, file=path, token=token, field="instances")
    for i, record in enumerate(records):
        yield _instance(record, size, path, token, f"instances.{i}")


def _instance(record: Any, size: tuple[int, int], path: Path, token: str | None, at: str) -> Instance:
    def wrong(message: str, field: str) -> DataError:
        return DataError(message, file=path, token=token, field=f"{at}.{field}")

    if not isinstance(record, dict):
        raise DataError("an instance is a record of class, score and mask", file=path, token=token, field=at)
    name, score = record.get("class"), record.get("score")
    if not isinstance(name, str) or name not in CLASS_INDEX:
        known = f"{nearest(str(name)[:40], CLASS_INDEX)}; known: {', '.join(CLASS_INDEX)}"
        raise wrong(f"unknown class {name!r:.60}{known}", "class")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise wrong(f"a score is a number from 0 to 1, not {score!r:.40}", "score")
    try:
        found, counts = check_record(record.get("mask"))
        if found != size:
            raise ValueError(f"a mask of {found[1]}x{found[0]} pixels in an image of {size[1]}x{size[0]}")
        mask = decode_counts(found, counts)
    except ValueError as error:
        raise wrong(str(error), "mask") from None
    return Instance(CLASS_INDEX[name], float(score), mask)
