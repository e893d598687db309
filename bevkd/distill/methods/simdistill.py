"""SimDistill: "SimDistill: Simulated Multi-modal Distillation for BEV 3D Object Detection", AAAI 2024.

From a teacher with LiDAR and cameras to a student with cameras alone that has two branches, one of which simulates the
teacher's LiDAR branch. With the maps F_C of cameras, F_L of LiDAR, F_SL of the simulated branch and F_U behind the
fuser, each term a mean over frames, channels and cells:

    IMD    mean (F_C^S - F_C^T)^2
    CMD    mean (M Proj(F_SL) - M F_L^T)^2: Proj a 3x3 convolution, batch norm and ReLU; M the sum over classes of
           CenterPoint's heat maps of the boxes
    MMD-F  mean (F_U^S - F_U^T)^2
    MMD-P  quality focal loss between heat maps, smooth L1 between boxes (`bevkd.distill.quality_response`)

weighted by 1, 100, 1 and 1. M enters squared, and the mean is over all elements, not over those in objects. Features:
`camera`, `simulated`, `low`, `heads` of the student; `camera`, `lidar`, `low`, `heads` of the teacher. Boxes are
annotations, on unlabelled frames the teacher's. The equations of the paper were not at hand: losses are those that its
figure of the pipeline and the released code show, where they work as they are named.

Deviations from the released code, each with a switch: a second sigmoid in the loss of classes
(`mmd_p.double_sigmoid`), counts that mix classes (`mmd_p.mixed_counts`), boxes of padding (`mmd_p.padded_boxes`), sines
of the yaw taken for angles (`mmd_p.sine_difference`), a fuser of the teacher that learns from the losses behind it
(`teacher_fuser`). How much each changes: docs/deviations.md.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.data.batch import Boxes
from bevkd.distill.adapter_settings import AdapterConfig
from bevkd.distill.adapters import Adapter, MapConvolution
from bevkd.distill.base import Compared, DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.centres import Centres, centre_regression, find_centres, first_cell
from bevkd.distill.heat import drawn_heat, in_head_order, task_sizes
from bevkd.distill.methods.simdistill_settings import SimDistillConfig
from bevkd.distill.quality_response import box_response, class_response
from bevkd.distill.reading import Reading
from bevkd.distill.sampling import gather_cells
from bevkd.distill.trained_fuser import TrainedFuser
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid
from bevkd.models.boxcode import CODE_WIDTH, decode_cells
from bevkd.models.ops.rotated import iou_3d
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import one_over_ranks, rank_count, rank_mean
from bevkd.registry import register


def squared_difference(maps: Tensor, taught: Tensor) -> Tensor:
    """Sum of the squared difference of maps (B, C, H, W), which lie channels last, and rows (B, H, W, C)."""
    return F.mse_loss(maps.float().permute(0, 2, 3, 1), taught, reduction="sum")


@register("method", "simdistill")
class SimDistill(DistillMethod):
    """Camera, LiDAR and fused maps of a student that mirrors its teacher, and what the heads say."""

    Settings = SimDistillConfig
    config: SimDistillConfig

    def __init__(self, config: SimDistillConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        self.on = config.on
        if not self.on:
            raise ConfigError("SimDistill with every loss switched off")
        self.fuser: TrainedFuser | None = None
        if "cmd" in self.on:
            self.project = self._projection()
        for part, feature in (("imd", "camera"), ("mmd_f", "low")):
            if part in self.on:
                self._check_same(feature)
        heads = [(spec.classes, spec.regression_maps) for spec in (student, teacher)]
        if "mmd_p" in self.on and (heads[0] != heads[1] or not teacher.regression_maps):
            raise ConfigError("simdistill: mmd_p needs the same dense head in teacher and student")

    def _projection(self) -> Adapter | MapConvolution:
        """The layer from the simulated map to the teacher's; of the training alone."""
        cmd = self.config.cmd
        if "simulated" not in self.student.features:
            raise ConfigError("simdistill: cmd needs a student with a branch that simulates LiDAR (`simulated`)")
        if cmd.teacher_map == "lidar" and "lidar" not in self.teacher.features and "simulated" in self.teacher.features:
            raise ConfigError("simdistill: this teacher sees no LiDAR: set cmd: {teacher_map: simulated}")
        own, taught = self.student.info("simulated"), self.teacher.info(cmd.teacher_map)
        if own.stride != taught.stride or (cmd.mask == "objects" and own.stride != 1):
            raise ConfigError(
                f"simdistill compares 'simulated' with {cmd.teacher_map!r} cell by cell: strides {own.stride:g} and"
                f" {taught.stride:g}"
            )
        # A LiDAR map is what a ReLU lets through; that of a camera branch is not, and must be within reach.
        act: Literal["relu", "none"] = "relu" if cmd.teacher_map == "lidar" else "none"
        if cmd.project_at == "map":
            return MapConvolution(own.channels, taught.channels, act)
        return Adapter(AdapterConfig(enabled=True, kernel=3, act=act), own.channels, taught.channels)

    def _check_same(self, feature: str) -> None:
        own, taught = self.student.info(feature), self.teacher.info(feature)
        if (own.channels, own.stride) != (taught.channels, taught.stride):
            raise ConfigError(
                f"simdistill compares {feature!r} cell by cell: student {own.channels} channels at stride"
                f" {own.stride:g}, teacher {taught.channels} at {taught.stride:g}"
            )

    @property
    def student_features(self) -> frozenset[str]:
        """What the losses read of the student."""
        named = {"imd": "camera", "cmd": "simulated", "mmd_f": "low", "mmd_p": "heads"}
        classes = {"heads"} if "cmd" in self.on and self.config.cmd.mask == "objects" else set()
        return frozenset({named[part] for part in self.on} | classes)

    def compared(self) -> tuple[Compared, ...]:
        """One for each loss."""
        of = {"imd": ("camera", "camera"), "cmd": ("simulated", self.config.cmd.teacher_map)}
        of |= {"mmd_f": ("low", "low"), "mmd_p": ("heads", "heads")}
        return tuple(Compared(part, *of[part]) for part in self.on)

    def weights(self) -> dict[str, float]:
        """Weights of the terms; both of MMD-P share one."""
        terms = {"mmd_p": ("mmd_p_cls", "mmd_p_box")}
        return {term: getattr(self.config.weights, part) for part in self.on for term in terms.get(part, (str(part),))}

    def take(self, teacher: nn.Module) -> None:
        """The teacher's fuser and what follows it, if the fuser is to learn."""
        if self.config.trained:
            self.fuser = TrainedFuser(teacher, tuple(self.config.into_fuser().values()))

    def _behind_fuser(self, targets: Targets, context: DistillContext) -> Targets:
        """What lies behind a fuser that learns, with a graph."""
        if self.fuser is None:
            raise ConfigError("simdistill: teacher_fuser: trained wants the teacher itself")
        maps = {feature: targets[name].values for name, feature in self.config.into_fuser().items()}
        reading = Reading(self.fuser(maps, heads="mmd_p" in self.on), context)
        return {name: tap.read(reading) for name, tap in self.config.behind_fuser().items()}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`imd`, `cmd`, `mmd_f`, `mmd_p_cls`, `mmd_p_box`, as far as they are switched on."""
        if self.config.trained:
            targets = targets | self._behind_fuser(targets, context)
        out: dict[str, Tensor] = {}
        frames = rank_mean(context.batch_size, context.labelled.device)
        for part, feature in (("imd", "camera"), ("mmd_f", "low")):
            if part in self.on:
                taught = targets[part].values
                out[part] = squared_difference(student.feature(feature), taught) / (frames * taught[0].numel())
        if "cmd" in self.on:
            out["cmd"] = self._cmd(student, targets, context, frames)
        if "mmd_p" in self.on:
            out["mmd_p_cls"], out["mmd_p_box"] = self._mmd_p(student, targets, context, frames)
        return out

    def _cmd(self, student: BEVOutputs, targets: Targets, context: DistillContext, frames: Tensor) -> Tensor:
        cmd, maps, taught = self.config.cmd, student.feature("simulated"), targets["cmd"].values
        channels, area = taught.shape[-1], maps.shape[-2] * maps.shape[-1]
        if cmd.mask == "none":
            return squared_difference(self.project(maps), taught) / (frames * channels * area)
        # Only cells with heat add to the sum over all cells.
        cell, frame = targets["cmd_cell"].values, targets["cmd_cell"].frame
        mask = self._mask(student, context).flatten()[frame * area + cell]
        if isinstance(self.project, Adapter):
            own = self.project.cells(maps, cell, frame)
        else:
            own = gather_cells(self.project(maps), cell, frame)
        total = (mask[:, None] * (own - taught)).square().sum()
        elements = frames * area if cmd.mask_norm == "all" else rank_count((mask > 0).sum())
        return total / (elements * channels)

    def _mask(self, student: BEVOutputs, context: DistillContext) -> Tensor:
        """M (B, H, W)."""
        cmd, order = self.config.cmd, student.class_order
        heat = drawn_heat(context.boxes, context.grid, context.batch_size, order, cmd.min_overlap, cmd.min_radius)
        mask = heat.sum(1)
        return mask.clamp(max=1) if cmd.mask_clip == 1 else mask

    def _mmd_p(
        self, student: BEVOutputs, targets: Targets, context: DistillContext, frames: Tensor
    ) -> tuple[Tensor, Tensor]:
        mmd, sizes, taught = self.config.mmd_p, task_sizes(student), targets["centre_box"].values
        if len(taught) != len(context.boxes):
            raise DataError(f"{len(taught)} teacher targets for {len(context.boxes)} boxes", field="centre_box")
        logits = in_head_order(targets["logits"].values, student.class_order)
        classes = class_response(student.heatmaps(), logits, sizes, mmd.double_sigmoid, mmd.mixed_counts)
        centres = find_centres(student, context.boxes, context.grid)
        padding = None
        if mmd.padded_boxes:
            own, other = (v.unflatten(1, (len(sizes), -1)) for v in (first_cell(student), targets["first_cell"].values))
            padding = own, other
        quality = self._quality(logits, taught, centres, context.boxes, context.grid)
        boxes = box_response(
            centre_regression(student, centres), taught, centres, context.batch_size, len(sizes), quality,
            mmd.sine_difference, padding,
        )  # fmt: skip
        # Sums over the frames of this process and part become those of the whole batch, or a mean times a number.
        share = one_over_ranks() if mmd.frames is None else frames / mmd.frames
        return classes / share, boxes / share

    def _quality(self, logits: Tensor, taught: Tensor, centres: Centres, boxes: Boxes, grid: BEVGrid) -> Tensor | None:
        """How good the teacher is at each box (N,), in [0, 1]."""
        quality = self.config.mmd_p.quality
        if quality == "teacher_score":
            at = gather_cells(logits, centres.cell, centres.frame)
            return torch.sigmoid(at.gather(1, centres.slot[:, None])[:, 0])
        if quality == "iou":
            found = decode_cells(taught[:, :CODE_WIDTH].float(), centres.cell, grid)
            return iou_3d(found, boxes.boxes.float())
        return None
