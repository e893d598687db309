"""What every optimiser can be told, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Decay, Share
from bevkd.config.training import ParameterGroup

if TYPE_CHECKING:
    from torch.optim import Optimizer

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerSettings:
    """Base of the settings of an optimiser.

    Attributes:
        weight_decay: of all parameters that no group says otherwise of.
        no_decay: kinds of parameters without weight decay: `norm`, vectors that scale channels, and `bias`.
        groups: parameters with a rate or decay of their own.
    """

    weight_decay: Share = 0.0
    no_decay: tuple[Literal["norm", "bias"], ...] = ()
    groups: tuple[ParameterGroup, ...] = ()

    def build(self, groups: list[dict[str, Any]], lr: float, fused: bool) -> Optimizer:
        """The optimiser of parameter groups (`params`, `weight_decay`).

        Args:
            groups: as torch wants them.
            lr: learning rate until the schedule sets it.
            fused: whether a fused kernel may be used, where there is one.
        """
        raise NotImplementedError

    def set_momentum(self, group: dict[str, Any], dip: float) -> None:
        """Lower the momentum of a group by `dip`."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdamSettings(OptimizerSettings):
    """Adam and its like; beta1 is the momentum."""

    betas: tuple[Decay, Decay] = (0.9, 0.999)  # decay of the mean gradient and of its square

    def set_momentum(self, group: dict[str, Any], dip: float) -> None:
        """Lower beta1 by `dip`."""
        group["betas"] = (self.betas[0] - dip, group["betas"][1])
