"""What a trained run finds in a split, object by object: for tables and figures that compare two runs.

Of each run as many detections are looked at as the split has annotations, the best-scored ones. A threshold of scores
would not be the same for two detectors, whose scores are calibrated differently: one of them would be shown with more
boxes than the other, and so with more objects found and more false detections at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bevkd.data.batch import Boxes
from bevkd.errors import ConfigError, DataError
from bevkd.eval.centres import MATCHED, Centres, match_best
from bevkd.io import check_output, write_json
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.optim import thread_count
from bevkd.train.predict import forward, test_frames


def centres_of(boxes: Boxes) -> Centres:
    """Boxes of the detectors as they are matched."""
    return Centres(
        frame=boxes.frame.cpu().numpy(),
        label=boxes.labels.cpu().numpy(),
        box=boxes.boxes.double().cpu().numpy(),
        score=boxes.scores.double().cpu().numpy(),
    )


@torch.inference_mode()
def find_matches(out: Path, split: str, file: Path | None = None, batch_size: int = 8) -> tuple[dict[str, Any], Path]:
    """Write `matches_<split>.json` (or `file`) beside the model of the run in `out`.

    Returns:
        The content, and the file: `tokens` of the frames; `annotations` by column, `frame` (index into the tokens),
        `label` (`bevkd.classes.LABELS`), `box` (x, y, z, l, w, h, yaw in the frame's ego frame; m, rad), and
        `detections` by falling score with `score` and `annotation`, the index of what each has found, -1 if it is
        false; `matched`, the largest distance of the two (m), `annotated`, `found` and `false`, counts.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split, or data without boxes in 3D.
        DataError: bad data, or no annotation in the split.
    """
    folder = Path(out)
    file = folder / f"matches_{split}.json" if file is None else Path(file)
    check_output(file)
    detector, run = load_detector(folder / MODEL)
    frames = test_frames(run, split)
    if "objects" in frames.index.facts:
        raise ConfigError(f"run {run.run!r} looks at images with 2D labels: there is nothing in 3D to find")
    found: list[Boxes] = []
    annotated: list[Boxes] = []
    detector.to("cuda" if torch.cuda.is_available() else "cpu")
    with thread_count(run.train.threads):
        for members, batch, outputs in forward(detector, frames, range(len(frames)), batch_size, run.train.precision):
            for boxes, kept in ((detector.decode(outputs), found), (batch.boxes, annotated)):
                kept.append(replace(boxes, frame=boxes.frame + members[0]))
    seen, truth = (centres_of(Boxes.cat(kept)) for kept in (found, annotated))
    if not len(truth):
        raise DataError(f"split {split!r} has no annotated object", file=run.data.index)
    best, annotation = match_best(seen, truth)
    shown = seen.take(best)
    content: dict[str, Any] = {
        "matched": MATCHED,
        "annotated": len(truth),
        "found": int((annotation >= 0).sum()),
        "false": int((annotation < 0).sum()),
        "tokens": list(frames.tokens),
        "annotations": _columns(truth),
        "detections": _columns(shown) | {"score": _rounded(shown.score, 6), "annotation": annotation.tolist()},
    }
    write_json(file, content)
    return content, file


def _columns(of: Centres) -> dict[str, list[Any]]:
    return {"frame": of.frame.tolist(), "label": of.label.tolist(), "box": _rounded(of.box[:, :7], 4)}


def _rounded(values: Any, digits: int) -> Any:
    """Numbers as short text: a tenth of a millimetre is enough."""
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()
