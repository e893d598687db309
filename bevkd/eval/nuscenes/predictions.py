"""Detections of a split, read from and written to the official submission format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from bevkd.classes import CLASS_INDEX, CLASSES
from bevkd.data import valid
from bevkd.errors import DataError, nearest
from bevkd.eval.nuscenes.boxes import Boxes, make_boxes
from bevkd.eval.nuscenes.columns import BAD_VALUE, column, matrix
from bevkd.eval.nuscenes.constants import ATTRIBUTE_INDEX, ATTRIBUTES
from bevkd.eval.nuscenes.ground_truth import GroundTruth
from bevkd.eval.nuscenes.jsonio import collector_paused, dumps, read_results
from bevkd.io import atomic_path

DEFAULT_META: dict[str, bool] = {f"use_{source}": False for source in ("camera", "lidar", "radar", "map", "external")}
_FIELDS = (
    "sample_token",
    "translation",
    "size",
    "rotation",
    "velocity",
    "detection_name",
    "detection_score",
    "attribute_name",
)
_get = itemgetter(*_FIELDS)
# Numbers of each field, and the most that one may be.
_BOUNDS = {
    "translation": (3, valid.GLOBAL_M),
    "size": (3, valid.SIZE_M),
    "rotation": (4, valid.GLOBAL_M),
    "velocity": (2, valid.SPEED_M_S),
}
_STRICTER = " (the devkit lets this pass)"
_HUGE = 1e300


@dataclass(frozen=True, slots=True)
class Predictions:
    """Detections of one split in the global frame; the order of `boxes` decides ties between equal scores."""

    boxes: Boxes
    meta: dict[str, Any] = field(default_factory=dict)


def load_predictions(path: str | Path, gt: GroundTruth, max_boxes_per_sample: int = 500) -> Predictions:
    """Read a submission for the frames of `gt`; tokens in `gt.others` are skipped.

    Raises:
        DataError: the file is broken, a frame is missing, unknown or too full, or a box has a value that is missing,
            of the wrong length, not finite (velocities may be NaN), out of its bounds, or not a known name. Where the
            devkit would let it pass, the message says so.
    """
    path = Path(path)
    pieces: list[Boxes] = []
    seen: set[str] = set()

    strangers: list[str] = []

    def consume(results: dict[str, Any]) -> None:
        strangers.extend(token for token in results if token not in gt.index and token not in gt.others)
        results = {token: boxes for token, boxes in results.items() if token in gt.index}
        for token, boxes in results.items():
            if token in seen:
                raise DataError("sample appears twice", file=path, token=token, field="results")
            if not isinstance(boxes, list):
                raise DataError("must be a list of boxes", file=path, token=token, field="results")
            if len(boxes) > max_boxes_per_sample:
                message = f"{len(boxes)} boxes, at most {max_boxes_per_sample} are allowed"
                raise DataError(message, file=path, token=token, field="results")
        seen.update(results)
        try:
            pieces.append(_columns(results, gt.index))
        except BAD_VALUE as error:
            raise _explain(results, gt.index, path) from error

    with collector_paused():
        rest = read_results(path, consume)
    _check_samples(path, gt, seen, strangers)
    if not isinstance(rest.get("meta"), dict):
        raise DataError(
            "must be an object that says what was used: use_camera, use_lidar, ...", file=path, field="meta"
        )
    boxes = Boxes(*(np.concatenate(column) for column in zip(*map(_as_tuple, pieces), strict=True)))
    if gt.others:  # a custom split: the benchmark goes through the frames in table order
        boxes = boxes.take(np.argsort(boxes.frame, kind="stable"))
    return Predictions(boxes, rest["meta"])


def _check_samples(path: Path, gt: GroundTruth, seen: set[str], strangers: list[str]) -> None:
    """A submission has every sample of the split, if without a box, and no other."""
    missing = [token for token in gt.tokens if token not in seen]
    lacks = f"{len(missing)} of {len(gt.tokens)} samples of the split are missing"
    if strangers:
        what = f"{len(strangers)} of {len(strangers) + len(seen)} samples in the file are not in the split"
        what += f", and {lacks}" if missing else ""
        raise DataError(f"{what}; the first that is not", file=path, token=strangers[0], field="results")
    if missing:
        raise DataError(
            f"{lacks} (without a detection they have an empty list)", file=path, token=missing[0], field="results"
        )


def _as_tuple(boxes: Boxes) -> tuple[Any, ...]:
    return tuple(getattr(boxes, name) for name in Boxes.__dataclass_fields__)


def _columns(results: Mapping[str, list[Any]], index: Mapping[str, int]) -> Boxes:
    """The boxes of some frames; raises one of `BAD_VALUE` for any bad box, without saying which."""
    counts = list(map(len, results.values()))
    boxes = list(chain.from_iterable(results.values()))
    rows = list(zip(*map(_get, boxes), strict=True)) or [()] * len(_FIELDS)
    samples, translations, sizes, rotations, velocities, names, scores, attributes = rows
    if list(chain.from_iterable(map(repeat, results, counts))) != list(samples):
        raise ValueError("sample_token differs from the key")
    n = len(boxes)
    columns = make_boxes(
        np.repeat(np.fromiter((index[token] for token in results), np.int64, len(counts)), counts),
        matrix(translations, 3),
        matrix(sizes, 3),
        matrix(rotations, 4),
        matrix(velocities, 2),
        np.fromiter(map(CLASS_INDEX.__getitem__, names), np.int64, n),
        score=column(scores, {int, float}, np.float64),
        attribute=np.fromiter(map(ATTRIBUTE_INDEX.__getitem__, attributes), np.int64, n),
        num_points=column([box.get("num_pts", -1) for box in boxes], {int}, np.int64),
    )
    good = valid.within(columns.translation, valid.GLOBAL_M) & valid.good_sizes(columns.size)
    good &= valid.good_quaternions(columns.rotation, unit=None) & valid.within(columns.score, 1.0, 0.0)
    if not (good & ~(np.abs(columns.velocity) > valid.SPEED_M_S).any(axis=1)).all():
        raise ValueError("not what a box can have")
    return columns


def _explain(results: Mapping[str, list[Any]], index: Mapping[str, int], path: Path) -> DataError:
    """The error for the first bad box of `results`."""
    for token, boxes in results.items():
        for i, box in enumerate(boxes):
            try:
                _columns({token: [box]}, index)
            except BAD_VALUE:
                name, message = _fault(box, token)
                return DataError(f"box {i}: {message}", file=path, token=token, field=name)
    return DataError("a box cannot be read", file=path, field="results")


def _fault(box: Any, token: str) -> tuple[str, str]:
    """Field and complaint of a box that is known to be bad."""
    if not isinstance(box, dict):
        return "results", f"must be an object, not {box!r}"
    for name in _FIELDS:
        if name not in box:
            return name, "field is missing"
    if type(box["sample_token"]) is not str or box["sample_token"] != token:
        return "sample_token", f"{box['sample_token']!r:.80} is not the sample it is listed under{_STRICTER}"
    for name, known in (("detection_name", CLASS_INDEX), ("attribute_name", ATTRIBUTE_INDEX)):
        if not isinstance(box[name], str) or box[name] not in known:
            return name, f"unknown name {box[name]!r:.80}{nearest(str(box[name])[:80], known)}"
    for name, (width, most) in _BOUNDS.items():
        try:
            values = matrix([box[name]], width)
        except BAD_VALUE:
            return name, f"must be {width} numbers, not {box[name]!r:.200}"
        if np.isnan(values).any() and name != "velocity":
            return name, f"must be finite, not {box[name]!r:.200}"
        if (np.abs(values) > most).any():
            what = "finite" if np.isinf(values).any() else f"at most {most:g}"
            return name, f"must be {what}, not {box[name]!r:.200}{_STRICTER}"
        if name == "size" and (values <= 0).any():
            return name, f"must be positive, not {box[name]!r:.200}{_STRICTER}"
        if name == "rotation" and not valid.good_quaternions(values, unit=None)[0]:
            return name, f"must not be zero, not {box[name]!r:.200}{_STRICTER}"
    score = box["detection_score"]
    if type(score) not in (int, float) or not np.isfinite(np.float64(score) if abs(score) < _HUGE else np.inf):
        return "detection_score", f"must be a finite number, not {score!r:.80}"
    if not 0 <= score <= 1:
        return "detection_score", f"must be from 0 to 1, not {score!r:.80}{_STRICTER}"
    return "num_pts", f"must be an integer, not {box.get('num_pts')!r:.80}"


def write_submission(path: str | Path, frames: Mapping[str, Boxes], meta: Mapping[str, Any] | None = None) -> None:
    """Write detections (global frame) by sample token, atomically; every token of the split must be a key.

    Args:
        meta: the sensors used, as `use_camera`, `use_lidar`, ...; those left out count as not used.

    Raises:
        DataError: a value that the format does not allow: not finite, or a size that is not positive.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(b'{"meta": ' + json.dumps(DEFAULT_META | dict(meta or {})).encode() + b', "results": {')
        for i, (token, boxes) in enumerate(frames.items()):
            for name in ("translation", "size", "rotation", "score"):
                values = getattr(boxes, name)
                if not np.isfinite(values).all() or (name == "size" and (values <= 0).any()):
                    raise DataError("detection is not finite or not positive", file=path, token=token, field=name)
            known = bool(np.isfinite(boxes.velocity).all())
            stream.write((b", " if i else b"") + json.dumps(token).encode() + b": ")
            stream.write(dumps(_records(token, boxes), finite=known))
        stream.write(b"}}\n")


def _records(token: str, boxes: Boxes) -> list[dict[str, Any]]:
    names = [*ATTRIBUTES, ""]  # index -1, no attribute, is the last
    columns = zip(
        boxes.translation.tolist(),
        boxes.size.tolist(),
        boxes.rotation.tolist(),
        boxes.velocity.tolist(),
        [CLASSES[i] for i in boxes.label],
        boxes.score.tolist(),
        [names[i] for i in boxes.attribute],
        strict=True,
    )
    return [dict(zip(_FIELDS, (token, *values), strict=True)) for values in columns]
