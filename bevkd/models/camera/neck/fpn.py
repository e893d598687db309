"""Image neck `fpn`: feature pyramid network (arXiv 1612.03144) of which the finest level is read, as in BEVDet."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate

from bevkd.config.schema import NormConfig
from bevkd.errors import ConfigError
from bevkd.models.camera.neck.base import ImageNeck
from bevkd.registry import register


@register("image_neck", "fpn")
class FPN(ImageNeck):
    """Each level through a 1x1 convolution to `neck_channels`; from the coarsest to the finest, what came before is
    enlarged (nearest neighbour) and added; a 3x3 convolution on the finest. No norms, no activations.

    Which levels there are, the backbone says (`backbone.options.out_features`); BEVDet has C4 and C5.

    Raises:
        ConfigError: the finest level has another stride than `camera.stride`.
    """

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], stride: int, width: int, norm: NormConfig
    ) -> None:
        super().__init__(channels, strides, stride, width, norm)
        if strides[0] != stride:
            raise ConfigError(
                f"camera.stride {stride}: neck 'fpn' ends at the finest level of the backbone, of stride {strides[0]}"
                " (camera.backbone.options.out_features says which there are)"
            )
        self.lateral = nn.ModuleList(nn.Conv2d(c_in, width, 1) for c_in in channels)
        self.out = nn.Conv2d(width, width, 3, padding=1)
        self.out_channels = width

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels to (M, neck_channels, h, w)."""
        (*finer, top), (*convolutions, first) = levels, self.lateral
        merged: Tensor = first(top)
        for level, lateral in zip(reversed(finer), reversed(convolutions), strict=True):
            merged = lateral(level) + interpolate(merged, size=level.shape[-2:], mode="nearest")
        out: Tensor = self.out(merged)
        return out
