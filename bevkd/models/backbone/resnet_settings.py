"""Settings of the ResNet backbone."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.models.backbone.settings import BackboneSettings
from bevkd.registry import register_settings


@register_settings("image_backbone", "resnet")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ResNetSettings(BackboneSettings):
    """ResNet-50 by default."""

    hub_name: ClassVar[str] = "microsoft/resnet-50"

    kind: Literal["resnet"] = "resnet"
