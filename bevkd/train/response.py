"""How the heat maps of a trained run look around objects: what UniDistill's Figures S2 and S3 show, as numbers.

The figures show the mean over all response maps, and the text says of them that distillation suppresses the background
and makes the borders of objects clearer. Regression maps mean nothing where there is no object, so that the numbers are
made from the best class score of each cell: its mean in the background and in the border of objects, relative to the
mean on objects. The text concludes that there will be fewer false positives; these are counted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.data.batch import Boxes
from bevkd.distill.masks import box_mask
from bevkd.errors import DataError
from bevkd.eval.centres import match_best
from bevkd.geometry import BEVGrid
from bevkd.io import check_output, write_json
from bevkd.train.checkpoint import MODEL, load_detector
from bevkd.train.matches import centres_of
from bevkd.train.optim import thread_count
from bevkd.train.predict import forward, test_frames

BORDER = 2  # cells around an object that are neither object nor background
PARTS = ("object", "border", "background")


def heat_by_part(heat: Tensor, boxes: Boxes, grid: BEVGrid) -> tuple[Tensor, Tensor]:
    """Sums (3,) of a map of scores over objects, their borders and the background, and how many cells these are (3,).

    Args:
        heat: (B, H, W).
        boxes: annotations.
        grid: of the map.
    """
    inside = box_mask(boxes, grid, len(heat))
    near = F.max_pool2d(inside[:, None], 2 * BORDER + 1, stride=1, padding=BORDER)[:, 0]
    parts = torch.stack([inside, near - inside, 1 - near]).double()
    return (parts * heat.double()).sum((1, 2, 3)), parts.sum((1, 2, 3))


def false_share(found: Boxes, annotated: Boxes) -> float:
    """How many of the best-scored detections, as many as there are annotations, are false (0 to 1).

    See `bevkd.eval.centres.match_best`.

    Args:
        found: detections, at least as many as annotations, or all of them are looked at; `frame` counts over all
            frames.
        annotated: annotations of the same frames, at least one.
    """
    _, taken = match_best(centres_of(found), centres_of(annotated))
    return float((taken < 0).mean()) if len(taken) else 0.0


@torch.inference_mode()
def measure_response(out: Path, split: str, file: Path, batch_size: int = 8) -> dict[str, float]:
    """Measure the model of the run in `out` on a split and write the findings to `file`.

    Returns:
        Mean scores on `object`, `border` and `background` cells of all frames, in [0, 1], and the last two relative to
        the first: `border_ratio`, `background_ratio`. And `false_share`, with the numbers of `detections` and
        `annotations` that it is made of.

    Raises:
        CheckpointError: there is no usable model.
        ConfigError: no such split.
        DataError: bad data, or no annotation in the split.
    """
    check_output(file)
    detector, run = load_detector(Path(out) / MODEL)
    frames = test_frames(run, split)
    total, count = torch.zeros(2, 3, dtype=torch.double)
    found: list[Boxes] = []
    annotated: list[Boxes] = []
    detector.to("cuda" if torch.cuda.is_available() else "cpu")
    with thread_count(run.train.threads):
        for members, batch, outputs in forward(detector, frames, range(len(frames)), batch_size, run.train.precision):
            heat = outputs.heatmaps().float().sigmoid().amax(1)
            heats, cells = heat_by_part(heat, batch.boxes, detector.grid)
            total, count = total + heats.cpu(), count + cells.cpu()
            for boxes, kept in ((detector.decode(outputs), found), (batch.boxes, annotated)):
                kept.append(replace(boxes, frame=boxes.frame + members[0]))
    if not count[0]:
        raise DataError(f"split {split!r} has no annotated object", file=run.data.index)
    mean = dict(zip(PARTS, (total / count.clamp(min=1)).tolist(), strict=True))
    content = mean | {f"{part}_ratio": mean[part] / mean["object"] for part in PARTS[1:]}
    best, truth = Boxes.cat(found), Boxes.cat(annotated)
    content |= {"false_share": false_share(best, truth), "detections": len(best), "annotations": len(truth)}
    write_json(file, content)
    return content
