"""Settings of TransFusion's head (UniDistill spec, 8.5), of its loss and of its decoding."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.models.heads.settings import HeadSettings
from bevkd.registry import register_settings

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class QuerySettings:
    """Queries from the heat map, a transformer decoder, Hungarian matching.

    Attributes:
        proposals: queries of a frame.
        channels: width of a query.
        attention_heads: heads of each attention.
        layers: decoder layers.
        feedforward: hidden width of a layer.
        branch_channels: hidden width of the branches that a query is read by.
        dropout: in the decoder.
        class_weight, heatmap_weight, box_weight: weight of this term of the loss.
    """

    proposals: int = Field(default=200, ge=1)
    channels: int = Field(default=128, ge=1)
    attention_heads: int = Field(default=8, ge=1)
    layers: int = Field(default=1, ge=1)
    feedforward: int = Field(default=256, ge=1)
    branch_channels: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    local_max: int = 3  # a query starts where its class's heat is the maximum of this window (cells)
    # Small things stand close together: every cell may start a query of theirs.
    every_cell: tuple[str, ...] = ("pedestrian", "traffic_cone")
    cost: tuple[float, float, float] = (0.15, 0.25, 0.25)  # of matching: class (focal), place (L1), overlap (3D IoU)
    class_weight: float = 1.0
    heatmap_weight: float = 1.0
    box_weight: float = 0.25


@register_settings("head", "transfusion")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TransFusionSettings(HeadSettings):
    """TransFusion's head; all classes are in one heat map, whatever their tasks."""

    kind: str = "transfusion"
    query: QuerySettings = QuerySettings()  # what it looks for, and how


@register_settings("loss", "transfusion")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TransFusionLossSettings:
    """Of the box errors; the weights of the three terms belong to `head.query`.

    Attributes:
        velocity_weight: of the velocity among the box errors.
    """

    velocity_weight: float = 0.2


@register_settings("decode", "transfusion")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TransFusionDecodeSettings:
    """Queries to boxes.

    Attributes:
        score_threshold: detections with a lower score are left out.
        centre_limit: largest |x| and |y| of a centre (m).
        max_boxes: of a frame.
    """

    score_threshold: float = 0.0
    centre_limit: float = 61.2
    max_boxes: int = 500
