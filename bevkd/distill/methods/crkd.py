"""CRKD: "Enhanced Camera-Radar Object Detection with Cross-modality Knowledge Distillation", CVPR 2024, and supplement.

From a teacher with LiDAR and cameras to a student with cameras and radar, four losses:

    CSRD   mean |A - Y|: the activation A = ReLU(conv 1x1) of the radar map learns the teacher's heat Y over all classes
    MSFD   mean of the squared difference of the gated camera map and of the fused map, in cells under boxes that grow
           with their range and speed (`bevkd.distill.scaled_boxes`)
    RelD   sum over sizes of mean |C_S - C_T| of cosines C among the cells of the resized fused map
    RespD  scores of all cells and boxes of likely ones, classes that move twice (`bevkd.distill.soft_response`)

weighted by 100, 10, 0.25 and 1. Features: `radar`, `gated.camera`, `low`, `heads` of the student; `gated.camera`,
`low`, `heads` of the teacher. The calibration of the radar map stays at inference, so it is a part of the student's
radar encoder: `radar` is the map that goes into the fuser, calibrated or not. Boxes are annotations, on unlabelled
frames the teacher's.

Deviations from the public code, each with a switch: how classes are pooled (`csrd.pool`), cosines instead of dot
products (`reld.cosine`), squares instead of half of them (`msfd.half_square`), no further division by the frames of a
batch (`over_batch`), weights by class instead of task (`respd.per_class`), rectangles that do not shrink with the yaw
(`msfd.mask_geometry`), a threshold that ends at 0.01 (`respd.least`). The teacher stays in eval mode, and logits are no
scores before they are made such. How much each changes: docs/deviations.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.classes import LABELS
from bevkd.distill.base import Compared, DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.heat import drawn_heat, in_head_order, pooled_heat, pooled_scores, task_sizes
from bevkd.distill.methods.crkd_settings import CRKDConfig, RespdConfig
from bevkd.distill.relation_maps import resized, token_relation
from bevkd.distill.sampling import gather_cells
from bevkd.distill.soft_response import LikelyBoxes, soft_response
from bevkd.distill.taps.footprints import NOT_A_NUMBER
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import one_over_ranks, rank_count, rank_mean
from bevkd.registry import register

STATIC = frozenset({"barrier", "traffic_cone", "sign"})  # classes that do not move


def class_weights(config: RespdConfig, class_order: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """Weights of the classes of a head in the response loss.

    Args:
        config: options.
        class_order: classes (`bevkd.classes.LABELS`), task after task.
        sizes: number of classes of each task.

    Raises:
        ConfigError: weights are given for another number of tasks.
    """
    fixed = [LABELS[label] in STATIC for label in class_order]
    tasks, start = list[list[bool]](), 0
    for size in sizes:
        tasks.append(fixed[start : start + size])
        start += size
    if isinstance(config.weights, tuple):
        if len(config.weights) != len(tasks):
            raise ConfigError(f"crkd: respd.weights has {len(config.weights)} numbers, the head {len(tasks)} tasks")
        return [weight for weight, task in zip(config.weights, tasks, strict=True) for _ in task]
    if config.weights == "vanilla":
        return [1.0] * len(fixed)
    if not config.per_class:
        fixed = [any(task) for task in tasks for _ in task]
    return [2.0 if still == (config.weights == "static") else 1.0 for still in fixed]


def masked_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Squares of the difference; none where the teacher's value is not a number."""
    lost = torch.isnan(teacher) | (teacher == NOT_A_NUMBER)
    return (student - torch.where(lost, student, teacher)).square()


