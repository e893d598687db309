"""Settings of TransFusion's head (UniDistill spec, 8.5), of its loss and of its decoding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import DISTINCT, KNOWN_CLASSES, Length, Odd, Score, Some, Weight, Width, Words
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

    proposals: Annotated[int, Field(ge=1, le=100_000)] = 200
    channels: Width = 128
    attention_heads: Some = 8
    layers: Some = 1
    feedforward: Width = 256
    branch_channels: Width = 64
    dropout: float = Field(default=0.1, ge=0, lt=1)
    local_max: Odd = 3  # a query starts where its class's heat is the maximum of this window (cells)
    # Small things stand close together: every cell may start a query of theirs.
    every_cell: Annotated[tuple[Words, ...], KNOWN_CLASSES, DISTINCT] = ("pedestrian", "traffic_cone")
    cost: tuple[Weight, Weight, Weight] = (0.15, 0.25, 0.25)  # of matching: class (focal), place (L1), overlap (3D IoU)
    class_weight: Weight = 1.0
    heatmap_weight: Weight = 1.0
    box_weight: Weight = 0.25


@register_settings("head", "transfusion")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TransFusionSettings(HeadSettings):
    """TransFusion's head; all classes are in one heat map, whatever their tasks."""

    kind: Literal["transfusion"] = "transfusion"
    query: QuerySettings = QuerySettings()  # what it looks for, and how


@register_settings("loss", "transfusion")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TransFusionLossSettings:
    """Of the box errors; the weights of the three terms belong to `head.query`.

    Attributes:
        velocity_weight: of the velocity among the box errors.
    """

    velocity_weight: Weight = 0.2


@register_settings("decode", "transfusion")
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TransFusionDecodeSettings:
    """Queries to boxes.

    Attributes:
        score_threshold: detections with a lower score are left out.
        centre_limit: largest |x| and |y| of a centre (m).
        max_boxes: of a frame.
    """

    score_threshold: Score = 0.0
    centre_limit: Length = 61.2
    max_boxes: Annotated[int, Field(ge=1, le=100_000)] = 500
