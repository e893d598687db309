"""Options of DistillBEV, and what it taps."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import DISTINCT, Factor, Few, Name, Share, Weight
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap
from bevkd.distill.taps.cells import CellIndex
from bevkd.distill.taps.heads import DetectedCells, HighestLogit
from bevkd.distill.taps.maps import MapRows
from bevkd.registry import register_settings

_STRICT = ConfigDict(extra="forbid")
Levels: TypeAlias = Annotated[tuple[Name, ...], Field(min_length=1), DISTINCT]
Attention = Literal["teacher", "teacher_student", "none"]
FalsePositives = Literal["teacher", "student", "rejected", "union", "detections", "none"]
Student = Literal["cnn", "transformer_centerpoint", "transformer_mvp"]
HEAT = "heat"  # the names of targets that are no maps; no feature has them
DETECTED = "detected cell"


@plain_dataclass(frozen=True)
class Preset:
    """What the paper sets for a family of students, by the names of the options."""

    levels: tuple[str, ...]
    attention: Attention
    false_positives: FalsePositives
    alpha: float
    beta: float
    imitation: float
    eta: float = 20.0


@plain_dataclass(frozen=True)
class MapSize:
    """Size of a teacher's map: its channels, its cells, and their side (m)."""

    channels: int
    cells: int
    cell: float


PRESETS: dict[Student, Preset] = {
    "cnn": Preset(("B1", "B2", "high"), "teacher_student", "teacher", 6e-3, 4e-2, 2.5e-3),
    "transformer_centerpoint": Preset(("high",), "teacher", "detections", 3e-3, 4e-2, 1e-3),
    "transformer_mvp": Preset(("high",), "teacher", "detections", 5e-3, 4e-3, 5e-4),
}
_TRANSFORMER = {"high": MapSize(256, 200 * 200, 0.512)}
PUBLISHED: dict[Student, dict[str, MapSize]] = {
    "cnn": {
        "B0": MapSize(64, 256 * 256, 0.4),
        "B1": MapSize(128, 128 * 128, 0.8),
        "B2": MapSize(256, 64 * 64, 1.6),
        "high": MapSize(384, 128 * 128, 0.8),
    },
    "transformer_centerpoint": _TRANSFORMER,
    "transformer_mvp": _TRANSFORMER,
}


@dataclass(frozen=True, config=_STRICT)
class DistillBEVWeights:
    """Weights of the losses, the same at all levels; none: those of the preset; 0 switches a loss off.

    Attributes:
        alpha: of cells of objects.
        beta: of true negatives.
        imitation: of the attention imitation (lambda).
        eta: of false positives, as a multiple of alpha. The public scripts have 10.
    """

    alpha: Weight | None = None
    beta: Weight | None = None
    imitation: Weight | None = None
    eta: Weight | None = None


@dataclass(frozen=True, config=_STRICT)
class AdaptersConfig:
    """Layers from the student's maps to the teacher's. The map before the head has a 1x1 convolution alone.

    Attributes:
        layers: of a map inside of the BEV encoder: 1x1 convolutions, each with batch norm and ReLU where there is more
            than one; the paper's pictures of attention are of 2.
        align_corners: where the student's map is coarser: bilinear with the corner cells of both maps on each other, as
            in the code; otherwise every cell stays where it is.
    """

    layers: Annotated[int, Field(ge=1, le=8)] = 3
    align_corners: bool = True


