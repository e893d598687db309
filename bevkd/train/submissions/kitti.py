"""KITTI: a folder of result files, one per frame, and the benchmark's average precision."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevkd.classes import LABELS
from bevkd.config import RunConfig
from bevkd.data import FrameDataset
from bevkd.data.batch import Boxes
from bevkd.data.inside import Inside
from bevkd.data.kitti import Calibration, read_calibration
from bevkd.data.kitti.boxes import image_box, placement
from bevkd.data.kitti.convert import CAMERA, member, size_or_guess, spelling
from bevkd.data.kitti.objects import TYPES
from bevkd.errors import ConfigError
from bevkd.eval.kitti import evaluate_files
from bevkd.io import atomic_folder
from bevkd.registry import register
from bevkd.train.submissions.classes import check_classes, check_every_box

logger = logging.getLogger(__name__)


def result_lines(boxes: Boxes, calibration: Calibration, size: tuple[int, int]) -> list[str]:
    """Detections of one frame as lines of a result file; those that are not in the image are left out, as in KITTI.

    Args:
        boxes: in the ego frame.
        calibration: of the frame.
        size: width and height of the image.
    """
    values, scores = boxes.boxes.double().cpu().numpy(), boxes.scores.double().cpu().numpy()
    place, angle, alpha = placement(values, calibration)
    lines = []
    for i, label in enumerate(boxes.labels.tolist()):
        seen = image_box(values[i], calibration, size)
        if seen is None:
            continue
        length, width, height = values[i, 3:6]
        numbers = (alpha[i], *seen[0], height, width, length, *place[i], angle[i])
        words = " ".join(f"{value:.4f}" for value in numbers)
        lines.append(f"{spelling(LABELS[label])} -1 -1 {words} {scores[i]:.6f}")
    return lines


@register("submission", "kitti")
class KittiSubmission:
    """`predictions_<split>/<frame>.txt`."""

    @staticmethod
    def check(run: RunConfig, facts: Mapping[str, Any]) -> None:
        """Whether the benchmark has any of the classes; those that it has not are written, and count nowhere.

        Raises:
            ConfigError: it has none.
        """
        check_classes(run, TYPES, "KITTI", some=True)
        check_every_box(run, "KITTI")

    @staticmethod
    def write(run: RunConfig, frames: FrameDataset, found: Mapping[str, Boxes], stem: Path) -> Path:
        """Write one result file per frame; the folder appears when it is complete."""
        inside = Inside(run.data.root, run.data.link_targets)
        with atomic_folder(stem) as temporary:
            for token in frames.tokens:
                folder, name = member(token)
                calibration = read_calibration(inside.path(f"{folder}/calib/{name}.txt", token), token)
                size = size_or_guess(inside.path(f"{folder}/{CAMERA}/{name}.png", token), token, calibration)
                lines = result_lines(found[token], calibration, size)
                (temporary / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return stem

    @staticmethod
    def evaluate(run: RunConfig, frames: FrameDataset, results: Path, out: Path) -> dict[str, Any]:
        """Write and return average precision in percent; see `bevkd.eval.kitti`. Frames without labels do not count.

        Raises:
            ConfigError: no frame has labels, as those of `testing`, whose labels are not published.
        """
        folder, _ = member(frames.tokens[0])
        labels = Path(run.data.root) / folder / "label_2"
        if not labels.is_dir():
            raise ConfigError(f"split {frames.split!r} has no labels: there is no folder {labels}")
        names = [member(token)[1] for token in frames.tokens]
        labelled = [name for name in names if (labels / f"{name}.txt").is_file()]
        if not labelled:
            raise ConfigError(f"split {frames.split!r} has no labels: none of its frames is in {labels}")
        metrics = evaluate_files(labels, results, out, labelled, frames.categories)
        logger.info("%s on %s: %s", run.run, frames.split, metrics["mean"]["3d"]["moderate"])
        return metrics
