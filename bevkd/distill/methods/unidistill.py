"""UniDistill: "A Universal Cross-Modality Knowledge Distillation Framework for 3D Object Detection in BEV", CVPR 2023.

Three losses near boxes: features at nine crucial points of `low` (eq. 3), cosine relations among the same points of
`high` (eqs. 4-5), response maps under a Gaussian mask (eqs. 6-7). On unlabelled frames the teacher's boxes stand in.

Deviations from the public code: the points are sampled on the object (the code exchanges x and y; `legacy_transpose`
reproduces that), path C -> L has the adapters of the paper (absent in the code, whose draft of them has 3x3 kernels;
here they have 1x1), boxes are a flat list (the code pads with zero boxes, which become real ones), and the teacher's
batch norm stays in eval mode.

Deviation from the paper: by default an adapter works at the points that the losses read: its convolution, which is
linear, gives there what sampling its output would, but batch statistics are those of the points, and the ReLU comes
after the sampling (`adapter.where: map` adapts the whole map first, at several times the cost).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, cast

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from bevkd.distill.adapters import Adapter, AdapterConfig
from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Target, Targets
from bevkd.distill.masks import cells_of, gaussian_mask
from bevkd.distill.pairwise import cell_relation, cosine_matrix, map_relation, per_box, pool_to, weighted
from bevkd.distill.sampling import gather_cells, read_points
from bevkd.errors import ConfigError, DataError
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import register

_STRICT = ConfigDict(extra="forbid")
Points = Literal["nine", "complete", "gaussian"]
Level = Literal["low", "high"]
L, C, LC = frozenset({"lidar"}), frozenset({"camera"}), frozenset({"lidar", "camera"})
# (teacher, student) -> weights of feature, relation, response: the four paths of the paper.
PATH_WEIGHTS: dict[tuple[frozenset[str], frozenset[str]], tuple[float, float, float]] = {
    (LC, L): (10, 1, 10),
    (LC, C): (10, 5, 10),
    (C, L): (10, 5, 1),
    (L, C): (100, 40, 10),
}


@dataclass(frozen=True, config=_STRICT)
class FeatureConfig:
    """Feature loss: where the maps are compared (`nine` crucial points, every cell, cells under the mask)."""

    enabled: bool = True
    points: Points = "nine"
    level: Level = "low"


@dataclass(frozen=True, config=_STRICT)
class RelationConfig:
    """Relation loss; `complete` pools the map to at most 45 cells a side, `gaussian` takes the cells of one frame."""

    enabled: bool = True
    points: Points = "nine"
    level: Level = "high"


@dataclass(frozen=True, config=_STRICT)
class ResponseConfig:
    """Response loss and the Gaussian mask, which the `gaussian` variants of the other losses share."""

    enabled: bool = True
    teacher_temperature: float = 2.0  # the code halves the teacher's logits only
    student_temperature: float = 1.0
    teacher_eps: float | None = None  # clip of the teacher's scores; none: 1e-3 on path L+C -> C, else 1e-4
    student_eps: float = 1e-4
    min_overlap: float = 0.7
    min_radius: int = 0


@dataclass(frozen=True, config=_STRICT)
class WeightConfig:
    """Weights of the losses; none: the paper's for this path; 0 switches a loss off."""

    feature: float | None = None
    relation: float | None = None
    response: float | None = None


@dataclass(frozen=True, config=_STRICT)
class UniDistillConfig:
    """Options of UniDistill with the paper's defaults."""

    weights: WeightConfig = WeightConfig()
    feature: FeatureConfig = FeatureConfig()
    relation: RelationConfig = RelationConfig()
    response: ResponseConfig = ResponseConfig()
    adapter: AdapterConfig = AdapterConfig()
    legacy_transpose: bool = False


def path_weights(config: WeightConfig, teacher: FeatureSpec, student: FeatureSpec) -> dict[str, float]:
    """Weights of `feature`, `relation` and `response` for a pair of networks.

    Raises:
        ConfigError: a weight is left open and the paper has no such path.
    """
    path = (frozenset(teacher.sensors), frozenset(student.sensors))
    paper = dict(zip(("feature", "relation", "response"), PATH_WEIGHTS.get(path, (None,) * 3), strict=True))
    weights: dict[str, float] = {}
    for name, default in paper.items():
        value = getattr(config, name)
        value = default if value is None else value
        if value is None:
            names = "+".join(sorted(path[0])), "+".join(sorted(path[1]))
            raise ConfigError(f"UniDistill has no path {names[0]} -> {names[1]}: set weights.{name} in the options")
        weights[name] = float(value)
    return weights


