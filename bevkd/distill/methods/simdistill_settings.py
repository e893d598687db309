"""Options of SimDistill, and what it taps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Few, Share, Weight
from bevkd.distill.settings import MethodSettings, losses_in_use
from bevkd.distill.tap import Tap
from bevkd.distill.taps.cells import CellIndex, CellValues, GaussianMask
from bevkd.distill.taps.centres import CentreRegression, FirstCell
from bevkd.distill.taps.heads import ClassLogits
from bevkd.distill.taps.maps import MapRows, WholeMap
from bevkd.registry import register_settings

_STRICT = ConfigDict(extra="forbid")
Part = Literal["imd", "cmd", "mmd_f", "mmd_p"]
PARTS: tuple[Part, ...] = ("imd", "cmd", "mmd_f", "mmd_p")
BEHIND = frozenset[Part](("mmd_f", "mmd_p"))  # compare what lies behind the fuser


@dataclass(frozen=True, config=_STRICT)
class MapConfig:
    """A comparison of two maps as they are.

    Attributes:
        enabled: in use.
    """

    enabled: bool = True


@dataclass(frozen=True, config=_STRICT)
class CmdConfig:
    """Cross-modal distillation: the simulated LiDAR map learns the teacher's.

    Attributes:
        enabled: in use.
        teacher_map: the teacher's LiDAR map, or, of a teacher with cameras alone and two branches, its simulated one.
        mask: cells count by the heat maps of the boxes, or all the same.
        mask_norm: with a mask, the mean over all elements, as in the code, or over those in cells with any heat.
        mask_clip: heat maps of several classes add up to more than 1 where they overlap, as in the code, or at most 1.
        min_overlap: of heat maps: IoU that a box within the radius of a Gaussian still has.
        min_radius: of heat maps (cells).
        project_at: the layer between both maps works on the whole map, as in the code, or only in the cells that
            count, at a fraction of the cost, so that its batch statistics are those of these cells.
    """

    enabled: bool = True
    teacher_map: Literal["lidar", "simulated"] = "lidar"
    mask: Literal["objects", "none"] = "objects"
    mask_norm: Literal["all", "mask"] = "all"
    mask_clip: Literal["none", 1] = "none"
    min_overlap: Share = 0.1
    min_radius: Few = 2
    project_at: Literal["map", "cells"] = "map"

    def __post_init__(self) -> None:
        if self.mask == "none" and self.project_at == "cells":
            raise ValueError("project_at: cells needs a mask: without one all cells count")

    @property
    def cells(self) -> GaussianMask:
        """Cells that may have heat: also those of boxes that the head has no class for, whose heat is 0."""
        return GaussianMask(self.min_overlap, self.min_radius, counted=self.project_at == "cells")


@dataclass(frozen=True, config=_STRICT)
class MmdPConfig:
    """Multi-modal distillation of predictions.

    Attributes:
        enabled: in use.
        quality: how much an object counts in the loss of boxes: all the same, by the teacher's score for its class in
            the cell of its centre, or by the overlap (3D IoU) of the teacher's box there with the annotated one.
        frames: losses are sums over the frames of a batch, on all processes and in all its parts (none), as they are
            written; or means over frames times this number: in the published training a process sums over 3 frames,
            and gradients are means over processes.
        double_sigmoid: a sigmoid is taken of scores, as in the code.
        mixed_counts: the teacher's positive cells are counted across the classes of a task, as in the code.
        padded_boxes: 500 boxes count in each task of each frame, as in the code: where there are less, the first cell
            of the map stands in.
        sine_difference: of the sine of the yaw the sine of the difference is taken, as in the code.
    """

    enabled: bool = True
    quality: Literal["none", "teacher_score", "iou"] = "none"
    frames: Annotated[float, Field(gt=0, le=1_000)] | None = None
    double_sigmoid: bool = False
    mixed_counts: bool = False
    padded_boxes: bool = False
    sine_difference: bool = False


@dataclass(frozen=True, config=_STRICT)
class SimDistillWeights:
    """Weights of the losses; 0 switches a loss off.

    Attributes:
        imd, cmd, mmd_f, mmd_p: those of the released code.
    """

    imd: Weight = 1.0
    cmd: Weight = 100.0
    mmd_f: Weight = 1.0
    mmd_p: Weight = 1.0


@register_settings("method", "simdistill")
@dataclass(frozen=True, config=_STRICT)
class SimDistillConfig(MethodSettings):
    """Options of SimDistill with the intended losses. The released code is `teacher_fuser: trained`, `mmd_p:
    {double_sigmoid: true, mixed_counts: true, padded_boxes: true, sine_difference: true}`.

    Attributes:
        weights: of the four losses.
        imd: camera maps.
        cmd: the simulated LiDAR map and the LiDAR map.
        mmd_f: fused maps.
        mmd_p: what the heads say.
        teacher_fuser: frozen like all of the teacher; or trained, as in the code: the losses behind it, `mmd_f` and
            `mmd_p`, then also pull what they compare the student with towards the student.
    """

    weights: SimDistillWeights = SimDistillWeights()
    imd: MapConfig = MapConfig()
    cmd: CmdConfig = CmdConfig()
    mmd_f: MapConfig = MapConfig()
    mmd_p: MmdPConfig = MmdPConfig()
    teacher_fuser: Literal["frozen", "trained"] = "frozen"

    def __post_init__(self) -> None:
        if self.trained and not BEHIND.intersection(self.on):
            raise ValueError("teacher_fuser: trained wants a loss behind the fuser: mmd_f or mmd_p")

    @property
    def on(self) -> tuple[Part, ...]:
        """The losses in use."""
        return losses_in_use(self, self.weights, PARTS)

    @property
    def trained(self) -> bool:
        """Whether the teacher's fuser learns."""
        return self.teacher_fuser == "trained"

    @property
    def needs_boxes(self) -> bool:
        """Where heat maps are made of them, or the heads are read at their centres."""
        return "mmd_p" in self.on or ("cmd" in self.on and self.cmd.mask == "objects")

    def taps(self) -> dict[str, Tap]:
        """Maps (B, H, W, C); of the LiDAR map cells under heat (n, C) and which they are; class logits (B, K, H, W);
        per box what the head says at its centre (N, R / tasks).
        """
        out: dict[str, Tap] = {}
        for name in self.on:
            if not (self.trained and name in BEHIND):
                out |= getattr(self, f"_{name}_taps")()
        return out | ({name: WholeMap(feature) for name, feature in self.into_fuser().items()} if self.trained else {})

    def behind_fuser(self) -> dict[str, Tap]:
        """Those taps that `mmd_f` and `mmd_p` read where the teacher's fuser does not learn."""
        return {k: tap for name in self.on if name in BEHIND for k, tap in getattr(self, f"_{name}_taps")().items()}

    def into_fuser(self) -> dict[str, str]:
        """The teacher's sensor maps by the names of the targets that bring them to a fuser which learns."""
        return {f"fuser_{feature}": feature for feature in ("camera", self.cmd.teacher_map)}

    def _imd_taps(self) -> dict[str, Tap]:
        return {"imd": MapRows("camera")}

    def _cmd_taps(self) -> dict[str, Tap]:
        if self.cmd.mask == "none":
            return {"cmd": MapRows(self.cmd.teacher_map)}
        cells = self.cmd.cells
        return {"cmd": CellValues(self.cmd.teacher_map, cells), "cmd_cell": CellIndex(cells=cells)}

    def _mmd_f_taps(self) -> dict[str, Tap]:
        return {"mmd_f": MapRows("low")}

    def _mmd_p_taps(self) -> dict[str, Tap]:
        padding: dict[str, Tap] = {"first_cell": FirstCell()} if self.mmd_p.padded_boxes else {}
        return {"logits": ClassLogits(), "centre_box": CentreRegression()} | padding
