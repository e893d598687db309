"""A BEV detector: sensor encoders -> fuser -> BEV encoder -> head, each looked up by name."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError
from bevkd.models.base import Detector
from bevkd.models.features import BEV_STAGES, FeatureSpec
from bevkd.models.fuser.base import Fuser, SingleMap
from bevkd.models.layers import full_precision
from bevkd.models.outputs import BEVOutputs
from bevkd.models.stage import SensorEncoder
from bevkd.registry import lookup, register


@register("detector", "bev")
class BEVDetector(Detector):
    """LiDAR, camera, radar or fusion detector.

    Attributes:
        fused: names of the maps that its fuser reads, in order.

    Raises:
        ConfigError: unknown stage names, no sensor, or settings that do not fit each other.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if not config.sensors or len(set(config.sensors)) != len(config.sensors):
            raise ConfigError("model.sensors must name each sensor once")
        self.encoders = nn.ModuleDict()
        for sensor in config.sensors:
            self.encoders[sensor] = lookup(f"{sensor}_encoder", config.encoder(sensor).kind)(config)
        encoders = self._encoders()
        maps = {name: e.features[name].channels for e in encoders for name in e.fused}
        self.fused = tuple(maps)
        strides = {e.features[name].stride for e in encoders for name in e.fused}
        if config.finer > 1 and (len(maps) > 1 or strides != {1 / config.finer}):
            raise ConfigError(f"bev.finer: {config.finer}: pillars of LiDAR alone make such a map")
        self.fuser: Fuser
        if len(maps) > 1:
            self.fuser = lookup("fuser", config.fuser.kind)(config, maps)
        else:
            self.fuser = SingleMap(config, maps, encoders[0].activations.get(self.fused[0]))
        self.bev = lookup("bev_encoder", config.bev.kind)(config, self.fuser.features["low"].channels)
        self.head = lookup("head", config.head.kind)(config, self.bev.features["high"].channels)
        self.criterion = self.head.criterion()
        self.spec = FeatureSpec(
            features=self._collect([*encoders, self.fuser, self.bev, self.head]),
            stages=BEV_STAGES,
            classes=self.head.classes,
            regression_maps=self.head.regression_maps,
            sensors=tuple(config.sensors),
        )

    def _encoders(self) -> list[SensorEncoder]:
        return [encoder for encoder in self.encoders.values() if isinstance(encoder, SensorEncoder)]

    def forward(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        """Run the pipeline as far as `until`: low, high or (default) heads."""
        outputs = BEVOutputs({})
        for encoder in self.encoders.values():
            made = encoder(batch)
            outputs.features |= made.maps | made.others
        fused = self.fuser({name: outputs.features[name] for name in self.fused})
        outputs.features |= {"low": fused.low} | fused.maps
        if until != "low":
            outputs.features |= self.bev(fused.low)
        if until not in ("low", "high"):
            outputs.head_output = self.head.in_units(self.head(outputs.high), batch)
        outputs.features |= self._exposed()
        return outputs

    def loss(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted `total` and its detached, unweighted terms: those of the head's criterion, then of the encoders."""
        losses: dict[str, Tensor] = dict(self.criterion(outputs, batch))
        with full_precision(outputs.low):
            for encoder in self._encoders():
                weights = encoder.loss_weights()
                for name, term in encoder.losses(outputs.features, batch).items():
                    losses["total"] = losses["total"] + weights[name] * term
                    losses[name] = term.detach()
        return losses
