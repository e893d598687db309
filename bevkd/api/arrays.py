"""Detections and annotations as plain arrays by frame, made what the evaluators read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bevkd.api.detections import Detections
from bevkd.api.numbers import numbers
from bevkd.classes import CLASSES, LABEL_INDEX, LABELS
from bevkd.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from bevkd.eval.nuscenes import Boxes, DetectionConfig

Frames: TypeAlias = Mapping[str, Detections | Mapping[str, Any]]


def _detections(results: Frames, where: str = "results") -> dict[str, Detections]:
    return {frame: Detections.of(one, f"{where}[{frame!r}]") for frame, one in results.items()}


def _pairs(results: Frames, truth: Frames) -> tuple[dict[str, Detections], dict[str, Detections]]:
    """Detections and annotations of the same frames, in the order of the annotations.

    Raises:
        DataError: a frame of one has none of the other.
    """
    if not isinstance(truth, Mapping) or not truth:
        raise ConfigError("truth: wants a mapping of frames to their boxes and names")
    found, known = _detections(results), _detections(truth, "truth")
    for frame in known:
        if frame not in found:
            raise DataError("frame of the truth has no results; one without detections has empty arrays", token=frame)
    for frame in found:
        if frame not in known:
            raise DataError("results of a frame that has no truth", token=frame)
    return {frame: found[frame] for frame in known}, known


def _extra(truth: Frames, frame: str, name: str, count: int) -> Any:
    """An optional array of a frame's annotations, or None."""
    plain = truth[frame]
    value = plain.get(name) if isinstance(plain, Mapping) else None
    if value is None:
        return None
    where = f"truth[{frame!r}]: {name}"
    if name == "attributes":
        value = [value] if isinstance(value, str) or not hasattr(value, "__len__") else value
        if not all(isinstance(one, str) for one in value):
            raise ConfigError(f"{where}: wants a list of names, '' for none")
    else:
        value = np.atleast_1d(numbers(where, value, np.int64, "an integer for each box"))
    if len(value) != count:
        raise ConfigError(f"truth[{frame!r}]: {count} boxes want as many {name}, got {len(value)}")
    return value


def _check_classes(frames: Mapping[str, Detections], where: str, benchmark: str, labels: set[int]) -> None:
    """Whether the benchmark has all classes.

    Raises:
        ConfigError: it has not; the message names the frame.
    """
    for frame, one in frames.items():
        if others := sorted({*one.labels.tolist()} - labels):
            known = ", ".join(LABELS[label] for label in sorted(labels))
            raise ConfigError(
                f"{where}[{frame!r}]: {LABELS[others[0]]!r} is no class of {benchmark}, which has: {known}"
            )


def _frame_numbers(frames: Mapping[str, Detections]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(frames)), [len(one) for one in frames.values()])


def nuscenes_metrics(results: Frames, truth: Frames, config: DetectionConfig) -> dict[str, Any]:
    """Content of `metrics.json`, computed in the ego frames, where every error is what it is in the global frame.

    Raises:
        ConfigError: an array that is no good, a class of another benchmark, or too many boxes.
        DataError: frames that do not belong together.
    """
    from bevkd.eval.nuscenes import GroundTruth, Predictions, evaluate
    from bevkd.eval.nuscenes.causes import oddities
    from bevkd.eval.summary import with_frames
    from bevkd.train.submissions.nuscenes import attributes

    found, known = _pairs(results, truth)
    for where, frames in (("results", found), ("truth", known)):
        _check_classes(frames, where, "nuScenes", set(range(len(CLASSES))))
    for frame, one in found.items():
        if len(one) > config.max_boxes_per_sample:
            most = config.max_boxes_per_sample
            raise DataError(f"{len(one)} boxes, at most {most} are allowed", token=frame, field="results")
    points: list[NDArray[Any]] = []
    said: list[str] = []
    for frame, one in known.items():
        counted, names = (_extra(truth, frame, name, len(one)) for name in ("num_points", "attributes"))
        points.append(np.full(len(one), -1) if counted is None else np.asarray(counted))
        said += [""] * len(one) if names is None else [str(name) for name in names]
    if not any(len(one) for one in known.values()):
        raise DataError("no frame of the truth has a box", field="truth")
    annotations = _nuscenes_boxes(known, num_points=np.concatenate(points), attribute=[_attribute(a) for a in said])
    detections = _nuscenes_boxes(found, score=np.concatenate([one.scores for one in found.values()]))
    moving = attributes(detections.label, np.nan_to_num(detections.velocity))
    racks = annotations.take(np.zeros(0, dtype=np.int64))  # a two-wheeler inside one would not count
    ground_truth = GroundTruth(tuple(known), np.zeros((len(known), 3)), annotations, racks)
    detections = replace(detections, attribute=moving)
    metrics = evaluate(ground_truth, Predictions(detections), config)
    return with_frames(metrics.summary(), len(known), oddities(ground_truth, detections, config, metrics))


