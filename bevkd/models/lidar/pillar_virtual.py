"""Pillar encoder of LiDAR points, painted copies of those in 2D masks, and virtual points (DistillBEV spec, 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from bevkd.data.batch import Batch
from bevkd.data.inputs.lidar_virtual import KEY
from bevkd.data.virtual.files import AGE, LABEL, VIRTUAL_POINT
from bevkd.data.virtual.points import SEMANTIC
from bevkd.models.lidar.pillar import PillarEncoder
from bevkd.registry import register


@register("lidar_encoder", "pillar_virtual")
class PillarVirtualEncoder(PillarEncoder):
    """`pillar` on points of 17 numbers. Its input has the age of a point behind the intensity, as `pillar` has: x, y,
    z, intensity, age, ten classes, score, and 1 for virtual points, 0 for all others. LiDAR points have classes and
    score 1.
    """

    def _points(self, batch: Batch) -> tuple[Tensor, Tensor]:
        raw, of_raw = super()._points(batch)
        if KEY not in batch.extra:
            raise ValueError("the batch has no virtual points")
        made, of_made = batch.extra[KEY]["points"], batch.extra[KEY]["frame"]
        unmasked = torch.cat([raw[:, :5], raw.new_ones(len(raw), SEMANTIC), raw.new_zeros(len(raw), 1)], dim=1)
        is_virtual = (made[:, LABEL : LABEL + 1] == VIRTUAL_POINT).to(made.dtype)
        masked = torch.cat([made[:, :4], made[:, AGE : AGE + 1], made[:, 4:LABEL], is_virtual], dim=1)
        return torch.cat([unmasked, masked]), torch.cat([of_raw, of_made])
