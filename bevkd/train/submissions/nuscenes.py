"""nuScenes: a submission file in the global frame, and the devkit's metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bevkd.classes import CLASSES
from bevkd.config import RunConfig
from bevkd.data import FrameDataset
from bevkd.data.batch import Boxes
from bevkd.errors import ConfigError
from bevkd.eval.nuscenes import Boxes as GlobalBoxes
from bevkd.eval.nuscenes import DetectionConfig, break_down_files, evaluate_files, make_boxes, write_submission
from bevkd.eval.nuscenes.constants import ATTRIBUTE_INDEX
from bevkd.geometry import apply, quaternion_from_matrix, quaternion_from_yaw
from bevkd.registry import register
from bevkd.splits import evaluated_as
from bevkd.train.submissions.classes import check_classes, check_every_box

logger = logging.getLogger(__name__)

MOVING_SPEED = 0.2  # m/s (UniDistill spec, 4.8)
# (attribute when moving, attribute when still) of every class; barriers and cones have none.
_ATTRIBUTES: dict[str, tuple[str, str]] = {
    "car": ("vehicle.moving", "vehicle.parked"),
    "truck": ("vehicle.moving", "vehicle.parked"),
    "construction_vehicle": ("vehicle.moving", "vehicle.parked"),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    "trailer": ("vehicle.moving", "vehicle.parked"),
    "barrier": ("", ""),
    "motorcycle": ("cycle.with_rider", "cycle.without_rider"),
    "bicycle": ("cycle.with_rider", "cycle.without_rider"),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    "traffic_cone": ("", ""),
}
_ATTRIBUTE_TABLE = np.array([[ATTRIBUTE_INDEX[name] for name in _ATTRIBUTES[c]] for c in CLASSES])


def attributes(labels: ArrayLike, velocity: ArrayLike) -> NDArray[np.int64]:
    """Attribute index (N,) from class index (N,) and velocity (N, 2) in m/s; -1 for classes without attributes."""
    still = np.linalg.norm(np.asarray(velocity, dtype=np.float64), axis=-1) <= MOVING_SPEED
    return _ATTRIBUTE_TABLE[np.asarray(labels, dtype=np.int64), still.astype(np.int64)]


def multiply_quaternions(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Hamilton product (..., 4) of quaternions (w, x, y, z): first rotate by `b`, then by `a`."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a, dtype=np.float64), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, dtype=np.float64), -1, 0)
    parts = (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def to_global(boxes: Boxes, global_from_ego: NDArray[np.float64]) -> GlobalBoxes:
    """Detections of one frame, from its ego frame to the global frame.

    Args:
        boxes: boxes of one frame in the ego frame.
        global_from_ego: (4, 4) ego pose of the keyframe; its small roll and pitch are applied as well.
    """
    values = boxes.boxes.double().cpu().numpy()
    labels = boxes.labels.cpu().numpy()
    turn = global_from_ego[:3, :3]
    velocity = np.concatenate([values[:, 7:9], np.zeros((len(values), 1))], axis=1) @ turn.T
    return make_boxes(
        np.zeros(len(values), dtype=np.int64),
        apply(global_from_ego, values[:, :3]),
        values[:, [4, 3, 5]],  # nuScenes stores width, length, height
        multiply_quaternions(quaternion_from_matrix(turn), quaternion_from_yaw(values[:, 6])),
        velocity[:, :2],
        labels,
        score=boxes.scores.double().cpu().numpy(),
        attribute=attributes(labels, values[:, 7:9]),
    )


def evaluation_config(run: RunConfig) -> DetectionConfig:
    """The official settings, with every class range cut to `data.max_range` where it is given."""
    config = DetectionConfig.cvpr_2019()
    return config if run.data.max_range is None else config.with_range(run.data.max_range)


@register("submission", "nuscenes")
class NuScenesSubmission:
    """`predictions_<split>.json` as the benchmark wants it."""

    @staticmethod
    def check(run: RunConfig, facts: Mapping[str, Any]) -> None:
        """Whether the benchmark has the classes, and the index is of the version that is named.

        Raises:
            ConfigError: it has not, or is not.
        """
        check_classes(run, CLASSES, "nuScenes")
        check_every_box(run, "nuScenes")
        version = facts["version"]
        if version != run.data.version:
            raise ConfigError(
                f"index {run.data.index} is of version {version!r}, data.version is {run.data.version!r}: index that"
                f" version with `bevkd convert --version {run.data.version}` and name the index with --index"
            )

    @staticmethod
    def write(run: RunConfig, frames: FrameDataset, found: Mapping[str, Boxes], stem: Path) -> Path:
        """Write the detections of all frames to `<stem>.json`, the best 500 of each as the benchmark allows."""
        poses = dict(zip(frames.tokens, frames.global_from_ego, strict=True))
        boxes = {token: to_global(seen, poses[token]) for token, seen in found.items()}
        most = evaluation_config(run).max_boxes_per_sample
        if full := [token for token, seen in boxes.items() if len(seen) > most]:
            logger.warning("%d frames have more than %d detections: the best %d are written", len(full), most, most)
            for token in full:
                best = np.argsort(-boxes[token].score, kind="stable")[:most]
                boxes[token] = boxes[token].take(np.sort(best))
        sensors = ("camera", "lidar", "radar")
        results = stem.with_suffix(".json")
        write_submission(results, boxes, {f"use_{name}": name in run.model.sensors for name in sensors})
        return results

    @staticmethod
    def evaluate(run: RunConfig, frames: FrameDataset, results: Path, out: Path) -> dict[str, Any]:
        """Write and return the metrics, with the keys of the devkit's summary."""
        data = run.data
        settings, own = evaluation_config(run), frames.categories
        split = evaluated_as(data.version, frames.split)
        metrics = evaluate_files(data.root, data.version, split, results, out, settings, categories=own)
        logger.info("%s on %s: mAP %.4f, NDS %.4f", run.run, frames.split, metrics.mean_ap, metrics.nd_score)
        return metrics.content()

    @staticmethod
    def break_down(
        run: RunConfig, frames: FrameDataset, results: Path, out: Path, range_bins: Sequence[float]
    ) -> dict[str, Any]:
        """Write and return the metrics of groups of boxes and frames, with borders (m) of the groups by range."""
        split = evaluated_as(run.data.version, frames.split)
        place = (run.data.root, run.data.version, split)
        return break_down_files(*place, results, out, evaluation_config(run), frames.categories, range_bins)
