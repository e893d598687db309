"""nuImages: detections in the form of COCO's results, and average precision of 2D boxes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.classes import CLASSES, LABEL_INDEX, LABELS
from bevkd.config import RunConfig
from bevkd.data import FrameDataset
from bevkd.data.batch import Boxes
from bevkd.data.image_frames import ImageFrames
from bevkd.errors import ConfigError, DataError
from bevkd.eval.nuimages import evaluate
from bevkd.eval.summary import with_frames
from bevkd.io import read_json, write_json
from bevkd.registry import register
from bevkd.train.submissions.classes import check_classes

logger = logging.getLogger(__name__)


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
        found: dict[str, list[tuple[list[float], int, float]]] = {}
        for row in read_json(results):
            try:
                x, y, width, height = map(float, row["bbox"])
                one = ([x, y, x + width, y + height], LABEL_INDEX[row["category"]], float(row["score"]))
                found.setdefault(row["image"], []).append(one)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"no detection: {row!r:.80}", file=results, field=str(error)) from None
        columns = {
            token: (
                np.array([box for box, _, _ in rows]),
                np.array([label for _, label, _ in rows], dtype=np.int64),
                np.array([score for _, _, score in rows]),
            )
            for token, rows in found.items()
        }
        truth = {token: frames.labels_2d(i) for i, token in enumerate(frames.tokens)}
        classes = {name: LABEL_INDEX[name] for name in run.data.classes}
        metrics = with_frames(evaluate(columns, truth, classes), len(frames))
        write_json(out, metrics, indent=2)
        logger.info("%s on %s: mAP50 %s", run.run, frames.split, metrics["mAP50"])
        return metrics
