"""Can a detector learn a few frames by heart? The quickest check that data, model, losses and decoding fit together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bevkd.classes import CLASSES
from bevkd.config import AugmentConfig, RunConfig
from bevkd.config.schema import BEVAugmentConfig, ImageAugmentConfig
from bevkd.data.batch import Boxes
from bevkd.data.dataset import FrameDataset
from bevkd.eval.nuscenes import Boxes as GlobalBoxes
from bevkd.eval.nuscenes import GroundTruth, Predictions, evaluate
from bevkd.train.checkpoint import load_detector
from bevkd.train.loop import train
from bevkd.train.predict import detect, test_frames
from bevkd.train.submissions.nuscenes import evaluation_config, to_global


@dataclass(frozen=True)
class Overfit:
    """How well frames were learnt by heart.

    Attributes:
        mean_ap: over the classes that occur.
        ap: average precision of each class that occurs.
        boxes: number of annotations of each class that occurs.
        model: the trained weights.
    """

    mean_ap: float
    ap: dict[str, float]
    boxes: dict[str, int]
    model: Path


def overfit_run(run: RunConfig, frames: int = 1, min_points: int = 6) -> RunConfig:
    """The run on its first `frames` training frames, without augmentation, teacher or sampling.

    Boxes with fewer than `min_points` LiDAR and radar points are left out.
    """
    augment = AugmentConfig(variants=1, image=replace(run.data.augment.image, enabled=False), bev=BEVAugmentConfig())
    assert isinstance(augment.image, ImageAugmentConfig)
    return replace(
        run,
        row=replace(run.row, teacher=None, method=None, init=None, frames="labelled"),
        data=replace(run.data, cbgs=False, memory_cache=True, min_points=min_points, augment=augment),
        train=replace(
            run.train,
            frames_limit=frames,
            batch_size=min(run.train.batch_size, frames),
            unlabelled_per_batch=0,
            accumulate=1,
            switch_off=(),
            snapshots=0,
            reference_batch=0,
        ),
    )


def overfit(run: RunConfig, out: Path, frames: int = 1, min_points: int = 6) -> Overfit:
    """Train on the first frames of a run and measure average precision on the same frames.

    Args:
        run: any run; its schedule is kept.
        out: folder for the result, as of `train`.
        frames: how many frames to learn.
        min_points: see `overfit_run`.

    Raises:
        ConfigError, DataError: as `train`.
    """
    run = overfit_run(run, frames, min_points)
    model = train(run, out)
    detector, _ = load_detector(model)
    data = test_frames(run, run.data.train_split)
    chosen = training_tokens(run, frames)
    places = [data.tokens.index(token) for token in chosen]
    found = detect(detector, data, precision=run.train.precision, only=places)
    seen = [to_global(found[token], data.global_from_ego[place]) for token, place in zip(chosen, places, strict=True)]
    truth = [_annotations(data, place) for place in places]
    config = evaluation_config(run)
    gt = GroundTruth(
        tuple(chosen),
        np.stack([data.global_from_ego[place, :3, 3] for place in places]),
        _join(truth),
        _join(truth).take(np.zeros(0, dtype=np.int64)),
    )
    metrics = evaluate(gt, Predictions(_join(seen)), config)
    distance = np.linalg.norm((gt.boxes.translation - gt.ego_translation[gt.boxes.frame])[:, :2], axis=1)
    reach = np.array([config.class_range[name] for name in CLASSES])
    near = gt.boxes.label[distance < reach[gt.boxes.label]]
    counts = {CLASSES[label]: int((near == label).sum()) for label in np.unique(near)}
    ap = {name: float(metrics.mean_dist_aps[name]) for name in counts}
    return Overfit(float(np.mean(list(ap.values()))) if ap else 0.0, ap, counts, model)


def training_tokens(run: RunConfig, frames: int) -> list[str]:
    """Tokens of the first training frames."""
    from bevkd.train.stream import training_frames

    return training_frames(run).tokens[:frames]


def _annotations(data: FrameDataset, place: int) -> GlobalBoxes:
    boxes, labels = data.boxes(place)
    n = len(boxes)
    flat = Boxes(torch.from_numpy(boxes), torch.from_numpy(labels), torch.zeros(n, dtype=torch.long), torch.ones(n))
    return to_global(flat, data.global_from_ego[place])


def _join(parts: list[GlobalBoxes]) -> GlobalBoxes:
    """Boxes of several frames as one table, numbered by frame."""
    numbered = [replace(part, frame=np.full(len(part), i)) for i, part in enumerate(parts)]
    names = GlobalBoxes.__dataclass_fields__
    return GlobalBoxes(**{name: np.concatenate([getattr(part, name) for part in numbered]) for name in names})
