"""Waymo: the arrays that the metrics read, and average precision per type, range and level."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bevkd.classes import LABEL_INDEX, LABELS
from bevkd.config import RunConfig
from bevkd.data import FrameDataset
from bevkd.data.batch import Boxes
from bevkd.errors import ConfigError
from bevkd.eval.summary import with_frames
from bevkd.eval.waymo import TYPES, LetConfig, evaluate, read_sets
from bevkd.eval.waymo.causes import conventions
from bevkd.eval.waymo.objects import write_objects
from bevkd.io import atomic_path, write_json
from bevkd.registry import register
from bevkd.train.submissions.classes import check_classes

logger = logging.getLogger(__name__)

_DETECTED = ("VEHICLE", "PEDESTRIAN", "CYCLIST")
_TYPE_OF_LABEL = {LABEL_INDEX[name.lower()]: number for name, number in TYPES.items()}


def arrays(frames: FrameDataset, found: Mapping[str, Boxes]) -> dict[str, NDArray[Any]]:
    """The arrays of `bevkd evaluate waymo`: detections, and the annotations that have LiDAR points.

    No detection is said to lie in a no-label zone. With `data.boxes_in_view` both are those that a camera sees.

    Raises:
        ConfigError: the detector has classes that Waymo does not evaluate.
    """
    pred: dict[str, list[Any]] = {name: [] for name in ("box", "type", "frame", "score")}
    truth: dict[str, list[Any]] = {name: [] for name in ("box", "type", "frame", "difficulty")}
    for i, token in enumerate(frames.tokens):
        seen = found[token]
        if frames.data.boxes_in_view:
            seen = seen.select(torch.from_numpy(frames.seen(i, seen.boxes.float().cpu().numpy())))
        labels = seen.labels.cpu().numpy()
        pred["box"].append(seen.boxes[:, :7].float().cpu().numpy())
        pred["type"].append(_types(labels))
        pred["frame"].append(np.full(len(labels), i))
        pred["score"].append(seen.scores.float().cpu().numpy())
        boxes, labels, difficulty = frames.annotations(i)
        truth["box"].append(boxes[:, :7].astype(np.float32))
        truth["type"].append(_types(labels))
        truth["frame"].append(np.full(len(labels), i))
        truth["difficulty"].append(difficulty)
    out = {f"pred_{name}": np.concatenate(parts) for name, parts in pred.items()}
    out |= {f"gt_{name}": np.concatenate(parts) for name, parts in truth.items()}
    return out | {"pred_nlz": np.zeros(len(out["pred_box"]), dtype=bool)}


def _by_frame(frames: FrameDataset, content: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    """Segment, time stamp, boxes, types and scores of every frame, from the arrays of all."""
    ends = np.searchsorted(content["pred_frame"], np.arange(len(frames) + 1))
    times = frames.timestamps
    for i, segment in enumerate(frames.scenes):
        own = slice(ends[i], ends[i + 1])
        yield segment, times[i], *(content[f"pred_{name}"][own] for name in ("box", "type", "score"))


def _types(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    try:
        return np.array([_TYPE_OF_LABEL[int(label)] for label in labels], dtype=np.int64)
    except KeyError as error:
        name = LABELS[error.args[0]]
        known = ", ".join(TYPES).lower()
        raise ConfigError(f"model.head.tasks: {name!r} is no class of Waymo; known: {known}") from None


def _with_mean(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    means = {}
    for level in (1, 2):
        parts = [metrics[f"OBJECT_TYPE_TYPE_{name}_LEVEL_{level}"] for name in _DETECTED]
        means[f"MEAN_LEVEL_{level}"] = {key: sum(part[key] for part in parts) / len(parts) for key in parts[0]}
    return metrics | means


@register("submission", "waymo")
class WaymoSubmission:
    """`predictions_<split>.npz`, annotations included."""

    @staticmethod
    def check(run: RunConfig, facts: Mapping[str, Any]) -> None:
        """Whether the benchmark has the classes.

        Raises:
            ConfigError: it has not.
        """
        check_classes(run, [name.lower() for name in TYPES], "Waymo")

    @staticmethod
    def write(run: RunConfig, frames: FrameDataset, found: Mapping[str, Boxes], stem: Path) -> Path:
        """Write the arrays to `<stem>.npz`; without labels also what the benchmark's server takes, `<stem>.bin`."""
        results = stem.with_suffix(".npz")
        content: dict[str, Any] = arrays(frames, found)
        if frames.has_annotations and (left := int((~frames.labelled).sum())):
            logger.warning("%d of %d frames have no labels and are left out of the metrics", left, len(frames))
            scored = frames.labelled[content["pred_frame"]]
            content |= {name: held[scored] for name, held in content.items() if name.startswith("pred_")}
        with atomic_path(results) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **content)
        if frames.has_annotations:
            return results
        for_server = stem.with_suffix(".bin")
        write_objects(for_server, _by_frame(frames, content))
        return for_server

    @staticmethod
    def evaluate(run: RunConfig, frames: FrameDataset, results: Path, out: Path) -> dict[str, Any]:
        """Write and return AP and APH; see `bevkd.eval.waymo`.

        `LET` holds the longitudinal error tolerant metrics, by which camera detectors are ranked. `MEAN_LEVEL_<n>` is
        the mean over vehicles, pedestrians and cyclists, in both.

        Raises:
            ConfigError: the frames are those of `testing`, whose labels are not published.
        """
        if not frames.has_annotations:
            raise ConfigError(f"split {frames.split!r} has no labels")
        sets = read_sets(results)
        metrics: dict[str, Any] = _with_mean(evaluate(sets)) | {"LET": _with_mean(evaluate(sets, LetConfig()))}
        metrics = with_frames(metrics, int(frames.labelled.sum()), conventions(sets))
        write_json(out, metrics, indent=2)
        logger.info("%s on %s: %s", run.run, frames.split, metrics["OBJECT_TYPE_TYPE_VEHICLE_LEVEL_2"])
        return metrics
