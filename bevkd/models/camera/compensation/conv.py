"""A plain 3x3 convolution in the place of a compensation module (SimDistill spec, 3.2): an ablation."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.models.camera.compensation.base import Compensation
from bevkd.models.camera.compensation.conv_settings import ConvSettings
from bevkd.registry import register


@register("compensation", "conv")
class ConvCompensation(Compensation):
    """Map plus its 3x3 convolution. The source does not say whether there is a shortcut; with one, as the other kinds
    have it, what differs between kinds is where they read, and nothing else.
    """

    def __init__(self, settings: ConvSettings, channels: int) -> None:
        super().__init__(settings, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """See `Compensation.forward`."""
        return maps + self.conv(maps)
