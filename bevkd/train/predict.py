"""Detections of a trained run on a split: the benchmark's own submission, then its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bevkd import progress
from bevkd.config import RunConfig, to_plain
from bevkd.config.applied import applied
from bevkd.data import FrameDataset, collate
from bevkd.data.batch import Batch, Boxes
from bevkd.data.image_frames import open_frames
from bevkd.data.index import read_stamp
from bevkd.data.present import require_index
from bevkd.errors import ConfigError
from bevkd.io import check_output_folder, digest, writing
from bevkd.models.detector import Detector
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import lookup
from bevkd.train.checkpoint import MODEL, load_detector, read_config
from bevkd.train.optim import mixed, thread_count


def test_frames(run: RunConfig, split: str) -> FrameDataset:
    """The frames of a split as a detector sees them at test time."""
    return open_frames(run.data, run.model, split, train=False, seed=run.seed)


def forward(
    detector: Detector,
    frames: FrameDataset,
    members: Sequence[int],
    batch_size: int,
    precision: str,
    until: str | None = None,
) -> Iterator[tuple[Sequence[int], Batch, BEVOutputs]]:
    """Outputs of a detector for some test-time frames, batch by batch: which frames, the batch, what comes of it.

    Args:
        detector: in eval mode, on the device to use.
        frames: test-time frames.
        members: indices of the frames to look at.
        batch_size: frames per forward pass.
        precision: "fp32", "bf16", "fp16" or "auto", as in training.
        until: the stage to run to; None: to the end.
    """
    device = next(detector.parameters()).device
    cast = mixed(precision, device.type)
    for first in range(0, len(members), batch_size):
        part = members[first : first + batch_size]
        batch = collate([frames.get(i, 0) for i in part]).to(device)
        with torch.inference_mode(), cast:
            outputs = detector(batch, until)
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

    Arguments as of `forward`; `only` are the indices of the frames to look at, default all of them. A terminal sees how
    far it is.
    """
    chosen = range(len(frames)) if only is None else only
    out: dict[str, Boxes] = {}
    with progress.bar("detecting", len(chosen), "frames") as bar:
        for members, _, outputs in forward(detector, frames, chosen, batch_size, precision):
            boxes = detector.decode(outputs)
            for position, i in enumerate(members):
                out[frames.tokens[i]] = boxes.select(boxes.frame == position)
            bar.advance(len(members))
    return out


def predict(out: Path, split: str, stem: Path, batch_size: int = 8) -> Path:
    """Detect on a split with the run in `out` and write the submission; its name begins with `stem`.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split.
        DataError: bad data.
    """
    detector, run = load_detector(Path(out) / MODEL)
    return _predict(detector, run, submission_frames(run, split), Path(stem), batch_size)


def submission_frames(run: RunConfig, split: str) -> FrameDataset:
    """The frames of a split, if they are such as a submission of the run can be of.

    Raises:
        ConfigError: the index is of another format, or its benchmark does not know a class of the network.
        DataError: there is no index; the message names the command that makes it.
    """
    require_index(run.data)
    facts = read_stamp(run.data.index)
    kind = facts["reader"]
    if kind != run.data.kind:
        raise ConfigError(
            f"index {run.data.index} is of {kind}, the run reads {run.data.kind}; --set data.kind={kind} applies it to"
            " the other format"
        )
    submission = lookup("submission", run.data.kind)
    if hasattr(submission, "check"):
        submission.check(run, facts)
    return test_frames(run, split)


def _predict(detector: Detector, run: RunConfig, frames: FrameDataset, stem: Path, batch_size: int) -> Path:
    with thread_count(run.train.threads):
        detector.to("cuda" if torch.cuda.is_available() else "cpu")
        found = detect(detector, frames, batch_size, run.train.precision)
    results: Path = lookup("submission", run.data.kind).write(run, frames, found, stem)
    return results


@dataclass(frozen=True)
class Applied:
    """What detecting on a split has left.

    Attributes:
        kind: format of the data set.
        frames: how many.
        results: what the benchmark's server takes, a file or folder.
        metrics: content of the metrics file, and
        file: the file itself; None for both where the split has no labels.
    """

    kind: str
    frames: int
    results: Path
    metrics: dict[str, Any] | None
    file: Path | None


def apply_run(
    folder: Path, split: str, plain: Mapping[str, Any] | None = None, out: Path | None = None, batch_size: int = 8
) -> Applied:
    """Detect with a trained run: `predictions_<split>` (as the benchmark wants it), `metrics_<split>.json`.

    They lie beside the model or, of other data than the run's own, in a folder `applied/<index>-<digest>` there.

    Args:
        folder: of the run.
        split: of the index.
        plain: settings of other data, see `bevkd.config.applied`; of another nuScenes index the version is that of the
            index unless they say it.
        out: folder to write to.
        batch_size: frames per forward pass.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split, or data that are not for this network.
        DataError: bad data.
    """
    folder = Path(folder)
    trained = read_config(folder / MODEL)
    run = _on(trained, plain) if plain else trained
    if out is None:
        out = folder if run == trained else folder / "applied" / _name(run)
    check_output_folder(out)
    frames = submission_frames(run, split)
    detector, _ = load_detector(folder / MODEL, run.model)
    results = _predict(detector, run, frames, out / f"predictions_{split}", batch_size)
    file = out / f"metrics_{split}.json"
    if not frames.has_annotations:
        with writing(file):
            file.unlink(missing_ok=True)  # it was of other results
        return Applied(run.data.kind, len(frames), results, None, None)
    metrics: dict[str, Any] = lookup("submission", run.data.kind).evaluate(run, frames, results, file)
    return Applied(run.data.kind, len(frames), results, metrics, file)


def _on(trained: RunConfig, plain: Mapping[str, Any]) -> RunConfig:
    run = applied(trained, plain)
    said = plain.get("data") or {}
    if run.data.kind == "nuscenes" and "index" in said and "version" not in said:
        require_index(run.data)
        facts = read_stamp(run.data.index)
        if facts["reader"] == "nuscenes":
            run = replace(run, data=replace(run.data, version=facts["version"]))
    return run


def _name(run: RunConfig) -> str:
    data = {key: value for key, value in to_plain(run.data).items() if key != "range_bins"}  # nothing here reads them
    return f"{Path(run.data.index).name}-{digest([data, to_plain(run.model.decode)])[:8]}"


def evaluate_run(out: Path, split: str, batch_size: int = 8) -> dict[str, Any]:
    """Write `predictions_<split>` (as the benchmark wants it) and `metrics_<split>.json` beside the model.

    Returns:
        The metrics, as `bevkd evaluate` writes them for this kind of data set; none where the split has no labels.

    Raises:
        CheckpointError, ConfigError, DataError: as `predict`.
    """
    return apply_run(Path(out), split, batch_size=batch_size).metrics or {}
