"""MonoDistill (Chong et al., ICLR 2022) for surround cameras, UniDistill's competitor in Table S2 (spec, 8.4).

The teacher is the student's own camera detector with LiDAR depths in place of the pixels (`camera.input: lidar`). Both
losses compare levels of the image backbones, the last three by default (strides 8, 16, 32 at the published size):

    L_feat = sum over levels of the mean over frames of the mean over cells of 0.5 * mean_c (F_S - F_T)^2
    L_aff  = sum over levels of mean |A_S - A_T|,   A = F^T F over the cells of one image at the coarsest level's size

Cells of L_feat are those that the rectangle of a box touches and where the teacher's feature is not zero. The student's
levels pass a top-down fusion with learnt gates and a small adapter; both are dropped at inference. The third loss, on
the outputs of the BEV head, is UniDistill's response loss: add it with the method `combine`.

The public code is for one KITTI image per frame; how the authors of UniDistill carried it to six cameras is not known.
Here rectangles are hulls of projected 3D boxes, and a student starts from the same fresh weights as its baseline.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.image_boxes import image_cells
from bevkd.distill.methods.monodistill_settings import MonoDistillConfig
from bevkd.distill.pairwise import affinity
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import register


class TopDownFusion(nn.Module):
    """Levels mixed from coarse to fine: each cell weighs its own feature against that of the coarser level."""

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.gates = nn.ModuleList(nn.Conv2d(2 * channels, 2, 1) for _ in widths[1:])
        self.leave = nn.ModuleList(nn.Conv2d(channels, width, 3, padding=1) for width in widths)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Levels (M, C, h, w), fine to coarse, to fused ones of the same shapes."""
        above: Tensor | None = None
        out: list[Tensor] = []
        for k in reversed(range(len(levels))):
            own = self.enter[k](levels[k])
            if above is not None:
                above = F.interpolate(above, size=own.shape[-2:], mode="nearest")
                gate = torch.sigmoid(self.gates[k](torch.cat([own, above], dim=1)))
                own = own * gate[:, :1] + above * gate[:, 1:]
            above = own
            out.append(self.leave[k](own))
        return out[::-1]


@register("method", "monodistill")
class MonoDistill(DistillMethod):
    """Features and affinities of image-view levels."""

    Settings = MonoDistillConfig
    config: MonoDistillConfig

    def __init__(self, config: MonoDistillConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        count = config.levels
        self.student_widths, self.teacher_widths = student.image_channels[-count:], teacher.image_channels[-count:]
        if min(len(self.student_widths), len(self.teacher_widths)) < count:
            raise ConfigError(f"monodistill compares {count} image levels; student and teacher need as many")
        self.fusion = TopDownFusion(self.student_widths, config.channels)
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, a, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(a, b, 1))
            for a, b in zip(self.student_widths, self.teacher_widths, strict=True)
        )

    def weights(self) -> dict[str, float]:
        """One weight per loss, for all levels."""
        return {"image_feature": self.config.feature, "image_affinity": self.config.affinity}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`image_feature` and `image_affinity`."""
        levels = student.image[-self.config.levels :]
        b, n = levels[0].shape[:2]
        fused = self.fusion([level.flatten(0, 1).float() for level in levels])
        feature, pairs = levels[0].new_zeros((), dtype=torch.float32), []
        smallest = levels[-1].shape[-2:]
        for k, (level, adapter) in enumerate(zip(fused, self.adapters, strict=True)):
            adapted = adapter(level)
            cells = targets[f"cell{k}"]
            own = image_cells(adapted.unflatten(0, (b, n)), cells.values, cells.frame)
            error = 0.5 * (own - targets[f"feature{k}"].values).square().mean(dim=1)
            count = torch.bincount(cells.frame, minlength=b).clamp(min=1)
            feature = feature + (error / count[cells.frame]).sum() / b
            wanted = targets[f"affinity{k}"].values.flatten(0, 1)
            pairs.append((affinity(adapted, (smallest[0], smallest[1])) - wanted).abs().mean())
        return {"image_feature": feature, "image_affinity": torch.stack(pairs).sum()}
