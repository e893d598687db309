"""Image necks: levels of the backbone to one map, by name."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import NormConfig


class ImageNeck(nn.Module):
    """Base class. A subclass is registered as `image_neck`.

    Args:
        channels: of the levels, fine to coarse.
        strides: of the levels (pixels of the image).
        stride: of the map that it makes.
        width: `camera.neck_channels`.
        norm: batch norms, if it has any.

    Attributes:
        out_channels: of the map that it makes.

    Raises:
        ConfigError: strides that do not fit.
    """

    out_channels: int

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], stride: int, width: int, norm: NormConfig
    ) -> None:
        super().__init__()

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels (M, C_i, h_i, w_i), fine to coarse, to (M, out_channels, *size)."""
        raise NotImplementedError
