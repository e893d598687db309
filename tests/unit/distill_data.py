"""Synthetic feature contracts, boxes and teachers for the tests of distillation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from bevkd.data.batch import Batch, Boxes, Cameras
from bevkd.data.sample import stack_targets
from bevkd.distill import DistillContext, FeatureSpec
from bevkd.distill.cache import CacheReader
from bevkd.geometry import BEVGrid
from bevkd.models.features import FeatureInfo
from bevkd.models.outputs import REGRESSION, BEVOutputs, CenterOutput, TaskOutput

GRID = BEVGrid(-12.8, -9.6, 0.8, 32, 24)  # not square, to catch exchanged axes
TASKS = (1, 2, 2, 1, 2, 2)
HEAD = (
    *(("car",), ("truck", "construction_vehicle"), ("bus", "trailer")),
    *(("barrier",), ("motorcycle", "bicycle"), ("pedestrian", "traffic_cone")),
)
LOW, HIGH = 6, 8
MAPS = {"lidar": 7, "camera": 4, "radar": 5, "gated.camera": 4, "simulated": 3}  # widths of maps before the fuser
STAGES = ((5, 1), (6, 2), (9, 4))  # widths and strides of the maps inside of the BEV encoder
IMAGE, CAMERAS, LEVELS = (16, 24), 2, (4, 6, 8)  # pixels, cameras, widths of the image backbone's levels


def spec(*sensors: str, low: int = LOW, high: int = HIGH) -> FeatureSpec:
    found = FeatureSpec.of_bev(low, high, sum(TASKS), 11 * len(TASKS), sensors, LEVELS)
    stages = {f"B{k}": FeatureInfo(width, stride, stage="high") for k, (width, stride) in enumerate(STAGES)}
    return replace(found, features={name: FeatureInfo(width) for name, width in MAPS.items()} | found.features | stages)


def make_cameras(batch: int) -> Cameras:
    """Cameras at the ego origin, one looking ahead and one back."""
    ahead = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    back = torch.diag(torch.tensor([-1.0, -1, 1, 1])) @ ahead
    k = torch.tensor([[12.0, 0, 12], [0, 12, 8], [0, 0, 1]])
    poses = torch.stack([ahead, back]).expand(batch, -1, -1, -1)
    images = torch.zeros(batch, CAMERAS, 3, *IMAGE)
    return Cameras(images, k.expand(batch, CAMERAS, 3, 3), poses, torch.eye(3).expand(batch, CAMERAS, 3, 3))


def make_boxes(per_frame: list[int], seed: int = 0, grid: BEVGrid = GRID) -> Boxes:
    g = torch.Generator().manual_seed(seed)
    n = sum(per_frame)
    boxes = torch.zeros(n, 9)
    reach = torch.tensor([grid.x_max, grid.y_max])
    boxes[:, :2] = (torch.rand(n, 2, generator=g) * 2 - 1) * reach * 0.8
    boxes[:, 3:6] = 0.5 + 4 * torch.rand(n, 3, generator=g)
    boxes[:, 6] = (torch.rand(n, generator=g) * 2 - 1) * torch.pi
    labels = torch.randint(0, 10, (n,), generator=g)
    frame = torch.repeat_interleave(torch.arange(len(per_frame)), torch.tensor(per_frame))
    return Boxes(boxes, labels, frame, torch.ones(n))


def make_outputs(batch: int, seed: int = 0, grad: bool = False, grid: BEVGrid = GRID) -> BEVOutputs:
    g = torch.Generator().manual_seed(seed)

    def maps(channels: int, stride: int = 1) -> Tensor:
        size = (grid.H // stride, grid.W // stride)
        return torch.randn(batch, channels, *size, generator=g).requires_grad_(grad)

    heads = [TaskOutput(maps(k), {name: maps(width) for name, width in REGRESSION}) for k in TASKS]
    out = BEVOutputs({"low": maps(LOW), "high": maps(HIGH)}, CenterOutput(heads, tuple(range(10))))
    for k, width in enumerate(LEVELS):
        size = (IMAGE[0] >> (k + 1), IMAGE[1] >> (k + 1))
        level = torch.randn(batch, CAMERAS, width, *size, generator=g).requires_grad_(grad)
        out.features[f"image{k}"] = level
    out.features |= {name: maps(width) for name, width in MAPS.items()}
    out.features |= {f"B{k}": maps(width, stride) for k, (width, stride) in enumerate(STAGES)}
    return out


def leaves(outputs: BEVOutputs) -> list[Tensor]:
    heads = [t for h in outputs.heads for t in (h.heatmap, *h.regression.values())]
    return [
        outputs.low,
        outputs.high,
        *heads,
        *outputs.image,
        *(outputs.feature(name) for name in MAPS),
        *outputs.stages,
    ]


def make_context(per_frame: list[int], seed: int = 0, labelled: list[bool] | None = None) -> DistillContext:
    flags = torch.tensor(labelled if labelled is not None else [True] * len(per_frame))
    count = len(per_frame)
    aug = torch.eye(4).expand(count, 4, 4)
    return DistillContext(GRID, count, make_boxes(per_frame, seed), flags, make_cameras(count), aug)


def make_batch(tokens: list[str], variants: list[int], labelled: list[bool]) -> Batch:
    """Annotations depend on (token, variant) only, as in the data pipeline."""
    parts = [make_boxes([3], seed=100 * int(t[1:]) + v) for t, v in zip(tokens, variants, strict=True)]
    kept = [(i, b) for i, b in enumerate(parts) if labelled[i]]
    boxes = Boxes.empty()
    if kept:
        boxes = Boxes(
            torch.cat([b.boxes for _, b in kept]),
            torch.cat([b.labels for _, b in kept]),
            torch.cat([torch.full((3,), i) for i, _ in kept]),
            torch.cat([b.scores for _, b in kept]),
        )
    aug, cameras = torch.eye(4).expand(len(tokens), 4, 4), make_cameras(len(tokens))
    return Batch(tokens, variants, torch.tensor(labelled), aug, boxes, cameras=cameras)


@dataclass
class Frames:
    """A data set of tokens; a sample is (token, variant, labelled)."""

    tokens: list[str]
    labelled: np.ndarray
    variants: list[int]

    def __len__(self) -> int:
        return len(self.tokens)

    def variant_count(self, i: int) -> int:
        return self.variants[i]

    def get_variant(self, i: int, variant: int) -> tuple[str, int, bool]:
        return self.tokens[i], variant, bool(self.labelled[i])


def collate(samples: list[tuple[str, int, bool]]) -> Batch:
    tokens, variants, labelled = (list(column) for column in zip(*samples, strict=True))
    return make_batch(tokens, variants, labelled)


def with_targets(batch: Batch, reader: CacheReader) -> Batch:
    """A batch as data workers make it: with the targets of its frames."""
    columns = (batch.tokens, batch.variants, batch.labelled_flags)
    parts = [reader.read(*one) for one in zip(*columns, strict=True)]
    return replace(batch, targets=stack_targets(parts))


class ToyTeacher(nn.Module):
    """A network with the interface of a detector whose output depends on (token, variant) and its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.norm = nn.BatchNorm2d(LOW)
        self.grid, self.spec = GRID, spec("lidar")
        self.stages: list[str] = []

    def forward(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        until = until or "heads"
        self.stages.append(until)
        seeds = [1000 * int(t[1:]) + v for t, v in zip(batch.tokens, batch.variants, strict=True)]
        parts = [make_outputs(1, seed) for seed in seeds]

        def cat(maps: list[Tensor]) -> Tensor:
            return torch.cat(maps) * self.scale

        out = BEVOutputs({"low": self.norm(cat([p.low for p in parts]))})
        out.features |= {f"image{k}": cat([p.image[k] for p in parts]) for k in range(len(LEVELS))}
        out.features |= {name: cat([p.feature(name) for p in parts]) for name in MAPS}
        if until != "low":
            out.features["high"] = cat([p.high for p in parts])
            out.features |= {f"B{k}": cat([p.stages[k] for p in parts]) for k in range(len(STAGES))}
        heads = []
        if until not in ("low", "high"):
            for k in range(len(TASKS)):
                regression = {n: cat([p.heads[k].regression[n] for p in parts]) for n, _ in REGRESSION}
                heads.append(TaskOutput(cat([p.heads[k].heatmap for p in parts]), regression))
            out.head_output = CenterOutput(heads, tuple(range(10)))
        return out

    def decode(self, outputs: BEVOutputs) -> Boxes:
        """Two boxes per frame, one above and one below the usual threshold, at places read from the maps."""
        batch = len(outputs.low)
        one = make_boxes([2], seed=5)
        boxes, frame = one.boxes.repeat(batch, 1), torch.arange(batch).repeat_interleave(2)
        boxes[:, 0] += outputs.heatmap_logits()[:, :2, 0, 0].reshape(-1).tanh()
        return Boxes(boxes, one.labels.repeat(batch), frame, torch.tensor([0.9, 0.2] * batch))
