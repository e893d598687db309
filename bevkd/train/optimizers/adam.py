"""Adam (Kingma and Ba, 2015): weight decay, if any, is part of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass

from bevkd.registry import register_settings
from bevkd.train.optimizers.base import STRICT, AdamSettings

if TYPE_CHECKING:
    from torch.optim import Optimizer


@register_settings("optimizer", "adam")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Adam(AdamSettings):
    """Adam."""

    kind: Literal["adam"] = "adam"

    def build(self, groups: list[dict[str, Any]], lr: float, fused: bool) -> Optimizer:
        """The optimiser of parameter groups."""
        from torch import optim

        return optim.Adam(groups, lr=lr, betas=self.betas, fused=fused)
