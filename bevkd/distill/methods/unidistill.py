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

How much each of these changes: docs/deviations.md.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bevkd.distill.adapters import Adapter
from bevkd.distill.base import Compared, DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.methods.unidistill_settings import FeatureConfig, RelationConfig, UniDistillConfig, WeightConfig
from bevkd.distill.pairwise import cell_relation, cosine_matrix, map_relation, per_box, pool_to, weighted
from bevkd.distill.sampling import gather_cells, read_points
from bevkd.errors import ConfigError, DataError
from bevkd.models.outputs import BEVOutputs
from bevkd.registry import register

L, C, LC = frozenset({"lidar"}), frozenset({"camera"}), frozenset({"lidar", "camera"})
# (teacher, student) -> weights of feature, relation, response: the four paths of the paper.
PATH_WEIGHTS: dict[tuple[frozenset[str], frozenset[str]], tuple[float, float, float]] = {
    (LC, L): (10, 1, 10),
    (LC, C): (10, 5, 10),
    (C, L): (10, 5, 1),
    (L, C): (100, 40, 10),
}


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

    Settings = UniDistillConfig
    config: UniDistillConfig

    def __init__(self, config: UniDistillConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        self._weights = path_weights(config.weights, teacher, student)
        self.on = config.on
        if not self.on:
            raise ConfigError("UniDistill with every loss switched off")
        levels = {"feature": config.feature.level, "relation": config.relation.level}
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

    def compared(self) -> tuple[Compared, ...]:
        """One for each loss in use."""
        taps = self.taps()
        return tuple(Compared(name, taps[name].feature, taps[name].feature) for name in sorted(self.on))

    def weights(self) -> dict[str, float]:
        """The paper's path weights unless overridden; both response terms share one."""
        terms = {"feature": ("feature",), "relation": ("relation",), "response": ("response_cls", "response_reg")}
        return {term: self._weights[name] for name in sorted(self.on) for term in terms[name]}

    def _nine(self, maps: Tensor, context: DistillContext, adapter: Adapter | None = None) -> Tensor:
        legacy = self.config.legacy_transpose
        if adapter is not None and adapter.config.where == "read":
            return adapter.points(maps, context.plan(maps, adapter.config.kernel, legacy))
        return read_points(maps if adapter is None else adapter(maps), context.plan(maps, 1, legacy)).squeeze(2)

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