@register("method", "crkd")
class CRKD(DistillMethod):
    """Radar activation, features under growing boxes, relations and responses."""

    Settings = CRKDConfig
    config: CRKDConfig

    def __init__(self, config: CRKDConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        self.on = config.on
        if not self.on:
            raise ConfigError("CRKD with every loss switched off")
        if "csrd" in self.on:
            self.activation = self._activation()
        if "msfd" in self.on:
            for feature in config.msfd.maps.values():
                self._check_same(feature)
        if "reld" in self.on and config.reld.adapters:
            width = student.channels("low")
            self.adapters = nn.ModuleDict(
                {
                    str(size): nn.Sequential(
                        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 1)
                    )
                    for size in config.reld.sizes
                }
            )
        heads = [(spec.classes, spec.regression_maps) for spec in (student, teacher)]
        if "respd" in self.on and (heads[0] != heads[1] or not teacher.regression_maps):
            raise ConfigError("crkd: the response loss needs the same dense head in teacher and student")
        if "csrd" in self.on and config.csrd.source == "teacher_heatmap" and student.classes != teacher.classes:
            raise ConfigError("crkd: the teacher's heat maps need the same classes in teacher and student")

    def _activation(self) -> nn.Module:
        """The layer on the radar map: to one map, or, where it learns the LiDAR map, to the width of that."""
        csrd, width = self.config.csrd, self.student.channels("radar")
        if csrd.source == "lidar_feature":
            wanted = self.teacher.channels("lidar")
            return nn.Identity() if width == wanted else nn.Conv2d(width, wanted, 1)
        layer = nn.Conv2d(width, 1, 1, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode=csrd.start, nonlinearity="relu")
        return nn.Sequential(layer, nn.ReLU(inplace=True))

    def _check_same(self, feature: str) -> None:
        own, taught = self.student.info(feature), self.teacher.info(feature)
        if (own.channels, own.stride) != (taught.channels, taught.stride) or own.stride != 1:
            raise ConfigError(
                f"crkd compares {feature!r} cell by cell: student {own.channels} channels at stride {own.stride:g},"
                f" teacher {taught.channels} at {taught.stride:g}"
            )

    @property
    def student_features(self) -> frozenset[str]:
        """What the losses read of the student."""
        found = {"heads"} if {"csrd", "respd"} & set(self.on) else set()
        found |= {"radar"} if "csrd" in self.on else set()
        found |= set(self.config.msfd.maps.values()) if "msfd" in self.on else set()
        return frozenset(found | ({"low"} if "reld" in self.on else set()))

    def compared(self) -> tuple[Compared, ...]:
        """One for each loss, of MSFD one for each map; heat maps of boxes are no feature of the teacher."""
        taught = {"teacher_heatmap": "heads", "lidar_feature": "lidar"}.get(self.config.csrd.source)
        of = {
            "csrd": [Compared("csrd", "radar", taught)] if taught else [],
            "msfd": [Compared(name, feature, feature) for name, feature in self.config.msfd.maps.items()],
            "reld": [Compared("reld", "low", "low")],
            "respd": [Compared("respd", "heads", "heads")],
        }
        return tuple(one for name in self.on for one in of[name])

    def weights(self) -> dict[str, float]:
        """Weights of the terms; those of a loss share one."""
        terms = {
            "csrd": ["csrd"],
            "msfd": list(self.config.msfd.maps),
            "reld": ["reld"],
            "respd": ["respd_heatmap", "respd_box"],
        }
        return {term: getattr(self.config.weights, name) for name in self.on for term in terms[name]}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`csrd`, `msfd_camera`, `msfd_fused`, `reld`, `respd_heatmap`, `respd_box`, as far as they are switched on."""
        out: dict[str, Tensor] = {}
        if "csrd" in self.on:
            out["csrd"] = self._csrd(student, targets, context)
        if "msfd" in self.on:
            out |= self._msfd(student, targets, context)
        if "reld" in self.on:
            out["reld"] = self._reld(student, targets, context)
        if "respd" in self.on:
            out["respd_heatmap"], out["respd_box"] = self._respd(student, targets)
        return out

    def _csrd(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> Tensor:
        csrd, radar = self.config.csrd, student.feature("radar")
        own = self.activation(radar.float())
        if csrd.source == "lidar_feature":
            wanted = targets["lidar"].values
        elif csrd.source == "gt_heatmap":
            order = student.class_order
            heat = drawn_heat(context.boxes, context.grid, context.batch_size, order, csrd.min_overlap, csrd.min_radius)
            wanted = pooled_scores(heat, task_sizes(student), csrd.pool)
        else:
            logits = in_head_order(targets["logits"].values, student.class_order)
            wanted = pooled_heat(logits, task_sizes(student), csrd.pool)
        return F.l1_loss(own, wanted) if csrd.norm == "l1" else F.mse_loss(own, wanted)

    def _msfd(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        msfd, out = self.config.msfd, dict[str, Tensor]()
        scale = 0.5 if msfd.half_square else 1.0
        for name, feature in msfd.maps.items():
            maps, taught = student.feature(feature), targets[name].values
            if msfd.mask == "dense":
                out[name] = masked_difference(maps.float(), taught).mean() * scale
                continue
            cell, frame = targets["mask_cell"].values, targets["mask_cell"].frame
            weight = targets["mask_weight"].values
            if msfd.mask != "gaussian":
                # Cells that the teacher saw nothing in are left out.
                weight = weight * (taught != 0).any(1)
            term = masked_difference(gather_cells(maps, cell, frame), taught).mean(1)
            out[name] = (weight * term).sum() / rank_count(weight.sum()) * scale
            if msfd.over_batch and msfd.mask != "gaussian":
                out[name] = out[name] / self._frames(context)
        return out

    def _reld(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> Tensor:
        reld, terms = self.config.reld, list[Tensor]()
        for size in reld.sizes:
            own = resized(student.low, size)
            if reld.adapters:
                own = self.adapters[str(size)](own)
            terms.append(token_relation(targets[f"reld_{size}"].values, own, reld.cosine))
        total = torch.stack(terms).sum()
        return total / self._frames(context) if reld.over_batch else total

    def _respd(self, student: BEVOutputs, targets: Targets) -> tuple[Tensor, Tensor]:
        respd = self.config.respd
        logits = in_head_order(targets["logits"].values, student.class_order)
        weights = class_weights(respd, student.class_order, task_sizes(student))
        likely = LikelyBoxes(targets["likely_cell"], targets["likely_box"].values, respd.threshold, respd.least)
        return soft_response(student, logits, likely, weights)

    @staticmethod
    def _frames(context: DistillContext) -> Tensor:
        """Frames of the whole batch, on all processes and in all its parts."""
        return rank_mean(context.batch_size, context.labelled.device) / one_over_ranks()
