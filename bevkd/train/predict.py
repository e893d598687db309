"""Detections of a trained run on a split: the official submission file, then its metrics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from bevkd.classes import CLASS_INDEX, CLASSES
from bevkd.config import RunConfig
from bevkd.data import FrameDataset, collate
from bevkd.data.batch import Boxes
from bevkd.eval.nuscenes import Boxes as GlobalBoxes
from bevkd.eval.nuscenes import DetectionConfig, evaluate_files, make_boxes, write_submission
from bevkd.eval.nuscenes.constants import ATTRIBUTE_INDEX
from bevkd.geometry import apply, quaternion_from_matrix, quaternion_from_yaw
from bevkd.models.detector import Detector
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.optim import resolve_precision

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
assert list(CLASS_INDEX) == list(CLASSES)


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


def test_frames(run: RunConfig, split: str) -> FrameDataset:
    """The frames of a split as a detector sees them at test time."""
    return FrameDataset(run.data, run.model, split, train=False, seed=run.seed)


@torch.inference_mode()
def detect(
    detector: Detector,
    frames: FrameDataset,
    batch_size: int = 8,
    precision: str = "fp32",
    only: Sequence[int] | None = None,
) -> dict[str, GlobalBoxes]:
    """Run a detector over frames; every token is a key, also without any detection.

    Args:
        detector: in eval mode, on the device to use.
        frames: test-time frames.
        batch_size: frames per forward pass.
        precision: "fp32", "bf16", "fp16" or "auto", as in training.
        only: indices of the frames to look at; default all of them.
    """
    device = next(detector.parameters()).device
    mode = resolve_precision(precision, device.type)
    dtype = torch.float16 if mode.startswith("16") else torch.bfloat16
    out: dict[str, GlobalBoxes] = {}
    chosen = range(len(frames)) if only is None else only
    for first in range(0, len(chosen), batch_size):
        members = chosen[first : first + batch_size]
        batch = collate([frames.get(i, 0) for i in members]).to(device)
        with torch.autocast(device.type, dtype=dtype, enabled=mode != "32-true"):
            outputs = detector(batch)
        boxes = detector.decode(outputs)
        for position, i in enumerate(members):
            of_frame = boxes.select(boxes.frame == position)
            out[frames.tokens[i]] = to_global(of_frame, frames.global_from_ego[i])
    return out


def predict(out: Path, split: str, results: Path, batch_size: int = 8) -> Path:
    """Detect on a split with the run in `out` and write the submission file `results`.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split.
        DataError: bad data.
    """
    detector, run = load_detector(Path(out) / MODEL)
    return _predict(detector, run, split, results, batch_size)


def _predict(detector: Detector, run: RunConfig, split: str, results: Path, batch_size: int) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(run.train.threads)
    try:
        detector.to("cuda" if torch.cuda.is_available() else "cpu")
        found = detect(detector, test_frames(run, split), batch_size, run.train.precision)
    finally:
        torch.set_num_threads(threads)
    sensors = ("camera", "lidar", "radar")
    write_submission(results, found, {f"use_{name}": name in run.model.sensors for name in sensors})
    return results


def evaluation_config(run: RunConfig) -> DetectionConfig:
    """The official settings, with every class range cut to `data.max_range` where it is given."""
    config = DetectionConfig.cvpr_2019()
    return config if run.data.max_range is None else config.with_range(run.data.max_range)


def evaluate_run(out: Path, split: str, batch_size: int = 8) -> dict[str, Any]:
    """Write `predictions_<split>.json` and `metrics_<split>.json` beside the model.

    Returns:
        The metrics, with the keys of the devkit's summary.

    Raises:
        CheckpointError, ConfigError, DataError: as `predict`.
    """
    out = Path(out)
    detector, run = load_detector(out / MODEL)
    results = _predict(detector, run, split, out / f"predictions_{split}.json", batch_size)
    metrics = evaluate_files(
        run.data.root, run.data.version, split, results, out / f"metrics_{split}.json", evaluation_config(run)
    )
    logger.info("%s on %s: mAP %.4f, NDS %.4f", run.run, split, metrics.mean_ap, metrics.nd_score)
    return metrics.summary()
