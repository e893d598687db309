"""Options of CRKD, and what it taps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import DISTINCT, RANGE, Few, Length, Share, Some, Spread, Weight
from bevkd.distill.settings import MethodSettings, losses_in_use
from bevkd.distill.tap import Tap
from bevkd.distill.taps.cells import CellIndex, CellWeight
from bevkd.distill.taps.footprints import Footprints, Geometry, MarkedCellValues, MarkedMap, ResizedMap, VelocityFrame
from bevkd.distill.taps.heads import ClassLogits, LikelyCells, TaskRegression
from bevkd.distill.taps.maps import WholeMap
from bevkd.registry import register_settings

_STRICT = ConfigDict(extra="forbid")
Part = Literal["csrd", "msfd", "reld", "respd"]
PARTS: tuple[Part, ...] = ("csrd", "msfd", "reld", "respd")


@dataclass(frozen=True, config=_STRICT)
class CsrdConfig:
    """Cross-stage radar distillation. Whether the radar map is calibrated is a setting of the radar encoder.

    Attributes:
        enabled: in use.
        source: what the radar's activation learns: the teacher's heat maps, those of the boxes, or, in place of the
            activation, the radar map learns the teacher's LiDAR map.
        pool: from classes to one map: mean of the scores, as in the paper; in the code, the mean over tasks of the
            score of a task's mean logit; or the highest score.
        norm: mean absolute or mean squared difference.
        start: weights that the activation layer starts from, Kaiming's by its outputs (one), as in the code, or by its
            inputs, which are smaller by the square root of their number.
        min_overlap: of heat maps of boxes: IoU that a box within the radius of a Gaussian still has.
        min_radius: of heat maps of boxes (cells).
    """

    enabled: bool = True
    source: Literal["teacher_heatmap", "gt_heatmap", "lidar_feature"] = "teacher_heatmap"
    pool: Literal["mean_paper", "mean_code", "max"] = "mean_paper"
    norm: Literal["l1", "l2"] = "l1"
    start: Literal["fan_out", "fan_in"] = "fan_out"
    min_overlap: Share = 0.1
    min_radius: Few = 2


@dataclass(frozen=True, config=_STRICT)
class MsfdConfig:
    """Mask-scaling feature distillation; lengths are the published ones.

    Attributes:
        enabled: in use.
        location: which maps are compared.
        camera_feature: the camera's map behind the gate of the fuser, or before it.
        mask: cells under grown boxes, under boxes as they are, under Gaussians of grown boxes, or all.
        mask_geometry: of boxes: as they stand, their hull along the axes, or what the code makes of them, which is too
            small for boxes that stand at an angle to the axes.
        velocity_frame: by the velocity along the axes, as in the code, or in the frame of the box.
        r1, r2: ranges (m) from which on a box grows by `alpha`, by `beta` of its size.
        v1, v2: the same for speeds (m/s).
        alpha, beta: growth, as a share of the size.
        clip: least and largest growth (m).
        half_square: half of the squared difference, as in the code.
        over_batch: under boxes also divided by the number of frames in the batch, as in the code.
    """

    enabled: bool = True
    location: Literal["camera", "fused", "camera+fused"] = "camera+fused"
    camera_feature: Literal["gated", "ungated"] = "gated"
    mask: Literal["scaled_box", "box", "gaussian", "dense"] = "scaled_box"
    mask_geometry: Geometry = "rotated"
    velocity_frame: VelocityFrame = "lidar"
    r1: Length = Footprints.r1
    r2: Length = Footprints.r2
    v1: Spread = Footprints.v1
    v2: Spread = Footprints.v2
    alpha: Share = Footprints.alpha
    beta: Share = Footprints.beta
    clip: Annotated[tuple[Spread, Spread], RANGE] = (Footprints.least, Footprints.most)
    half_square: bool = False
    over_batch: bool = False

    def __post_init__(self) -> None:
        if self.r1 > self.r2 or self.v1 > self.v2:
            raise ValueError("r1 must not be above r2, nor v1 above v2")

    @property
    def maps(self) -> dict[str, str]:
        """The features compared, by the names of their losses."""
        camera = "gated.camera" if self.camera_feature == "gated" else "camera"
        named = {"camera": camera, "fused": "low"}
        return {f"msfd_{name}": named[name] for name in self.location.split("+")}

    @property
    def footprints(self) -> Footprints | None:
        """The cells compared; none: all."""
        if self.mask == "dense":
            return None
        if self.mask == "box":
            return Footprints("box", self.mask_geometry)
        geometry: Geometry = "rotated" if self.mask == "gaussian" else self.mask_geometry
        steps = (self.r1, self.r2, self.v1, self.v2, self.alpha, self.beta)
        return Footprints(self.mask, geometry, self.velocity_frame, *steps, *self.clip)


@dataclass(frozen=True, config=_STRICT)
class ReldConfig:
    """Relation distillation on the fused map.

    Attributes:
        enabled: in use.
        sizes: cells a side to which the maps are resized, one term for each.
        adapters: two convolutions on each of the student's resized maps.
        cosine: relations are cosines, as in the paper; otherwise dot products, as in the code.
        over_batch: also divided by the number of frames in the batch, as in the code.
    """

    enabled: bool = True
    sizes: Annotated[tuple[Some, ...], Field(min_length=1), DISTINCT] = (32, 16, 8, 4)
    adapters: bool = True
    cosine: bool = True
    over_batch: bool = False


@dataclass(frozen=True, config=_STRICT)
class RespdConfig:
    """Response distillation.

    Attributes:
        enabled: in use.
        weights: 2 for classes that move, else 1 (`dynamic`); 2 for those that do not (`static`); 1 (`vanilla`); or one
            number for each task of the head.
        per_class: each class has its own weight, as in the paper; otherwise a task has one, as in the code, and counts
            as not moving if one of its classes does not move.
        threshold: a task's boxes are compared where the teacher's scores for its classes add up to more.
        least: where no cell is above the threshold, it is lowered, but not below this; 0: to all cells, as in the code.
    """

    enabled: bool = True
    weights: Literal["dynamic", "vanilla", "static"] | Annotated[tuple[Weight, ...], Field(min_length=1)] = "dynamic"
    per_class: bool = True
    threshold: Share = 0.1
    least: Share = 0.01


@dataclass(frozen=True, config=_STRICT)
class CRKDWeights:
    """Weights of the losses; 0 switches a loss off.

    Attributes:
        csrd, msfd, reld, respd: the published ones.
    """

    csrd: Weight = 100.0
    msfd: Weight = 10.0
    reld: Weight = 0.25
    respd: Weight = 1.0


@register_settings("method", "crkd")
@dataclass(frozen=True, config=_STRICT)
class CRKDConfig(MethodSettings):
    """Options of CRKD with the paper's defaults.

    Attributes:
        weights: of the four losses.
        csrd: radar activation.
        msfd: features under boxes.
        reld: relations among cells.
        respd: response of the head.
    """

    weights: CRKDWeights = CRKDWeights()
    csrd: CsrdConfig = CsrdConfig()
    msfd: MsfdConfig = MsfdConfig()
    reld: ReldConfig = ReldConfig()
    respd: RespdConfig = RespdConfig()

    @property
    def on(self) -> tuple[Part, ...]:
        """The losses in use."""
        return losses_in_use(self, self.weights, PARTS)

    @property
    def needs_boxes(self) -> bool:
        """Where heat maps are made of them, or the taps do."""
        return "csrd" in self.on and self.csrd.source == "gt_heatmap"

    def taps(self) -> dict[str, Tap]:
        """Class logits (B, K, H, W); per cell under a box (n, C) of each map, or whole maps; per size of relations a
        small map (B, C, d, d); per likely cell its box (n, R) and index `(task * H + iy) * W + ix`.
        """
        out: dict[str, Tap] = {}
        for name in self.on:
            out |= getattr(self, f"_{name}_taps")()
        return out

    def _csrd_taps(self) -> dict[str, Tap]:
        taps: dict[str, dict[str, Tap]] = {
            "teacher_heatmap": {"logits": ClassLogits()},
            "lidar_feature": {"lidar": WholeMap("lidar")},
        }
        return taps.get(self.csrd.source, {})

    def _msfd_taps(self) -> dict[str, Tap]:
        cells = self.msfd.footprints
        if cells is None:
            return {name: MarkedMap(feature) for name, feature in self.msfd.maps.items()}
        out: dict[str, Tap] = {"mask_cell": CellIndex(cells=cells), "mask_weight": CellWeight(cells=cells)}
        return out | {name: MarkedCellValues(feature, cells) for name, feature in self.msfd.maps.items()}

    def _reld_taps(self) -> dict[str, Tap]:
        return {f"reld_{size}": ResizedMap("low", size) for size in self.reld.sizes}

    def _respd_taps(self) -> dict[str, Tap]:
        cells = LikelyCells(self.respd.threshold, least=self.respd.least)
        return {
            "logits": ClassLogits(),
            "likely_cell": CellIndex(cells=cells),
            "likely_box": TaskRegression(cells=cells),
        }
