"""A detector of 2D boxes in single images: what image backbone and neck of the camera detectors are taught by first.

Its backbone and neck are those of the BEV detectors, under the same names (`camera.backbone`, `camera.neck`), so that
these can start from what it has learnt. It has no BEV maps: nothing is distilled from it or into it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError
from bevkd.models.base import Detector
from bevkd.models.camera.trunk import ImageTrunk
from bevkd.models.features import FeatureInfo, FeatureSpec
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import lookup, register

STAGES = ("low", "heads")


@register("detector", "image2d")
class ImageDetector(Detector):
    """Image backbone, neck, head.

    Raises:
        ConfigError: other sensors than the camera, a head for BEV maps, or settings that do not fit each other.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.sensors != ("camera",) or config.head.kind != "image_center":
            raise ConfigError("model.kind image2d wants sensors: [camera] and head.kind: image_center")
        trunk = ImageTrunk(config)
        self.encoders = nn.ModuleDict({"camera": trunk})
        self._trunk = (trunk,)  # not a module again
        self.head = lookup("head", config.head.kind)(config, trunk.neck.out_channels)
        self.criterion = self.head.criterion()
        neck = FeatureInfo(trunk.neck.out_channels, config.camera.stride, "image")
        self.spec = FeatureSpec(
            features=trunk.levels_info() | {"image_neck": neck} | self.head.features,
            stages=STAGES,
            classes=self.head.classes,
            regression_maps=self.head.regression_maps,
            sensors=("camera",),
        )

    def forward(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        """Features of the images and, unless `until` is low, what the head says."""
        if batch.cameras is None:
            raise ValueError("the batch has no images")
        levels, features = self._trunk[0].image_features(batch.cameras)
        count = batch.cameras.images.shape[:2]
        named: dict[str, Any] = levels | {"image_neck": features.unflatten(0, count)}
        outputs = BEVOutputs(named)
        if until != "low":
            outputs.head_output = self.head(features, batch.cameras)
        return outputs

    def loss(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted `total` and its detached, unweighted terms."""
        losses: dict[str, Tensor] = self.criterion(outputs, batch)
        return losses
