"""Loss of a head with object queries: every annotation is matched with one query by the Hungarian algorithm."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Boxes
from bevkd.geometry import BEVGrid
from bevkd.models.boxcode import decode_size
from bevkd.models.heads.center_settings import CenterSettings
from bevkd.models.layers import full_precision
from bevkd.models.losses import gaussian_heatmap_loss
from bevkd.models.ops.rotated import iou_3d
from bevkd.models.outputs import BEVOutputs, QueryOutput
from bevkd.models.targets import TargetAssigner
from bevkd.ranks import rank_count

_ALPHA, _GAMMA = 0.25, 2.0
_EPS = 1e-12


def query_boxes(code: Tensor, grid: BEVGrid) -> Tensor:
    """Boxes (..., 9) of query codes (..., 10), see `QueryOutput`. Sizes are cut to [1 mm, 30 m]."""
    xy = grid.to_world(code[..., :2])
    size = decode_size(code[..., 3:6])
    yaw = torch.atan2(code[..., 6:7], code[..., 7:8])
    return torch.cat([xy, code[..., 2:3], size, yaw, code[..., 8:10]], dim=-1)


def query_code(boxes: Tensor, grid: BEVGrid) -> Tensor:
    """Codes (n, 10) of boxes (n, 9); the inverse of `query_boxes`."""
    yaw = boxes[:, 6:7]
    return torch.cat(
        [grid.to_cells(boxes[:, :2]), boxes[:, 2:3], boxes[:, 3:6].log(), yaw.sin(), yaw.cos(), boxes[:, 7:9]], dim=1
    )


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal cost (P, M) of calling query i by the class of annotation j."""
    p = torch.sigmoid(logits)[:, labels]
    hit = _ALPHA * (1 - p) ** _GAMMA * -(p + _EPS).log()
    miss = (1 - _ALPHA) * p**_GAMMA * -(1 - p + _EPS).log()
    return hit - miss


def focal_sum(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Sigmoid focal loss (alpha 0.25, gamma 2) of logits (B, P, K) against 0/1 targets, summed over what counts."""
    p = torch.sigmoid(logits)
    cross_entropy = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = torch.where(target > 0, 1 - p, p)
    alpha = torch.where(target > 0, _ALPHA, 1 - _ALPHA)
    return (alpha * wrong**_GAMMA * cross_entropy * counted).sum()


class QueryLoss(nn.Module):
    """`class_weight * focal + heatmap_weight * Gaussian focal + box_weight * L1`, see `head.query`.

    Matching costs: focal class cost, L1 distance of the centres relative to the grid, and minus the 3D IoU. Box and
    class terms are divided by the number of annotations. Annotations count on labelled frames only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid.build()
        names = tuple(name for task in config.head.tasks for name in task)
        # Heat maps are drawn with all classes in one task, as the head predicts them.
        drawn = CenterSettings(
            tasks=(names,), targets="gaussian", min_overlap=config.head.min_overlap, min_radius=config.head.min_radius
        )
        self.assign = TargetAssigner(drawn, self.grid)

    def forward(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """`total` with its graph and the detached, unweighted terms `heatmap, class, box`."""
        with full_precision(outputs.low):
            return self._losses(outputs, batch)

    def _losses(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        settings, queries = self.config.head.query, outputs.queries
        assert queries is not None
        boxes = batch.boxes
        (target,) = self.assign(boxes, len(batch))
        logits = outputs.heads[0].heatmap.float()
        counted = batch.labelled[:, None, None, None].float()
        heatmap = gaussian_heatmap_loss(logits, target.heatmap, counted) / rank_count(target.peaks)
        slot = self._slots(boxes, outputs.class_order)
        frame, query, chosen = self.match(queries, boxes, slot, len(batch))
        count = rank_count(len(chosen), logits.device)
        wanted = torch.zeros_like(queries.logits, dtype=torch.float32)
        wanted[frame, query, slot[chosen]] = 1.0
        named = {
            "heatmap": heatmap,
            "class": focal_sum(queries.logits.float(), wanted, batch.labelled[:, None, None].float()) / count,
            "box": self._boxes(queries.code[frame, query], boxes.boxes[chosen].float()).sum() / count,
        }
        total = (
            settings.heatmap_weight * named["heatmap"]
            + settings.class_weight * named["class"]
            + settings.box_weight * named["box"]
        )
        return {"total": total, **{name: value.detach() for name, value in named.items()}}

    def _boxes(self, code: Tensor, truth: Tensor) -> Tensor:
        """Weighted L1 errors (n, 10); velocities count a fifth, as `loss.velocity_weight` says."""
        weight = code.new_tensor([1.0] * 8 + [self.config.loss.velocity_weight] * 2)
        return (code - query_code(truth, self.grid)).abs() * weight

    @staticmethod
    def _slots(boxes: Boxes, order: tuple[int, ...]) -> Tensor:
        """For each box (M,) the position of its class in `order`, -1 for classes that the head has not."""
        table = torch.full((max(order) + 2,), -1)  # one more, for classes beyond
        table[list(order)] = torch.arange(len(order))
        return table.to(boxes.labels.device)[boxes.labels.clamp(max=len(table) - 1)]

    @torch.no_grad()
    def match(self, queries: QueryOutput, boxes: Boxes, slot: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """One query per annotation: frame (n,), query (n,) and index of the annotation (n,)."""
        found = query_boxes(queries.code.float(), self.grid)
        extent = found.new_tensor([self.grid.W * self.grid.cell, self.grid.H * self.grid.cell])
        by_class, by_place, by_overlap = self.config.head.query.cost
        frames, chosen_queries, chosen_boxes = [], [], []
        for b in range(batch_size):
            member = ((boxes.frame == b) & (slot >= 0)).nonzero().squeeze(1)
            if len(member) == 0:
                continue
            truth = boxes.boxes[member].float()
            cost = by_class * class_cost(queries.logits[b].float(), slot[member])
            cost = cost + by_place * torch.cdist(found[b, :, :2] / extent, truth[:, :2] / extent, p=1)
            cost = cost - by_overlap * iou_3d(found[b, :, None], truth[None])
            rows, columns = linear_sum_assignment(np.nan_to_num(cost.cpu().numpy(), nan=1e6))
            frames.append(torch.full((len(rows),), b, device=found.device))
            chosen_queries.append(torch.from_numpy(rows).to(found.device))
            chosen_boxes.append(member[torch.from_numpy(columns).to(found.device)])
        empty = torch.zeros(0, dtype=torch.long, device=found.device)
        return tuple(torch.cat([empty, *parts]) for parts in (frames, chosen_queries, chosen_boxes))  # type: ignore[return-value]
