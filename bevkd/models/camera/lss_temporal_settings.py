"""Settings of the camera encoder that looks at two sets of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Few
from bevkd.data.reads import CameraPast, Reads
from bevkd.models.camera.lss_settings import LSSSettings
from bevkd.registry import register_settings

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig, ModelConfig


@register_settings("camera_encoder", "lss_temporal")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class TemporalLSSSettings(LSSSettings):
    """BEVDet4D: the settings of `lss`, whose `out_channels` are those of the map of each moment.

    Attributes:
        fusion_blocks: residual blocks on the map of each moment, before they meet.
    """

    kind: Literal["lss_temporal"] = "lss_temporal"  # type: ignore[assignment]
    fusion_blocks: Few = 2

    @property
    def map_channels(self) -> int:
        """Channels of the map of both moments together."""
        return 2 * self.out_channels

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        """What `lss` reads, and earlier images."""
        return super().reads(model, data) | Reads.of(CameraPast(data.past.train, data.past.test))
