"""Plain feature imitation: FitNets (Romero et al., ICLR 2015) in its one-stage form on BEV maps.

    L = sum over taps of mean (r(F_S) - F_T)^2,   r = 1x1 convolution from the student's to the teacher's width

`mask: fg` takes the mean over cells inside boxes only (cells whose centre lies in a box, and the cell of its centre).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Target, Targets
from bevkd.distill.masks import box_mask, cells_of
from bevkd.distill.pairwise import EPS
from bevkd.distill.sampling import gather_cells
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import rank_mean
from bevkd.registry import register


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ImitationConfig:
    """Options of plain feature imitation."""

    weight: float = 1.0
    taps: tuple[Literal["low", "high"], ...] = ("low",)
    mask: Literal["all", "fg"] = "all"


@register("method", "imitation")
class Imitation(DistillMethod):
    """Mean squared error between teacher maps and regressed student maps."""

    Config = ImitationConfig
    config: ImitationConfig

    def __init__(self, config: ImitationConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        if not config.taps or len(set(config.taps)) != len(config.taps):
            raise ConfigError("imitation needs at least one tap, each once")
        self.reads = frozenset(config.taps)
        self.needs_boxes = config.mask == "fg"
        # Linear layers, because a 1x1 convolution can then be applied to whole maps and to gathered cells alike.
        self.regressors = nn.ModuleDict(
            {
                tap: nn.Linear(getattr(student, f"{tap}_channels"), getattr(teacher, f"{tap}_channels"))
                for tap in config.taps
            }
        )

    def weights(self) -> dict[str, float]:
        """One weight for all taps."""
        return {f"imitation_{tap}": self.config.weight for tap in self.config.taps}

    @classmethod
    def target_key(cls, config: ImitationConfig) -> dict[str, Any]:
        """Taps and mask."""
        return {"method": "imitation", "taps": sorted(config.taps), "mask": config.mask}

    def targets(self, teacher: BEVOutputs, context: DistillContext) -> Targets:
        """Per tap the whole map (B, C, H, W), or the foreground cells (n, C) and their indices."""
        if self.config.mask == "all":
            every = torch.arange(context.batch_size, device=context.labelled.device)
            return {tap: Target(getattr(teacher, tap).detach().float(), every) for tap in self.config.taps}
        cell, frame, _ = cells_of(box_mask(context.boxes, context.grid, context.batch_size))
        out: Targets = {"cell": Target(cell, frame)}
        for tap in self.config.taps:
            out[tap] = Target(gather_cells(getattr(teacher, tap), cell, frame).detach(), frame)
        return out

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`imitation_<tap>` for every tap."""
        out: dict[str, Tensor] = {}
        for tap in self.config.taps:
            maps, linear = getattr(student, tap), self.regressors[tap]
            assert isinstance(linear, nn.Linear)
            if self.config.mask == "all":
                mapped = linear(maps.permute(0, 2, 3, 1).float())  # channels last, as the map lies in memory
                out[f"imitation_{tap}"] = F.mse_loss(mapped, targets[tap].values.permute(0, 2, 3, 1))
            else:
                cells = targets["cell"]
                difference = linear(gather_cells(maps, cells.values, cells.frame)) - targets[tap].values
                count = rank_mean(len(difference), maps.device)
                out[f"imitation_{tap}"] = difference.square().sum() / linear.out_features / (count + EPS)
        return out
