"""Hard pseudo-boxes: on unlabelled frames the teacher's boxes are heat-map targets, nothing else is transferred.

The strongest simple rival of a soft response: if it does as well, the form of the loss matters little. The teacher's
boxes are those that the engine keeps (score above its threshold), drawn as CenterPoint Gaussians and compared with the
penalty-reduced focal loss of CenterNet (alpha 2, beta 4).
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from bevkd.distill.base import DistillContext, DistillMethod, Targets
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import rank_count
from bevkd.registry import register


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PseudoBoxesConfig:
    """Options: weight of the focal loss, and the Gaussians' overlap and smallest radius (CenterPoint's)."""

    weight: float = 5.0
    min_overlap: float = 0.1
    min_radius: int = 2


@register("method", "pseudo_boxes")
class PseudoBoxes(DistillMethod):
    """Focal loss against the teacher's boxes on unlabelled frames."""

    Config = PseudoBoxesConfig
    config: PseudoBoxesConfig
    reads = frozenset()  # the engine decodes the boxes; no map is read

    def weights(self) -> dict[str, float]:
        """Weight of `pseudo_heatmap`."""
        return {"pseudo_heatmap": self.config.weight}

    @classmethod
    def target_key(cls, config: PseudoBoxesConfig) -> dict[str, Any]:
        """Nothing but the boxes is stored."""
        return {"method": "pseudo_boxes"}

    def targets(self, teacher: BEVOutputs, context: DistillContext) -> Targets:
        """None: the boxes are the target."""
        return {}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`pseudo_heatmap`: zero when the batch has no unlabelled frame."""
        logits, grid, options = student.heatmap_logits().float(), context.grid, self.config
        classes = logits.shape[1]
        boxes = context.boxes.select(~context.labelled[context.boxes.frame])
        size = boxes.boxes[:, 3:5].float() / grid.cell
        radius = gaussian_radius(size[:, 0], size[:, 1], options.min_overlap).floor().long()
        centres = torch.floor(grid.to_cells(boxes.boxes[:, :2].float())).long()
        target = draw_gaussians(
            centres,
            radius.clamp(min=options.min_radius),
            boxes.frame * classes + boxes.labels,
            context.batch_size * classes,
            grid.H,
            grid.W,
            reach_of(grid.cell, options.min_overlap, options.min_radius),
        ).view(context.batch_size, classes, grid.H, grid.W)
        p, peak = torch.sigmoid(logits), target == 1
        positive = (1 - p).square() * F.logsigmoid(logits) * peak
        negative = (1 - target) ** 4 * p.square() * F.logsigmoid(-logits) * ~peak
        frames = ~context.labelled[:, None, None, None]
        total = -((positive + negative) * frames).sum()
        return {"pseudo_heatmap": total / rank_count(peak.sum())}
