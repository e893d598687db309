"""Detections of a trained run on a split: the benchmark's own submission, then its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bevkd.config import RunConfig
from bevkd.data import FrameDataset, collate
from bevkd.data.batch import Batch, Boxes
from bevkd.models.detector import Detector
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import lookup
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.optim import mixed, thread_count


def test_frames(run: RunConfig, split: str) -> FrameDataset:
    """The frames of a split as a detector sees them at test time."""
    return FrameDataset(run.data, run.model, split, train=False, seed=run.seed)


def forward(
    detector: Detector, frames: FrameDataset, members: Sequence[int], batch_size: int, precision: str
) -> Iterator[tuple[Sequence[int], Batch, BEVOutputs]]:
    """Outputs of a detector for some test-time frames, batch by batch: which frames, the batch, what comes of it.

    Args:
        detector: in eval mode, on the device to use.
        frames: test-time frames.
        members: indices of the frames to look at.
        batch_size: frames per forward pass.
        precision: "fp32", "bf16", "fp16" or "auto", as in training.
    """
    device = next(detector.parameters()).device
    cast = mixed(precision, device.type)
    for first in range(0, len(members), batch_size):
        part = members[first : first + batch_size]
        batch = collate([frames.get(i, 0) for i in part]).to(device)
        with torch.inference_mode(), cast:
            outputs = detector(batch)
        yield part, batch, outputs


@torch.inference_mode()
def detect(
    detector: Detector,
    frames: FrameDataset,
    batch_size: int = 8,
    precision: str = "fp32",
    only: Sequence[int] | None = None,
) -> dict[str, Boxes]:
    """Run a detector over frames: boxes in each frame's ego frame; every token is a key, also without any detection.

    Arguments as of `forward`; `only` are the indices of the frames to look at, default all of them.
    """
    out: dict[str, Boxes] = {}
    for members, _, outputs in forward(
        detector, frames, range(len(frames)) if only is None else only, batch_size, precision
    ):
        boxes = detector.decode(outputs)
        for position, i in enumerate(members):
            out[frames.tokens[i]] = boxes.select(boxes.frame == position)
    return out


def predict(out: Path, split: str, stem: Path, batch_size: int = 8) -> Path:
    """Detect on a split with the run in `out` and write the submission; its name begins with `stem`.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split.
        DataError: bad data.
    """
    detector, run = load_detector(Path(out) / MODEL)
    return _predict(detector, run, test_frames(run, split), Path(stem), batch_size)


def _predict(detector: Detector, run: RunConfig, frames: FrameDataset, stem: Path, batch_size: int) -> Path:
    with thread_count(run.train.threads):
        detector.to("cuda" if torch.cuda.is_available() else "cpu")
        found = detect(detector, frames, batch_size, run.train.precision)
    results: Path = lookup("submission", run.data.kind).write(run, frames, found, stem)
    return results


def evaluate_run(out: Path, split: str, batch_size: int = 8) -> dict[str, Any]:
    """Write `predictions_<split>` (as the benchmark wants it) and `metrics_<split>.json` beside the model.

    Returns:
        The metrics, as `bevkd evaluate` writes them for this kind of data set.

    Raises:
        CheckpointError, ConfigError, DataError: as `predict`.
    """
    out = Path(out)
    detector, run = load_detector(out / MODEL)
    frames = test_frames(run, split)
    results = _predict(detector, run, frames, out / f"predictions_{split}", batch_size)
    metrics: dict[str, Any] = lookup("submission", run.data.kind).evaluate(
        run, frames, results, out / f"metrics_{split}.json"
    )
    return metrics
