"""What one run finds and rejects that another does not, and the opposite, from what `bevkd matches` wrote of both.

Of each run as many detections are looked at as the split has annotations. Objects are gained that the one run finds and
the other has missed; lost, the other way round. False detections are the same where they are of one class and lie
within the distance of a match; rejected are those that the other run has alone, added are those of the one run alone.
Since both show equally many detections, gained minus lost is rejected minus added: one number says who is better, and
each kind alone says nothing without its opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.classes import LABELS
from bevkd.errors import DataError
from bevkd.eval.centres import Centres, pair_nearest
from bevkd.eval.nuscenes.boxes import Ints
from bevkd.report.runs import Runs

_SAME = 1e-3  # metres or radians by which equal annotations may differ in two files


@dataclass(frozen=True)
class Matches:
    """What a run finds in a split.

    Attributes:
        file: where it stands.
        tokens: of the frames.
        annotations: A of them, without scores.
        detections: by falling score.
        annotation: for each detection the index of what it has found, -1: it is false.
        finder: (A,) for each annotation the index of the detection that has found it, -1: it is missed.
        distance: between the centres of the two at most (m).
    """

    file: Path
    tokens: list[str]
    annotations: Centres
    detections: Centres
    annotation: Ints
    finder: Ints
    distance: float

    @property
    def false(self) -> Ints:
        """Indices of the false detections."""
        return np.flatnonzero(self.annotation < 0)


@dataclass(frozen=True)
class Events:
    """How two runs differ in the same frames; indices into what they were made from.

    Attributes:
        gained, lost: annotations that the one run, or the other, finds alone.
        rejected: false detections of the other run that the one has not.
        added: false detections of the one run that the other has not.
    """

    gained: Ints
    lost: Ints
    rejected: Ints
    added: Ints


def read_matches(runs: Runs, run: str, seed: int, split: str) -> Matches:
    """What a run and seed finds.

    Args:
        runs: the finished runs.
        run: which of them.
        seed: of that run.
        split: `report` or `tune`.

    Raises:
        DataError: the file is missing, or not what `bevkd matches` writes; the message names file and field.
    """
    content, file = runs.read("matches", run, seed, split)
    where = "content"
    try:
        where = "tokens"
        tokens = [str(token) for token in content["tokens"]]
        if len(set(tokens)) != len(tokens):
            raise ValueError("a token is given twice")
        where = "annotations"
        annotations = _centres(content["annotations"], len(tokens))
        where = "detections"
        detections = _centres(content["detections"], len(tokens))
        score = np.asarray(content["detections"]["score"], dtype=np.float64)
        annotation = np.asarray(content["detections"]["annotation"])
        whole = annotation.dtype.kind == "i" or annotation.size == 0
        if score.shape != (len(detections),) or annotation.shape != score.shape or not whole:
            raise ValueError("columns differ in length, or an annotation is no whole number")
        taken = annotation[annotation >= 0].astype(np.int64)
        if not np.isfinite(score).all() or (annotation < -1).any() or (taken >= len(annotations)).any():
            raise ValueError("a score that is not finite, or an annotation that there is not")
        if len(set(taken.tolist())) != len(taken):
            raise ValueError("an annotation is found twice")
        where = "matched"
        distance = float(content["matched"])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise DataError(f"not what `bevkd matches` writes: {error}", file=file, field=where) from None
    finder = np.full(len(annotations), -1)
    finder[taken] = np.flatnonzero(annotation >= 0)
    detections = Centres(detections.frame, detections.label, detections.box, score)
    return Matches(file, tokens, annotations, detections, annotation.astype(np.int64), finder, distance)


def _centres(columns: Any, frames: int) -> Centres:
    """Boxes by column; ValueError and the like where they are none."""
    frame, label = (np.asarray(columns[name]) for name in ("frame", "label"))
    box = np.asarray(columns["box"], dtype=np.float64).reshape(-1, 7)
    if not len(frame) == len(label) == len(box):
        raise ValueError("columns differ in length")
    for name, values, end in (("frame", frame, frames), ("label", label, len(LABELS))):
        if values.size and (values.dtype.kind != "i" or values.min() < 0 or values.max() >= end):
            raise ValueError(f"a {name} that there is not")
    if not np.isfinite(box).all():
        raise ValueError("a box that is not finite")
    return Centres(frame.astype(np.int64), label.astype(np.int64), box, np.zeros(len(box)))


def compare(mine: Matches, other: Matches) -> Events:
    """How a run differs from another one.

    Raises:
        DataError: they are of other frames or annotations.
    """
    check_same(mine, other)
    found, theirs = mine.finder >= 0, other.finder >= 0
    added, rejected = mine.false, other.false
    partner = pair_nearest(mine.detections.take(added), other.detections.take(rejected), mine.distance)
    alone = np.ones(len(rejected), dtype=bool)
    alone[partner[partner >= 0]] = False
    return Events(np.flatnonzero(found & ~theirs), np.flatnonzero(theirs & ~found), rejected[alone], added[partner < 0])


def check_same(mine: Matches, other: Matches) -> None:
    """Whether two runs were looked at in the same frames and by the same annotations.

    Raises:
        DataError: they were not; it names one of the files, and the first frame at fault.
    """
    if mine.tokens != other.tokens:
        raise DataError(f"other frames than in {mine.file}", file=other.file, field="tokens")
    a, b = mine.annotations, other.annotations
    n = min(len(a), len(b))
    same = (a.frame[:n] == b.frame[:n]) & (a.label[:n] == b.label[:n])
    same &= np.abs(a.box[:n] - b.box[:n]).max(axis=1, initial=0) <= _SAME
    if not same.all() or len(a) != len(b):
        at = int(np.argmin(same)) if not same.all() else n
        frame = (a if len(a) > at else b).frame[at]
        message = f"other annotations than in {mine.file}: do both runs read the same classes and areas?"
        raise DataError(message, file=other.file, token=mine.tokens[frame], field="annotations")
    if mine.distance != other.distance:
        raise DataError(f"matched by another distance than {mine.file}", file=other.file, field="matched")


def counts(mine: Matches, other: Matches) -> dict[str, float]:
    """How many events of each kind there are; errors as of `compare`."""
    found = compare(mine, other)
    return {
        "objects_gained": len(found.gained),
        "objects_lost": len(found.lost),
        "false_rejected": len(found.rejected),
        "false_added": len(found.added),
    }
