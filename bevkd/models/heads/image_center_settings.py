"""Settings of the head that finds objects in single images, of its loss and of its decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Few, Score, Share, Stride, Weight, Width
from bevkd.data.reads import Objects, Reads
from bevkd.models.heads.settings import HeadSettings
from bevkd.registry import register_settings

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig, ModelConfig

_STRICT = ConfigDict(extra="forbid")


@register_settings("head", "image_center")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ImageCenterSettings(HeadSettings):
    """CenterNet's head on image features. Tasks are only a list of classes here.

    Attributes:
        channels: of its hidden convolution.
        fineness: cells of the heat maps along the side of a cell of the neck.
        classes_fineness: the same of the class of each pixel; 0: not learnt.
    """

    kind: Literal["image_center"] = "image_center"
    min_overlap: Share = 0.5
    min_radius: Few = 0
    channels: Width = 64
    fineness: Stride = 2
    classes_fineness: Annotated[int, Field(ge=0, le=64)] = 2

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        """2D labels of the images, and a label map where the class of each pixel is learnt."""
        return Reads.of(Objects(model.camera.stride // self.classes_fineness if self.classes_fineness else 0))


@register_settings("loss", "image_center")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ImageCenterLossSettings:
    """Loss of 2D boxes and of the class of each pixel.

    Attributes:
        heatmap_weight: of the heat maps (focal).
        size_weight: of the logarithms of width and height (L1).
        offset_weight: of the place within a cell (L1, cells).
        classes_weight: of the class of each pixel (cross-entropy).
    """

    heatmap_weight: Weight = 1.0
    size_weight: Weight = 0.5
    offset_weight: Weight = 0.5
    classes_weight: Weight = 1.0


@register_settings("decode", "image_center")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ImageCenterDecodeSettings:
    """Heat maps to 2D boxes: local maxima of 3 x 3 cells.

    Attributes:
        top_k: boxes of an image.
        score_threshold: detections with a lower score are left out.
    """

    top_k: Annotated[int, Field(ge=1, le=100_000)] = 100
    score_threshold: Score = 0.02
