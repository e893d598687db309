"""A detector: sensor encoders -> fuser -> BEV encoder -> head, each looked up by name."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch, Boxes
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs, FeatureSpec, SparseCells
from bevkd.models.stage import SensorFeatures
from bevkd.registry import lookup

Until = Literal["low", "high", "heads"]


class Detector(nn.Module):
    """LiDAR, camera or fusion detector.

    Attributes:
        config: what it was built from.
        grid: grid of all its dense BEV maps.
        spec: channel counts and sensors, for distillation.

    Raises:
        ConfigError: unknown stage names, no sensor, or settings that do not fit each other.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not config.sensors or len(set(config.sensors)) != len(config.sensors):
            raise ConfigError("model.sensors must name each sensor once")
        self.config = config
        self.grid = config.grid.build()
        self.encoders = nn.ModuleDict()
        for sensor in config.sensors:
            settings = getattr(config, sensor, None)
            if settings is None:
                raise ConfigError(f"model.sensors: there is no encoder for {sensor!r} yet")
            self.encoders[sensor] = lookup(f"{sensor}_encoder", settings.kind)(config)
        widths = [encoder.out_channels for encoder in self.encoders.values()]
        self.fuser = lookup("fuser", config.fuser.kind)(config, widths) if len(widths) > 1 else None
        low: int = widths[0] if self.fuser is None else self.fuser.out_channels  # type: ignore[assignment]
        self.bev = lookup("bev_encoder", config.bev.kind)(config, low)
        self.head = lookup("head", config.head.kind)(config, self.bev.out_channels)
        self.criterion = self.head.criterion()
        self.spec = FeatureSpec(
            low_channels=low,
            high_channels=self.bev.out_channels,
            classes=len(self.head.class_order),
            regression_maps=self.head.regression_maps,
            sensors=tuple(config.sensors),
            image_channels=sum((tuple(e.image_channels) for e in self.encoders.values()), ()),  # type: ignore[arg-type]
        )

    def forward(self, batch: Batch, until: Until = "heads") -> BEVOutputs:
        """Run the pipeline as far as `until`; maps beyond it are empty tensors, heads an empty list."""
        features = {sensor: encoder(batch) for sensor, encoder in self.encoders.items()}
        low = self._fuse([f.bev for f in features.values()])
        outputs = BEVOutputs(
            low=low,
            high=low.new_empty(0),
            heads=[],
            class_order=self.head.class_order,
            sensors={sensor: f.bev for sensor, f in features.items()},
            image=features["camera"].image if "camera" in features else [],
            depth=_depth(features),
            cells=_cells(features),
        )
        if until in ("high", "heads"):
            outputs.high, outputs.stages = self.bev(low)
        if until == "heads":
            outputs.heads, outputs.queries = self.head(outputs.high)
        return outputs

    def loss(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted `total` and its detached, unweighted terms, as the head's criterion defines them."""
        losses: dict[str, Tensor] = self.criterion(outputs, batch)
        return losses

    def decode(self, outputs: BEVOutputs) -> Boxes:
        """Boxes with scores, flat and sorted by frame."""
        boxes: Boxes = self.head.decode(outputs)
        return boxes

    def _fuse(self, maps: list[Tensor]) -> Tensor:
        return maps[0] if self.fuser is None else self.fuser(maps)


def _depth(features: dict[str, SensorFeatures]) -> Tensor | None:
    return features["camera"].depth if "camera" in features else None


def _cells(features: dict[str, SensorFeatures]) -> SparseCells | None:
    return features["lidar"].cells if "lidar" in features else None


def build_detector(model: ModelConfig) -> Detector:
    """A detector with fresh weights (image backbone as configured).

    Raises:
        ConfigError: see `Detector`.
    """
    return Detector(model)