@register("method", "unidistill")
class UniDistill(DistillMethod):
    """Feature, relation and response distillation near boxes."""

    Config = UniDistillConfig
    config: UniDistillConfig

    def __init__(self, config: UniDistillConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        self._weights = path_weights(config.weights, teacher, student)
        parts: dict[str, FeatureConfig | RelationConfig | ResponseConfig] = {
            "feature": config.feature,
            "relation": config.relation,
            "response": config.response,
        }
        self.on = {name for name, part in parts.items() if part.enabled and self._weights[name] != 0}
        if not self.on:
            raise ConfigError("UniDistill with every loss switched off")
        points = {getattr(parts[name], "points", "gaussian") for name in self.on}
        self.masked = "gaussian" in points
        self.needs_boxes = points != {"complete"}
        levels = {name: part.level for name, part in (("feature", config.feature), ("relation", config.relation))}
        self.reads = frozenset("heads" if name == "response" else levels[name] for name in self.on)
        path = (frozenset(teacher.sensors), frozenset(student.sensors))
        eps = config.response.teacher_eps
        self.teacher_eps = eps if eps is not None else (1e-3 if path == (LC, C) else 1e-4)
        adapt = path == (C, L) if config.adapter.enabled == "auto" else config.adapter.enabled
        self.adapters = nn.ModuleDict()
        for name in sorted(self.on - {"response"}):
            inputs, outputs = (getattr(spec, f"{levels[name]}_channels") for spec in (student, teacher))
            if adapt:
                self.adapters[name] = Adapter(config.adapter, inputs, outputs)
            elif name == "feature" and inputs != outputs:
                raise ConfigError(
                    f"student map {levels[name]!r} has {inputs} channels, the teacher's {outputs}: enable the adapter"
                )
        if "response" in self.on and not teacher.regression_maps:
            raise ConfigError("the teacher's head has no regression maps: set response: {enabled: false}")
        if "response" in self.on and (student.regression_maps, student.classes) != (
            teacher.regression_maps,
            teacher.classes,
        ):
            raise ConfigError("UniDistill's response loss needs the same head in teacher and student")

    def weights(self) -> dict[str, float]:
        """The paper's path weights unless overridden; both response terms share one."""
        terms = {"feature": ("feature",), "relation": ("relation",), "response": ("response_cls", "response_reg")}
        return {term: self._weights[name] for name in sorted(self.on) for term in terms[name]}

    @classmethod
    def for_cache(cls, config: UniDistillConfig) -> UniDistillConfig:
        """All losses on: rows that differ in weights or in the losses they use share one cache. The response is left
        as it is, because some heads have none.
        """
        return replace(
            config,
            weights=WeightConfig(1, 1, 1),
            feature=replace(config.feature, enabled=True),
            relation=replace(config.relation, enabled=True),
        )

    @classmethod
    def target_key(cls, config: UniDistillConfig) -> dict[str, Any]:
        """Points, levels, mask and axis order; temperatures and clips act later."""
        return {
            "method": "unidistill",
            "response": config.response.enabled,
            "feature": [config.feature.points, config.feature.level],
            "relation": [config.relation.points, config.relation.level],
            "mask": [config.response.min_overlap, config.response.min_radius],
            "legacy_transpose": config.legacy_transpose,
        }

    def _nine(self, maps: Tensor, context: DistillContext, adapter: Adapter | None = None) -> Tensor:
        legacy = self.config.legacy_transpose
        if adapter is not None and adapter.config.where == "read":
            return adapter.points(maps, context.plan(maps, adapter.config.kernel, legacy))
        return read_points(maps if adapter is None else adapter(maps), context.plan(maps, 1, legacy)).squeeze(2)

    def targets(self, teacher: BEVOutputs, context: DistillContext) -> Targets:
        """Per box: samples (N, 9, C) and cosines (N, 9, 9); per cell of the mask: (n, 1 + maps); or whole maps. Where
        `context.compact` is off, the response has all cells, those outside of the mask with weight 0.
        """
        out: Targets = {}
        every = torch.arange(context.batch_size, device=context.labelled.device)
        response = self.config.response
        if self.masked:
            mask = gaussian_mask(
                context.boxes, context.grid, context.batch_size, response.min_overlap, response.min_radius
            )
            # Features and relations are those of the masked cells alone: adapters normalise over them, and a relation
            # among all cells of a map would be too much. So these have to be counted.
            counted = any(getattr(self.config, name).points == "gaussian" for name in self.on - {"response"})
            cell, frame, weight = cells_of(mask, every=not (context.compact or counted))
            out["mask_cell"], out["mask_weight"] = Target(cell, frame), Target(weight, frame)
        for name in sorted(self.on - {"response"}):
            part: FeatureConfig | RelationConfig = getattr(self.config, name)
            maps = getattr(teacher, part.level)
            if part.points == "complete":
                out[name] = Target(pool_to(maps) if name == "relation" else maps.float(), every)
            elif part.points == "gaussian":
                out[name] = Target(gather_cells(maps, cell, frame), frame)
            else:
                points = self._nine(maps, context)
                out[name] = Target(cosine_matrix(points) if name == "relation" else points, context.boxes.frame)
        if "response" in self.on:
            # The maximum over classes commutes with temperature, sigmoid and clip, so it is kept as a logit.
            logit = gather_cells(teacher.heatmaps(), cell, frame).amax(1, keepdim=True)
            regression = gather_cells(teacher.regression_maps(), cell, frame)
            out["response"] = Target(torch.cat([logit, regression], 1), frame)
        return {name: Target(t.values.detach(), t.frame) for name, t in out.items()}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`feature`, `relation`, `response_cls`, `response_reg`, as far as they are switched on."""
        out: dict[str, Tensor] = {}
        sampled: dict[str, Tensor] = {}  # nine-point samples by map, when both losses read the same one
        for name in sorted(self.on - {"response"}):
            part: FeatureConfig | RelationConfig = getattr(self.config, name)
            maps, teacher = getattr(student, part.level), targets[name].values
            adapter = cast(Adapter, self.adapters[name]) if name in self.adapters else None
            if part.points == "complete":
                whole = maps.float() if adapter is None else adapter(maps)
                out[name] = (
                    map_relation(teacher, pool_to(whole)) if name == "relation" else (teacher - whole).abs().mean()
                )
            elif part.points == "gaussian":
                cell, frame = targets["mask_cell"].values, targets["mask_cell"].frame
                s = gather_cells(maps, cell, frame) if adapter is None else adapter.cells(maps, cell, frame)
                out[name] = (
                    cell_relation(teacher, s, frame, context.batch_size)
                    if name == "relation"
                    else weighted(teacher - s, targets["mask_weight"].values)
                )
            else:
                if len(teacher) != len(context.boxes):
                    raise DataError(f"{len(teacher)} teacher targets for {len(context.boxes)} boxes", field=name)
                key = part.level if adapter is None else f"adapted {name}"
                s = sampled[key] if key in sampled else self._nine(maps, context, adapter)
                sampled[key] = s
                out[name] = per_box(teacher - (cosine_matrix(s) if name == "relation" else s))
        if "response" in self.on:
            out |= self._response(student, targets)
        return out

    def _response(self, student: BEVOutputs, targets: Targets) -> dict[str, Tensor]:
        cells, weight = targets["mask_cell"], targets["mask_weight"].values
        options, teacher = self.config.response, targets["response"].values
        logit = gather_cells(student.heatmaps(), cells.values, cells.frame).amax(1, keepdim=True)
        q_s = torch.sigmoid(logit / options.student_temperature).clamp(options.student_eps, 1 - options.student_eps)
        q_t = torch.sigmoid(teacher[:, :1] / options.teacher_temperature)
        q_t = q_t.clamp(self.teacher_eps, 1 - self.teacher_eps)
        regression = gather_cells(student.regression_maps(), cells.values, cells.frame)
        return {
            "response_cls": weighted(q_t - q_s, weight),
            "response_reg": weighted(teacher[:, 1:] - regression, weight),
        }
