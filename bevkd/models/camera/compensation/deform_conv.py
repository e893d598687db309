"""Compensation by modulated deformable convolutions (SimDistill spec, 3.2; an alternative in the released code)."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.models.camera.compensation.base import Compensation
from bevkd.models.camera.compensation.deform_conv_settings import DeformConvSettings
from bevkd.models.ops.deform import DeformConv
from bevkd.registry import register


@register("compensation", "deform_conv")
class DeformConvCompensation(Compensation):
    """Map plus two 3x3 deformable convolutions of it with a ReLU between: on BEV maps of one width throughout, on
    images through fewer channels (`hidden`). In float32.
    """

    def __init__(self, settings: DeformConvSettings, channels: int) -> None:
        super().__init__(settings, channels)
        hidden = settings.hidden or channels
        self.net = nn.Sequential(DeformConv(channels, hidden), nn.ReLU(inplace=True), DeformConv(hidden, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """See `Compensation.forward`."""
        return maps + self.net(maps)
