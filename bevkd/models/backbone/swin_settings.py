"""Settings of the Swin backbone."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.models.backbone.settings import BackboneSettings
from bevkd.registry import register_settings


@register_settings("image_backbone", "swin")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SwinSettings(BackboneSettings):
    """Swin-T by default."""

    hub_name: ClassVar[str] = "microsoft/swin-tiny-patch4-window7-224"

    kind: Literal["swin"] = "swin"