def _nuscenes_boxes(frames: Mapping[str, Detections], **columns: Any) -> Boxes:
    from bevkd.eval.nuscenes import make_boxes
    from bevkd.geometry import quaternion_from_yaw

    every = np.concatenate([one.boxes for one in frames.values()]).astype(np.float64)
    labels = np.concatenate([one.labels for one in frames.values()])
    size = every[:, [4, 3, 5]]  # nuScenes stores width, length, height
    place, turn, velocity = every[:, :3], quaternion_from_yaw(every[:, 6]), every[:, 7:9]
    return make_boxes(_frame_numbers(frames), place, size, turn, velocity, labels, **columns)


def _attribute(name: str) -> int:
    from bevkd.eval.nuscenes.constants import ATTRIBUTE_INDEX, NO_ATTRIBUTE

    if name and name not in ATTRIBUTE_INDEX:
        raise ConfigError(f"truth: unknown attribute {name!r}{nearest(name, ATTRIBUTE_INDEX)}")
    return ATTRIBUTE_INDEX[name] if name else NO_ATTRIBUTE


def frame_name(token: str, root: Path) -> str:
    """The name of a KITTI frame's files, of which its token in an index is that with the folder before it."""
    if not isinstance(token, str):
        raise ConfigError(f"frames of KITTI have the names of their files, such as '000123', not {token!r}")
    return token.removeprefix(f"{root.name}/")


def kitti_results(results: Frames, root: Path, folder: Path) -> None:
    """Write KITTI's result files.

    Args:
        results: by frame, the name of its files, or the token of an index, such as `training/000123`.
        root: the folder that holds `calib` and the images.
        folder: new, for the files.

    Raises:
        ConfigError: an array that is no good.
        DataError: a calibration is missing, or an image is bad.
    """
    import torch

    from bevkd.data.batch import Boxes
    from bevkd.data.kitti import read_calibration
    from bevkd.data.kitti.convert import CAMERA, size_or_guess
    from bevkd.train.submissions.kitti import result_lines

    if not results:
        raise ConfigError("results: wants a mapping of frames to their boxes, scores and names; it is empty")
    if not (root / "calib").is_dir():
        at = f"; give {root / 'training'}" if (root / "training" / "calib").is_dir() else ""
        raise DataError(f"wants the folder that holds calib, {CAMERA} and label_2{at}", file=root)
    folder.mkdir()
    found = _detections(results)
    for token, one in found.items():
        frame = frame_name(token, root)
        labels, scores = torch.from_numpy(one.labels), torch.from_numpy(one.scores)
        boxes = Boxes(torch.from_numpy(np.nan_to_num(one.boxes)), labels, torch.zeros_like(labels), scores)
        calibration = read_calibration(root / "calib" / f"{frame}.txt", frame)
        lines = result_lines(boxes, calibration, size_or_guess(root / CAMERA / f"{frame}.png", frame, calibration))
        (folder / f"{frame}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def waymo_sets(results: Frames, truth: Frames) -> dict[str, NDArray[Any]]:
    """The arrays that `bevkd evaluate waymo` reads.

    Raises:
        ConfigError: an array that is no good, a class of another benchmark, or an annotation without a difficulty.
        DataError: frames that do not belong together.
    """
    from bevkd.eval.waymo import TYPES

    types = {LABEL_INDEX[name.lower()]: number for name, number in TYPES.items()}
    found, known = _pairs(results, truth)
    sets: dict[str, NDArray[Any]] = {}
    for part, where, frames in (("pred", "results", found), ("gt", "truth", known)):
        _check_classes(frames, where, "Waymo", {*types})
        labels = np.concatenate([one.labels for one in frames.values()])
        sets[f"{part}_box"] = np.concatenate([one.boxes[:, :7] for one in frames.values()])
        sets[f"{part}_type"] = np.array([types[label] for label in labels.tolist()], dtype=np.int64)
        sets[f"{part}_frame"] = _frame_numbers(frames)
    sets["pred_score"] = np.concatenate([one.scores for one in found.values()])
    sets["pred_nlz"] = np.zeros(len(sets["pred_box"]), dtype=bool)
    levels = []
    for frame, one in known.items():
        level = _extra(truth, frame, "difficulty", len(one))
        if level is None and len(one):
            raise ConfigError(f"truth[{frame!r}]: Waymo wants the difficulty of every box, 1 or 2")
        if level is not None and not np.isin(level, (1, 2)).all():
            raise ConfigError(
                f"truth[{frame!r}]: a difficulty is 1 or 2; 0 (unknown) becomes 2 where a box holds at most 5 points,"
                " else 1"
            )
        levels.append(np.asarray([] if level is None else level, dtype=np.int64))
    return sets | {"gt_difficulty": np.concatenate(levels)}
