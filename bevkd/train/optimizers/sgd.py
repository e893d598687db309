"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Decay
from bevkd.registry import register_settings
from bevkd.train.optimizers.base import STRICT, OptimizerSettings

if TYPE_CHECKING:
    from torch.optim import Optimizer


@register_settings("optimizer", "sgd")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class SGD(OptimizerSettings):
    """SGD; weight decay is part of the gradient.

    Attributes:
        momentum: of the gradient.
        nesterov: look ahead.
    """

    kind: Literal["sgd"] = "sgd"
    momentum: Decay = 0.9
    nesterov: bool = False

    def build(self, groups: list[dict[str, Any]], lr: float, fused: bool) -> Optimizer:
        """The optimiser of parameter groups."""
        from torch import optim

        return optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused)

    def set_momentum(self, group: dict[str, Any], dip: float) -> None:
        """Lower the momentum by `dip`."""
        group["momentum"] = max(0.0, self.momentum - dip)
