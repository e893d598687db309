"""AdamW (Loshchilov and Hutter, 2019): weight decay apart from the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Share
from bevkd.registry import register_settings
from bevkd.train.optimizers.base import STRICT, AdamSettings

if TYPE_CHECKING:
    from torch.optim import Optimizer


@register_settings("optimizer", "adamw")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdamW(AdamSettings):
    """AdamW."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: Share = 0.01

    def build(self, groups: list[dict[str, Any]], lr: float, fused: bool) -> Optimizer:
        """The optimiser of parameter groups."""
        from torch import optim

        return optim.AdamW(groups, lr=lr, betas=self.betas, fused=fused)