@register_settings("method", "distillbev")
@dataclass(frozen=True, config=_STRICT)
class DistillBEVConfig(MethodSettings):
    """Options of DistillBEV with the paper's defaults.

    The public code for convolutional students is `weights: {eta: 10}`, `scaling: code`, `cell_point: corner`,
    `attn_pool: mean`, `attn_proj: conv3x3`, `fp_channel_attention: true`.

    Attributes:
        preset: family of the student and of its teacher: levels, attention, false positives and weights as far as they
            are not said.
        weights: of the losses.
        levels: maps that are compared, by their names; none: the preset's, B1, B2 and high, or high alone.
        regions: cells of objects, false positives and true negatives weigh differently; otherwise all are as true
            negatives.
        scaling: of cells of objects by the size of these, of others by their number; `code`: the same, but that a cell
            of an object weighs at least what a true negative does; or `uniform`, all cells the same.
        attention: which cells count more: where the teacher's map is active, where it or the student's is, or none;
            unsaid: the preset's.
        tau: temperature of attention.
        false_positives: cells outside of all boxes where the teacher's heat maps are above `gamma`; those of the
            student; of the student where the teacher's are below it; those of the teacher and these (`union`); cells in
            boxes that the teacher finds with scores above `gamma` (`detections`); or none; unsaid: the preset's.
        fp_levels: levels that have them; unsaid: `high`, if it is one.
        gamma: score above which a network fires, and drawn heat below which no object is.
        fp_channel_attention: false positives also weigh channels by the teacher's activity, as in the code.
        attn_pool: attention imitation compares means of absolute values, or of values, as in the code.
        attn_proj: a 3x3 convolution on the student's, as in the code, or none.
        cell_point: point of a cell that is in a box or not: its centre, or its corner, as in the code.
        fg_min_one_cell: the cell of its centre belongs to each object, however small that is.
        min_overlap: of drawn heat: IoU that a box within the radius of its Gaussian still has.
        min_radius: of drawn heat (cells).
        adapters: layers on the student's maps.
        sums: losses are sums over the cells and channels that there are (`own`), or are brought to what they would be
            in maps of the published size (`published`): sums over channels are multiplied by C'/C; those over cells of
            objects by (N' s') / (N s), because of N cells of side s an equally dense scene has N of their number, and
            each weighs s; those of the attention imitation by N'/N. Means over false positives and over true negatives
            are the same in maps of any number of cells.
    """

    preset: Student = "cnn"
    weights: DistillBEVWeights = DistillBEVWeights()
    levels: Levels | None = None
    regions: bool = True
    scaling: Literal["adaptive", "code", "uniform"] = "adaptive"
    attention: Attention | None = None
    tau: Factor = 0.5
    false_positives: FalsePositives | None = None
    fp_levels: Levels | None = None
    gamma: Share = 0.1
    fp_channel_attention: bool = False
    attn_pool: Literal["absmean", "mean"] = "absmean"
    attn_proj: Literal["none", "conv3x3"] = "none"
    cell_point: Literal["centre", "corner"] = "centre"
    fg_min_one_cell: bool = False
    min_overlap: Share = 0.1
    min_radius: Few = 2
    adapters: AdaptersConfig = AdaptersConfig()
    sums: Literal["own", "published"] = "own"

    def __post_init__(self) -> None:
        if strange := [name for name in self.fp_levels or () if name not in self.used.levels]:
            raise ValueError(f"fp_levels: {strange[0]!r} is none of the levels {', '.join(self.used.levels)}")
        if self.sums == "published":
            known = PUBLISHED[self.preset]
            if strange := [name for name in self.used.levels if name not in known]:
                raise ValueError(f"sums: no size of {strange[0]!r} is published, but of {', '.join(known)}")

    @property
    def used(self) -> Preset:
        """The preset, with what is said in its place."""
        preset = PRESETS[self.preset]
        said = {name: getattr(self, name) for name in ("levels", "attention", "false_positives")}
        said |= {f.name: getattr(self.weights, f.name) for f in fields(DistillBEVWeights)}
        usual = {f.name: getattr(preset, f.name) for f in fields(Preset)}
        return Preset(**usual | {name: value for name, value in said.items() if value is not None})

    @property
    def with_fp(self) -> tuple[str, ...]:
        """Levels whose false positives have a loss of their own."""
        if not self.regions or self.used.false_positives == "none":
            return ()
        wanted = ("high",) if self.fp_levels is None else self.fp_levels
        return tuple(name for name in self.used.levels if name in wanted)

    @property
    def needs_boxes(self) -> bool:
        """Where there are regions."""
        return self.regions

    def taps(self) -> dict[str, Tap]:
        """Maps (B, H, W, C) of the levels; the teacher's heat (B, H, W), or the cells (n,) of the boxes that it finds,
        where false positives are told by them.
        """
        out: dict[str, Tap] = {name: MapRows(name) for name in self.used.levels}
        if self.with_fp and self.used.false_positives == "detections":
            out[DETECTED] = CellIndex(cells=DetectedCells(self.gamma))
        elif self.with_fp and self.used.false_positives != "student":
            out[HEAT] = HighestLogit()
        return out
