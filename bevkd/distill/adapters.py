"""Adaptation layers between student and teacher maps; training only, dropped at inference."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AdapterConfig:
    """Form of an adapter. `auto` switches it on only where the teacher is weaker: camera teacher, LiDAR student."""

    enabled: bool | Literal["auto"] = "auto"
    kernel: int = 3
    norm: Literal["bn", "none"] = "bn"
    act: Literal["relu", "none"] = "relu"


class Adapter(nn.Sequential):
    """Convolution (+ batch norm) (+ ReLU) in float32, whatever the precision of the student."""

    def __init__(self, config: AdapterConfig, inputs: int, outputs: int) -> None:
        normed = config.norm == "bn"
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, config.kernel, padding=config.kernel // 2, bias=not normed)
        ]
        if normed:
            layers.append(nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01))
        if config.act == "relu":
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C_student, H, W) -> (B, C_teacher, H, W)."""
        return super().forward(maps.float())
