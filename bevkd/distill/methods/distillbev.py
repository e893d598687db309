"""DistillBEV: "Boosting Multi-Camera 3D Object Detection with Cross-Modal Knowledge Distillation", ICCV 2023, and
supplement.

Maps of a camera student learn those of a teacher with LiDAR, at several levels of the BEV encoders. With the teacher's
map F_T, the student's adapted map G(F_S), and for each cell its region, scale S and attention A:

    regions   FG cells in boxes; FP cells where only the teacher fires; TN all others (Eq. 1)
    S         1 / sqrt(h w) of the box in cells; 1 / N_FP; 1 / N_TN (adaptive scaling)
    P(F)      mean over channels of |F|
    N(F)      H W softmax(P(F) / tau) over cells (Eqs. 4, 5)
    A         (N(F_T) + N(G(F_S))) / 2, or N(F_T); detached
    L_feat    alpha sum_FG S A d2 + eta alpha sum_FP S A d2 + beta sum_TN S A d2,   d2 = sum over channels of
              (F_T - G(F_S))^2
    L_attn    lambda sum |P(F_T) - P(G(F_S))|

Sums over cells and channels, in float32, means over the frames of a batch; `sums: published` brings them to the
published sizes. Features: the levels of both networks, `heads` of the teacher for its false positives. FG has no test
of student or teacher: true positives and false negatives are one region. Boxes are annotations, on unlabelled frames
the teacher's.

Deviations from the public code, each with a switch: eta (`weights.eta`), what attention imitation compares
(`attn_pool`, `attn_proj`), channel attention of false positives (`fp_channel_attention`), which point of a cell lies in
a box (`cell_point`), the least weight of a cell of an object (`scaling`). Without one: biases before batch norms are
left out, and masks of transformer students are not exchanged in x and y. How much each changes: docs/deviations.md.

Task heads start from the teacher's where a row says `init: {run: <teacher>, parts: [head.tasks]}`.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from bevkd.data.batch import Boxes
from bevkd.distill.adapters import MapAdapter, module_key
from bevkd.distill.base import Compared, DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.heat import clipped_scores, drawn_peaks
from bevkd.distill.map_attention import cell_attention, cell_distances, channel_attention, pooled
from bevkd.distill.methods.distillbev_settings import DETECTED, HEAT, PUBLISHED, DistillBEVConfig
from bevkd.distill.regions import Regions, box_owners, only_they_fire, resized_mask, split_regions
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import BEVGrid
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import rank_mean
from bevkd.registry import register

_OF_STUDENT = ("student", "rejected", "union")  # false positives that its heat maps tell


@register("method", "distillbev")
class DistillBEV(DistillMethod):
    """Maps of several levels, by regions, size of objects and attention; and the attention itself."""

    Settings = DistillBEVConfig
    config: DistillBEVConfig

    def __init__(self, config: DistillBEVConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        self.used = config.used
        if not any(self.weights().values()):
            raise ConfigError("DistillBEV with every loss switched off")
        self.adapters, self.projections = nn.ModuleDict(), nn.ModuleDict()
        for level in self.used.levels:
            self._check(level)
            layers = config.adapters.layers if level.startswith("B") else 1
            widths = student.channels(level), teacher.channels(level)
            self.adapters[module_key(level)] = MapAdapter(*widths, layers, config.adapters.align_corners)
            if config.attn_proj == "conv3x3" and self.used.imitation:
                self.projections[module_key(level)] = nn.Conv2d(1, 1, 3, padding=1)
        if config.with_fp:
            read = [student] if self.used.false_positives in _OF_STUDENT else []
            read += [teacher] if HEAT in self.taps() else []
            if any(not spec.classes for spec in read):
                raise ConfigError(
                    f"distillbev: false_positives: {self.used.false_positives} needs a head with heat maps"
                )

    def _check(self, level: str) -> None:
        own, taught = self.student.info(level), self.teacher.info(level)
        if "bev" not in (own.layout, taught.layout) or own.layout != taught.layout:
            raise ConfigError(f"distillbev: levels: {level!r} is no BEV map")
        if own.stride < taught.stride:
            raise ConfigError(
                f"distillbev: {level!r} of the student has cells of {own.stride:g} grid cells, that of the teacher"
                f" larger ones of {taught.stride:g}: student maps are brought to finer ones, not to coarser"
            )

    @property
    def student_features(self) -> frozenset[str]:
        """The levels, and the head where false positives are the student's."""
        of_head = self.config.with_fp and self.used.false_positives in _OF_STUDENT
        return frozenset({*self.used.levels, *(["heads"] if of_head else [])})

    def compared(self) -> tuple[Compared, ...]:
        """The levels."""
        return tuple(Compared(level, level, level) for level in self.used.levels)

    def map_adapters(self) -> dict[str, MapAdapter]:
        """That of each level."""
        return {level: self._adapter(level) for level in self.used.levels}

    def _adapter(self, level: str) -> MapAdapter:
        adapter = self.adapters[module_key(level)]
        assert isinstance(adapter, MapAdapter)
        return adapter

    def weights(self) -> dict[str, float]:
        """Those of each level: `fg_<level>`, `fp_<level>`, `tn_<level>`, `attn_<level>`."""
        used, out = self.used, dict[str, float]()
        for level in used.levels:
            if self.config.regions:
                out[f"fg_{level}"] = used.alpha
            if level in self.config.with_fp:
                out[f"fp_{level}"] = used.eta * used.alpha
            out |= {f"tn_{level}": used.beta} | ({f"attn_{level}": used.imitation} if used.imitation else {})
        return out

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """For each level those of `weights`."""
        frames = rank_mean(context.batch_size, context.labelled.device)
        made: dict[tuple[int, int, bool], Tensor] = {}
        out: dict[str, Tensor] = {}
        for level in self.used.levels:
            taught = targets[level].values
            size, fp = (taught.shape[1], taught.shape[2]), level in self.config.with_fp
            if (*size, fp) not in made:
                made[*size, fp] = self._regions(student, targets, context, *size, fp).weights()
            for name, loss in self._level(level, student, taught, made[*size, fp], context.grid).items():
                out[f"{name}_{level}"] = loss / frames
        return out

    def _level(
        self, level: str, student: BEVOutputs, taught: Tensor, weights: Tensor, grid: BEVGrid
    ) -> dict[str, Tensor]:
        """Sums over the frames of a batch."""
        config, used = self.config, self.used
        adapter = self._adapter(level)
        own = adapter(student.feature(level), (taught.shape[1], taught.shape[2]))
        squares, activity, target = cell_distances(own, taught, adapter.rectified)
        if used.attention != "none":
            attention = cell_attention(target, config.tau)
            if used.attention == "teacher_student":
                attention = (attention + cell_attention(activity.detach(), config.tau)) / 2
            weights = weights * attention
        sums = torch.mv(weights.flatten(1), squares.flatten())
        found = {"tn": sums[2]} | ({"fg": sums[0]} if config.regions else {})
        if level in config.with_fp:
            found["fp"] = sums[1]
            if config.fp_channel_attention:
                by_channel = channel_attention(taught, config.tau)[:, None, None]
                found["fp"] = (weights[1] * (by_channel * (own - taught).square()).sum(-1)).sum()
        if used.imitation:
            if config.attn_pool == "mean":
                activity, target = pooled(own, "mean"), pooled(taught, "mean")
            if module_key(level) in self.projections:
                activity = self.projections[module_key(level)](activity[:, None])[:, 0]
            found["attn"] = (target - activity).abs().sum()
        return self._resized(found, level, taught, grid)

    def _resized(self, found: dict[str, Tensor], level: str, taught: Tensor, grid: BEVGrid) -> dict[str, Tensor]:
        """The sums of a map of the published size, see `DistillBEVConfig.sums`."""
        if self.config.sums == "own":
            return found
        published, cells = PUBLISHED[self.config.preset][level], prod(taught.shape[1:3])
        by_channel, by_cell = published.channels / taught.shape[3], published.cells / cells
        side = self._grid(grid, taught.shape[1], taught.shape[2]).cell
        of_objects = 1.0 if self.config.scaling == "uniform" else by_cell * published.cell / side
        factors = {"fg": by_channel * of_objects, "fp": by_channel, "tn": by_channel, "attn": by_cell}
        return {name: factors[name] * value for name, value in found.items()}

    @staticmethod
    def _grid(grid: BEVGrid, height: int, width: int) -> BEVGrid:
        """The grid of a map of so many cells over the same area."""
        if height * grid.W != width * grid.H:
            raise DataError(f"a teacher's map of {height} x {width} cells is not of a grid of {grid.H} x {grid.W}")
        return BEVGrid(grid.x_min, grid.y_min, grid.cell * grid.W / width, width, height)

    @torch.no_grad()
    def _regions(
        self, student: BEVOutputs, targets: Targets, context: DistillContext, height: int, width: int, fp: bool
    ) -> Regions:
        config, grid = self.config, self._grid(context.grid, height, width)
        boxes = context.boxes if config.regions else Boxes.empty(context.labelled.device)
        owners = box_owners(boxes, grid, context.batch_size, config.cell_point, config.fg_min_one_cell)
        fires = resized_mask(self._false_positives(student, targets, context), height, width) if fp else None
        return split_regions(owners, boxes, grid.cell, fires, config.scaling)

    def _false_positives(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> Tensor:
        """Cells (B, H, W) of the grid where only a network says that something is; some may be in boxes."""
        grid, who = context.grid, self.used.false_positives
        if who == "detections":
            cells = targets[DETECTED]
            mask = torch.zeros(context.batch_size, grid.H * grid.W, dtype=torch.bool, device=context.labelled.device)
            mask[cells.frame, cells.values] = True
            return mask.view(-1, grid.H, grid.W)
        assert who != "none"
        drawn = drawn_peaks(context.boxes, grid, context.batch_size, self.config.min_overlap, self.config.min_radius)
        nothing = torch.zeros_like(drawn)
        taught = clipped_scores(targets[HEAT].values) if HEAT in targets else nothing
        own = clipped_scores(student.heatmaps().amax(1)) if who in _OF_STUDENT else nothing
        return only_they_fire(who, taught, own, drawn, self.config.gamma)
