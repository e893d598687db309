"""Depth nets: image features to a distribution over depths and a context, by name."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras


class DepthNet(nn.Module):
    """Base class. A subclass takes its settings from `ModelConfig` and is registered as `depth_net`.

    Args:
        in_channels: C of the image features.
        bins: depth bins D; 0 for view transforms that want no depth.
        config: model.
    """

    def __init__(self, in_channels: int, bins: int, config: ModelConfig) -> None:
        super().__init__()

    def forward(self, features: Tensor, cameras: Cameras, bev_aug: Tensor) -> Tensor:
        """Features (B * N, C, h, w) to depth logits and context (B * N, D + out_channels, h, w).

        Args:
            features: of N cameras in B frames.
            cameras: their geometry.
            bev_aug: (B, 4, 4) augmented ego from ego.
        """
        raise NotImplementedError
