"""Hard pseudo-boxes: on unlabelled frames the teacher's boxes are heat-map targets, nothing else is transferred.

The strongest simple rival of a soft response: if it does as well, the form of the loss matters little. The teacher's
boxes are those that the engine keeps (score above its threshold), drawn as CenterPoint Gaussians and compared with the
penalty-reduced focal loss of CenterNet (alpha 2, beta 4).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bevkd.distill.base import DistillContext, DistillMethod, Targets
from bevkd.distill.methods.pseudo_boxes_settings import PseudoBoxesConfig
from bevkd.geometry.gaussian import draw_gaussians, gaussian_radius, reach_of
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import rank_count
from bevkd.registry import register


@register("method", "pseudo_boxes")
class PseudoBoxes(DistillMethod):
    """Focal loss against the teacher's boxes on unlabelled frames."""

    Settings = PseudoBoxesConfig
    config: PseudoBoxesConfig

    def weights(self) -> dict[str, float]:
        """Weight of `pseudo_heatmap`."""
        return {"pseudo_heatmap": self.config.weight}

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
