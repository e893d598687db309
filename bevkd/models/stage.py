"""What a sensor encoder is: a module from a batch to one BEV map and by-products."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.models.outputs import SparseCells


@dataclass
class SensorFeatures:
    """A BEV map (B, C, H, W) of one sensor, and what distillation may want besides.

    Attributes:
        bev: the map.
        cells: occupied voxels or pillars (LiDAR, radar).
        depth: depth logits (B, N, D, h, w) (camera).
        image: levels of the image backbone (B, N, C, h, w), fine to coarse (camera).
    """

    bev: Tensor
    cells: SparseCells | None = None
    depth: Tensor | None = None
    image: list[Tensor] = field(default_factory=list)


class SensorEncoder(nn.Module):
    """Base class of sensor encoders: built from a `ModelConfig`, `out_channels` known after construction, and those of
    the image backbone's levels if there is one.

    Raises on a batch that lacks the sensor: ValueError.
    """

    out_channels: int
    image_channels: tuple[int, ...] = ()

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: Batch) -> SensorFeatures:
        """Encode the sensor's part of the batch."""
        raise NotImplementedError
