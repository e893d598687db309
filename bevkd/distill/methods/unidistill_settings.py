"""Options of UniDistill, and what it taps."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import ClipEpsilon, Factor, Few, Share, Weight
from bevkd.distill.adapter_settings import AdapterConfig
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap
from bevkd.distill.taps.cells import CellIndex, CellValues, CellWeight, GaussianMask
from bevkd.distill.taps.heads import Response
from bevkd.distill.taps.maps import PooledMap, WholeMap
from bevkd.distill.taps.points import NineCosines, NinePoints
from bevkd.registry import register_settings

_STRICT = ConfigDict(extra="forbid")
Points = Literal["nine", "complete", "gaussian"]
Level = Literal["low", "high"]


@dataclass(frozen=True, config=_STRICT)
class FeatureConfig:
    """Feature loss: where the maps are compared (`nine` crucial points, every cell, cells under the mask).

    Attributes:
        enabled: in use.
        points: nine crucial points of each box, every cell, or cells under the Gaussian mask.
        level: map before (`low`) or after (`high`) the BEV encoder.
    """

    enabled: bool = True
    points: Points = "nine"
    level: Level = "low"


@dataclass(frozen=True, config=_STRICT)
class RelationConfig:
    """Relation loss; `complete` pools the map to at most 45 cells a side, `gaussian` takes the cells of one frame.

    Attributes:
        enabled: in use.
        points: nine crucial points of each box, the pooled map, or cells under the Gaussian mask.
        level: map before (`low`) or after (`high`) the BEV encoder.
    """

    enabled: bool = True
    points: Points = "nine"
    level: Level = "high"


@dataclass(frozen=True, config=_STRICT)
class ResponseConfig:
    """Response loss and the Gaussian mask, which the `gaussian` variants of the other losses share.

    Attributes:
        enabled: in use.
        student_temperature: what the student's logits are divided by.
        student_eps: clip of the student's scores.
        min_overlap: of the mask: IoU that a box within the radius of a Gaussian still has.
        min_radius: of the mask's Gaussians (cells).
    """

    enabled: bool = True
    teacher_temperature: Factor = 2.0  # the code halves the teacher's logits only
    student_temperature: Factor = 1.0
    teacher_eps: ClipEpsilon | None = None  # clip of the teacher's scores; none: 1e-3 on path L+C -> C, else 1e-4
    student_eps: ClipEpsilon = 1e-4
    min_overlap: Share = 0.7
    min_radius: Few = 0


@dataclass(frozen=True, config=_STRICT)
class WeightConfig:
    """Weights of the losses; none: the paper's for this path; 0 switches a loss off.

    Attributes:
        feature, relation, response: none: the paper's.
    """

    feature: Weight | None = None
    relation: Weight | None = None
    response: Weight | None = None


@register_settings("method", "unidistill")
@dataclass(frozen=True, config=_STRICT)
class UniDistillConfig(MethodSettings):
    """Options of UniDistill with the paper's defaults.

    Attributes:
        weights: of the three losses.
        feature: feature loss.
        relation: relation loss.
        response: response loss, and the Gaussian mask.
        adapter: layers between the student's features and the teacher's.
        legacy_transpose: sample with x and y exchanged, as the public code does.
    """

    weights: WeightConfig = WeightConfig()
    feature: FeatureConfig = FeatureConfig()
    relation: RelationConfig = RelationConfig()
    response: ResponseConfig = ResponseConfig()
    adapter: AdapterConfig = AdapterConfig()
    legacy_transpose: bool = False

    @property
    def on(self) -> frozenset[str]:
        """The losses in use."""
        parts = ("feature", "relation", "response")
        return frozenset(n for n in parts if getattr(self, n).enabled and getattr(self.weights, n) != 0)

    @property
    def needs_boxes(self) -> bool:
        """Where the taps do."""
        return False

    def taps(self) -> dict[str, Tap]:
        """Per box samples (N, 9, C) and cosines (N, 9, 9); per cell of the mask (n, 1 + maps); or whole maps.

        Features and relations under the mask are those of its cells alone: adapters normalise over them, and a relation
        among all cells of a map would be too much. So these cells have to be counted.
        """
        parts = {name: getattr(self, name) for name in sorted(self.on - {"response"})}
        counted = any(part.points == "gaussian" for part in parts.values())
        mask = GaussianMask(self.response.min_overlap, self.response.min_radius, counted)
        out: dict[str, Tap] = {}
        if counted or "response" in self.on:
            out |= {"mask_cell": CellIndex(cells=mask), "mask_weight": CellWeight(cells=mask)}
        for name, part in parts.items():
            relation = name == "relation"
            if part.points == "complete":
                out[name] = PooledMap(part.level) if relation else WholeMap(part.level)
            elif part.points == "gaussian":
                out[name] = CellValues(part.level, mask)
            else:
                out[name] = (NineCosines if relation else NinePoints)(part.level, self.legacy_transpose)
        if "response" in self.on:
            out["response"] = Response(cells=mask)
        return out
