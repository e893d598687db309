"""nuImages: detections in the form of COCO's results, and average precision of 2D boxes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import CLASSES, LABEL_INDEX, LABELS
from bevkd.config import RunConfig
from bevkd.data import FrameDataset
from bevkd.data.batch import Boxes
from bevkd.data.image_frames import ImageFrames
from bevkd.data.valid import PLACE_PX
from bevkd.errors import ConfigError, DataError
from bevkd.eval.nuimages import evaluate
from bevkd.eval.summary import with_frames
from bevkd.io import read_json, write_json
from bevkd.registry import register
from bevkd.train.submissions.classes import check_classes

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]


@register("submission", "nuimages")
class NuImagesSubmission:
    """`predictions_<split>.json`: a list of `{image, category, bbox: [x, y, width, height], score}`."""

    @staticmethod
    def check(run: RunConfig, facts: Mapping[str, Any]) -> None:
        """Whether the network finds 2D boxes of classes that nuImages has.

        Raises:
            ConfigError: it does not.
        """
        if run.model.kind != "image2d":
            raise ConfigError(f"nuimages has 2D labels alone: it wants model.kind image2d, not {run.model.kind!r}")
        check_classes(run, CLASSES, "nuImages")

    @staticmethod
    def write(run: RunConfig, frames: FrameDataset, found: Mapping[str, Boxes], stem: Path) -> Path:
        """Write the detections of all images to `<stem>.json`; `image` is the token of its `sample_data`."""
        rows = []
        for token, boxes in found.items():
            values = boxes.boxes.double().cpu().numpy()
            sizes = values[:, 2:] - values[:, :2]
            for place, size, label, score in zip(
                values.tolist(), sizes.tolist(), boxes.labels.tolist(), boxes.scores.tolist(), strict=True
            ):
                bbox = [round(value, 2) for value in (*place[:2], *size)]
                rows.append({"image": token, "category": LABELS[label], "bbox": bbox, "score": round(score, 5)})
        results = stem.with_suffix(".json")
        write_json(results, rows)
        return results

    @staticmethod
    def evaluate(run: RunConfig, frames: FrameDataset, results: Path, out: Path) -> dict[str, Any]:
        """Write and return average precision at IoU 0.5; see `bevkd.eval.nuimages`.

        Raises:
            DataError: the results are not what `write` writes.
        """
        assert isinstance(frames, ImageFrames)
        columns = read_results(results, set(frames.tokens))
        truth = {token: frames.labels_2d(i) for i, token in enumerate(frames.tokens)}
        classes = {name: LABEL_INDEX[name] for name in run.data.classes}
        metrics = with_frames(evaluate(columns, truth, classes), len(frames))
        write_json(out, metrics, indent=2)
        logger.info("%s on %s: mAP50 %s", run.run, frames.split, metrics["mAP50"])
        return metrics


def read_results(path: Path, images: Collection[str]) -> dict[str, tuple[Array, NDArray[np.int64], Array]]:
    """Boxes (N, 4), labels and scores of each image that has some.

    Args:
        path: the file.
        images: tokens of the images of the split.

    Raises:
        DataError: the file is not what `write` writes, or holds a detection of another image.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError("must be a list of detections", file=path)
    found: dict[str, list[tuple[list[float], int, float]]] = {}
    for i, row in enumerate(rows):
        if problem := _problem(row, images):
            token = row.get("image") if isinstance(row, dict) and isinstance(row.get("image"), str) else None
            raise DataError(f"detection {i}: {problem[1]}", file=path, token=token, field=problem[0])
        x, y, width, height = map(float, row["bbox"])
        one = ([x, y, x + width, y + height], LABEL_INDEX[row["category"]], float(row["score"]))
        found.setdefault(row["image"], []).append(one)
    return {
        token: (
            np.array([box for box, _, _ in held]),
            np.array([label for _, label, _ in held], dtype=np.int64),
            np.array([score for _, _, score in held]),
        )
        for token, held in found.items()
    }


def _problem(row: Any, images: Collection[str]) -> tuple[str, str] | None:
    """Field and what is wrong with a detection; None where nothing is."""
    if not isinstance(row, dict):
        return "results", f"must be an object, not {row!r:.80}"
    for name in ("image", "category", "bbox", "score"):
        if name not in row:
            return name, "field is missing"
    if not isinstance(row["image"], str) or row["image"] not in images:
        return "image", f"{row['image']!r:.80} is no image of the split"
    if not isinstance(row["category"], str) or row["category"] not in LABEL_INDEX:
        return "category", f"unknown name {row['category']!r:.80}"
    box, score = row["bbox"], row["score"]
    if not isinstance(box, list) or len(box) != 4 or not {type(value) for value in box} <= {int, float}:
        return "bbox", f"must be 4 numbers, not {box!r:.80}"
    # Rounded to hundredths, the side of a small box is 0.
    if not all(-PLACE_PX <= value <= PLACE_PX for value in box) or min(box[2:]) < 0:
        return "bbox", f"must be x, y, width and height in pixels, not {box!r:.80}"
    if type(score) not in (int, float) or not 0 <= score <= 1:
        return "score", f"must be from 0 to 1, not {score!r:.80}"
    return None
