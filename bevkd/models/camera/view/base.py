"""View transforms: from the images to the BEV grid, by name."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras


class ViewTransform(nn.Module):
    """Base class. A subclass takes its settings from `ModelConfig` and is registered as `view_transform`.

    Attributes:
        bins: depth bins D that it wants of the depth net; 0 if it wants no depth.
        geometries: how many geometries it is asked for in turn: what it makes of one may be kept until it comes again.

    Raises:
        ConfigError: settings that do not fit.
    """

    bins: int = 0
    geometries: int = 1

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = config.grid.build()

    def share_geometry(self, other: ViewTransform) -> None:
        """What either makes of a geometry, the other one uses: for two of the same settings that look at the same
        images. Nothing by default.
        """

    def forward(self, mixed: Tensor, cameras: Cameras, bev_aug: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the depth net gives to a BEV map (B, out_channels, H, W), signed, and depth logits (B, N, D, h, w).

        Args:
            mixed: (B * N, D + out_channels, h, w) depth logits, if any, and context.
            cameras: geometry of N cameras in B frames.
            bev_aug: (B, 4, 4) augmented ego from ego.
        """
        raise NotImplementedError
