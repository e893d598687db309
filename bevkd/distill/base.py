"""`DistillMethod`: one class per method, one file per class, registered by name.

A method declares what it taps of the teacher (exactly the cells, points and maps that its losses read), and compares
the student's outputs with these *targets*. The split is what makes a cached teacher equal to a live one: taps are read
by the same function, either in the step or once beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from bevkd.data.batch import Boxes, Cameras, Target, Targets
from bevkd.distill.crucial_points import crucial_points
from bevkd.distill.reading import read_taps
from bevkd.distill.sampling import PointPlan, point_plan
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap
from bevkd.geometry import BEVGrid
from bevkd.models.outputs import BEVOutputs, FeatureSpec

if TYPE_CHECKING:
    from bevkd.distill.adapters import MapAdapter

__all__ = ["Compared", "DistillContext", "DistillMethod", "FeatureSpec", "Target", "Targets"]


@dataclass
class DistillContext:
    """What a method may know besides the features.

    Attributes:
        grid: BEV grid of the maps.
        batch_size: number of frames B.
        boxes: annotations on labelled frames; on unlabelled frames the teacher's boxes stand in.
        labelled: (B,) bool.
        cameras, bev_aug: of the batch as the teacher sees it; where targets come from a cache, None.
        compact: whether targets keep only the cells that count, whose number has to be read back from the device. In a
            step with a live teacher on an accelerator it is False, and UniDistill's response then has all cells.
    """

    grid: BEVGrid
    batch_size: int
    boxes: Boxes
    labelled: Tensor
    cameras: Cameras | None = None
    bev_aug: Tensor | None = None
    compact: bool = True
    _plans: dict[tuple[int, int, int, bool], PointPlan] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def points(self) -> Tensor:
        """Normalised (gx, gy) of the nine crucial points of every box (N, 9, 2): computed once, read by all losses."""
        return self.grid.normalised(crucial_points(self.boxes.boxes.float()))

    def plan(self, maps: Tensor, kernel: int = 1, legacy_transpose: bool = False) -> PointPlan:
        """How `points` are read from maps of this size, see `point_plan`: made once for each way of reading."""
        key = (maps.shape[-2], maps.shape[-1], kernel, legacy_transpose)
        if key not in self._plans:
            self._plans[key] = point_plan(self.points, self.boxes.frame, key[:2], kernel, legacy_transpose)
        return self._plans[key]


@dataclass(frozen=True)
class Compared:
    """A loss, or several under one name, by the feature of the student and that of the teacher that it compares."""

    loss: str
    student: str
    teacher: str


class DistillMethod(nn.Module):
    """Base class of the methods.

    Attributes:
        Settings: frozen dataclass of options with the paper's defaults; it says what is tapped of the teacher. Where it
            stands in a module of its own, `<name>_settings.py`, look-ups need not load the method.
        wanted: the taps, and whether the teacher's boxes stand in on unlabelled frames. The engine computes no teacher
            part beyond what these read.
        factor: of all weighted losses, as a row's `method.factor` says; applied by the engine, not in `weights`.
    """

    Settings: ClassVar[type[MethodSettings]]
    factor: float = 1.0

    def __init__(self, config: MethodSettings, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__()
        self.config, self.student, self.teacher = config, student, teacher
        self.wanted = config.wanted()

    def taps(self) -> dict[str, Tap]:
        """What is read of the teacher, by the names of the targets."""
        return self.wanted.taps

    def targets(self, teacher: BEVOutputs, context: DistillContext) -> Targets:
        """Teacher targets of a batch, detached."""
        return read_taps(self.taps(), teacher, context)

    @property
    def uses_teacher(self) -> bool:
        """See `MethodSettings.uses_teacher`."""
        return self.config.uses_teacher

    @property
    def student_features(self) -> frozenset[str]:
        """What the losses read of the student, by default what is tapped of the teacher."""
        return self.wanted.features

    def compared(self) -> tuple[Compared, ...]:
        """Which features the losses compare, for diagrams; by default each tapped one with that of the same name."""
        return tuple(Compared(name, tap.feature, tap.feature) for name, tap in self.taps().items() if tap.feature)

    def take(self, teacher: nn.Module) -> None:
        """Copy what the losses train of the teacher itself; by default nothing.

        Raises:
            ConfigError: the teacher does not have it.
        """

    def map_adapters(self) -> dict[str, MapAdapter]:
        """Layers from whole maps of the student to those of the teacher, by feature; none by default."""
        return {}

    def weights(self) -> dict[str, float]:
        """Weight of each named loss; the engine applies them once."""
        raise NotImplementedError

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """Unweighted named scalar losses in float32; zero with a valid graph when there is nothing to compare."""
        raise NotImplementedError
