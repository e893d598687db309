"""The kinds of figures as typed rows of config/papers/*/figures.yaml; `bevkd.report.figures` draws them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config import RowConfig, RunConfig, load_run, tiers
from bevkd.config.bounds import Length, Name, NameOrNone, Pattern, Score, Share, Some, Words
from bevkd.config.chain import find_row, needed_by
from bevkd.config.comparisons import Pool, pool
from bevkd.config.tiers import Tier
from bevkd.errors import ConfigError, nearest
from bevkd.report.needs import Artefact, Need, Split, first_of, needs_of

_STRICT = ConfigDict(extra="forbid")
PUBLISHED = "paper"  # the scale whose networks are drawn, where a figure does not say


@dataclass(frozen=True, config=_STRICT)
class CurveSpec:
    """One labelled run of a figure."""

    label: Words
    run: Pool


@dataclass(frozen=True, config=_STRICT)
class PanelSpec:
    """One panel of a figure."""

    title: Words
    curves: tuple[CurveSpec, ...]


@dataclass(frozen=True, config=_STRICT)
class _Figure:
    name: Name
    title: Words
    caption: Words
    target: Tier = "all"
    part: NameOrNone = ""  # the paper (folder of config/papers) that it belongs to

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        raise NotImplementedError

    def needs(self, rows: Mapping[str, RowConfig]) -> list[Need]:
        """(run, seed) pairs that the figure reads.

        Raises:
            ConfigError: a run is unknown, or of a later tier than the figure.
        """
        needs = needs_of(self.runs(rows), rows, f"figure {self.name!r}")
        tiers.check(f"figure {self.name!r}", self.target, self.runs(rows), rows)
        return needs


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class LossCurves(_Figure):
    """Moving average of a logged loss, or of `det`, the unscaled detection loss; a panel per comparison."""

    kind: Literal["loss_curves"]
    panels: tuple[PanelSpec, ...]
    field: Name = "det"
    window: Share = 0.1  # of the number of steps

    artefacts: ClassVar[tuple[Artefact, ...]] = ("log",)

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        return [run for panel in self.panels for curve in panel.curves for run in pool(curve.run)]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class Dots(_Figure):
    """One metric of many runs as dots per seed, mean and 95 % interval."""

    kind: Literal["dots"]
    panels: tuple[PanelSpec, ...]
    metric: Words = "mAP"
    baseline: Pool | None = None  # drawn as a line through every panel

    artefacts: ClassVar[tuple[Artefact, ...]] = ("metrics",)

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        shown = [run for panel in self.panels for curve in panel.curves for run in pool(curve.run)]
        return [*shown, *pool(self.baseline or ())]


@dataclass(frozen=True, config=_STRICT)
class SeriesSpec:
    """A series of runs over the number of training steps; `runs` are ids or shell patterns (`curve_lidar_*`)."""

    label: Words
    runs: tuple[Pattern, ...]

    def resolve(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids, in file order.

        Raises:
            ConfigError: a pattern matches no run.
        """
        out: dict[str, None] = {}
        for pattern in self.runs:
            hits = fnmatch.filter(rows, pattern)
            if not hits:
                raise ConfigError(f"no run matches {pattern!r}{nearest(pattern, rows)}")
            out |= dict.fromkeys(hits)
        return list(out)


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class LearningCurves(_Figure):
    """Metrics against what training took, steps or core-seconds, one separately trained run per point."""

    kind: Literal["learning_curves"]
    series: tuple[SeriesSpec, ...]
    metrics: tuple[Words, ...] = ("mAP",)
    over: Literal["steps", "core_seconds"] = "steps"
    split: Split = "report"

    artefacts: ClassVar[tuple[Artefact, ...]] = ("metrics",)

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        return [run for series in self.series for run in series.resolve(rows)]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class TrainingCurves(_Figure):
    """Metrics over one training: of its snapshots (`train.snapshots`) and, last, of the model itself.

    Attributes:
        published: a table with columns of parts of the training (`mAP@training:1/6`): what it prints of these runs is
            drawn below ours.
    """

    kind: Literal["training_curves"]
    curves: tuple[CurveSpec, ...]
    published: NameOrNone = ""
    metrics: tuple[Words, ...] = ("mAP",)
    split: Split = "report"

    artefacts: ClassVar[tuple[Artefact, ...]] = ("snapshots",)

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        return [run for curve in self.curves for run in pool(curve.run)]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class _OfModels(_Figure):
    artefacts: ClassVar[tuple[Artefact, ...]] = ("model",)

    def needs(self, rows: Mapping[str, RowConfig]) -> list[Need]:
        """(run, seed) pairs that the figure reads: one seed per run.

        Raises:
            ConfigError: a run is unknown, or of a later tier than the figure.
        """
        return first_of(super().needs(rows), rows)


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class _Scenes(_OfModels):
    columns: tuple[CurveSpec, ...]
    frames: Some = 2  # report frames with most annotated boxes, from different scenes

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        return [run for column in self.columns for run in pool(column.run)]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class ResponseMaps(_Scenes):
    """Channel mean of the response features, one scene per row, one detector per column."""

    kind: Literal["response_maps"]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class Detections(_Scenes):
    """Boxes in BEV and on the cameras, one frame per figure block.

    Attributes:
        min_score: boxes below it are left out; null: as many boxes as the frame has annotations, best scores first.
    """

    kind: Literal["detections"]
    min_score: Score | None = None


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class GatedMaps(_Scenes):
    """The map of a sensor before and after its gate, seen from above, forward up; a detector of a frame per row.

    Attributes:
        sensor: whose map.
    """

    kind: Literal["gated_maps"]
    sensor: Literal["lidar", "camera", "radar"] = "camera"


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class AttentionMaps(_Scenes):
    """Spatial attention of the map before the head, seen from above, forward up; one scene per row, one detector per
    column (DistillBEV, Figure 7).
    """

    kind: Literal["attention_maps"]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class _OfOne(_OfModels):
    detector: CurveSpec
    frames: Some = 6  # report frames with most annotated boxes, from different scenes

    def __post_init__(self) -> None:
        if len(pool(self.detector.run)) > 1:
            raise ValueError("the figure is of a single run")

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        return [*pool(self.detector.run)]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class TopView(_OfOne):
    """Outlines of what one detector finds, and of the annotations, over the points of frames seen from above, on black
    (SimDistill, Figure 5).

    Attributes:
        min_score: boxes below it are left out; null: as many boxes as the frame has annotations, best scores first.
    """

    kind: Literal["top_view"]
    min_score: Score | None = 0.3


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class SamplingOffsets(_OfOne):
    """Where a compensation module gathers the features of the cell at a mis-lifted object (SimDistill, Figure 3). The
    object is chosen by the rule of `bevkd.report.lifted` among those of the frames, never by hand.

    Attributes:
        half: half a side of the region that is shown (m).
    """

    kind: Literal["sampling_offsets"]
    half: Length = 10.0


@dataclass(frozen=True, config=_STRICT)
class MapSpec:
    """One labelled map of every detector: the first of these features that its network has."""

    label: Words
    features: Name | tuple[Name, ...]

    def of(self, known: Collection[str], where: str) -> str:
        """The feature of a network that has those of `known`.

        Raises:
            ConfigError: it has none of them; the message names `where`.
        """
        wanted = (self.features,) if isinstance(self.features, str) else self.features
        found = next((name for name in wanted if name in known), None)
        if found is None:
            raise ConfigError(f"{where} has no map {' or '.join(map(repr, wanted))}{nearest(wanted[0], known)}")
        return found


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class BranchMaps(_Scenes):
    """BEV maps of the branches of several detectors, seen from above, forward up; a detector of a frame per row, a map
    per column (SimDistill).

    Attributes:
        maps: the columns; a student's simulated LiDAR map may stand above a teacher's LiDAR map.
    """

    kind: Literal["branch_maps"]
    maps: tuple[MapSpec, ...]
    frames: Some = 1

    def __post_init__(self) -> None:
        if not self.maps:
            raise ValueError("there are no maps to show")


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class Examples(_Figure):
    """Frames in which a distilled run finds or rejects what its student or its teacher does not, seen from above.

    What is shown is chosen by the rule of `bevkd.report.examples`, never by hand.

    Attributes:
        teacher: of the distilled run.
        student: the run before it was distilled.
        distilled: the run.
    """

    kind: Literal["examples"]
    teacher: CurveSpec
    student: CurveSpec
    distilled: CurveSpec

    artefacts: ClassVar[tuple[Artefact, ...]] = ("model", "matches")

    def __post_init__(self) -> None:
        if any(len(pool(one.run)) > 1 for one in (self.teacher, self.student, self.distilled)):
            raise ValueError("examples are of single runs")

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids that the figure shows."""
        return [pool(one.run)[0] for one in (self.teacher, self.student, self.distilled)]

    def needs(self, rows: Mapping[str, RowConfig]) -> list[Need]:
        """(run, seed) pairs that the figure reads: teacher, student and distilled run, the first seed of the last and
        what it learns and starts from.

        Raises:
            ConfigError: a run is unknown, or of a later tier than the figure.
        """
        super().needs(rows)
        *others, distilled = self.runs(rows)
        seed = rows[distilled].seeds[0]
        before = dict(needed_by(rows[distilled], seed))
        return [*((run, before.get(run, rows[run].seeds[0])) for run in others), (distilled, seed)]


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class _Networks(_Figure):
    scale: Name = PUBLISHED

    artefacts: ClassVar[tuple[Artefact, ...]] = ()

    def __post_init__(self) -> None:
        if any(len(pool(curve.run)) > 1 for curve in self.curves):
            raise ValueError("networks are drawn of single runs")

    @property
    def curves(self) -> list[CurveSpec]:
        """The runs whose networks are drawn."""
        raise NotImplementedError

    def settings(self, rows: Mapping[str, RowConfig]) -> list[RunConfig]:
        """The settings of the networks, in the order of `curves`.

        Raises:
            ConfigError: a run, or the scale, is unknown.
        """
        where = f"figure {self.name!r}"
        return [load_run(run, self.scale, find_row(run, rows, where).seeds[0]) for run in self.runs(rows)]

    def runs(self, rows: Mapping[str, RowConfig]) -> list[str]:
        """Run ids whose networks the figure shows."""
        return [pool(curve.run)[0] for curve in self.curves]

    def needs(self, rows: Mapping[str, RowConfig]) -> list[Need]:
        """None: it waits for no training, of whatever tier.

        Raises:
            ConfigError: a run, or the scale, is unknown.
        """
        self.settings(rows)
        return []


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class BEVEncoders(_Networks):
    """Layers and maps of the BEV encoders of a teacher and a student, and the adapters between the maps that a
    distilled run compares, as they are built from the settings of one scale. Nothing trained is read.

    Attributes:
        teacher: of the distilled run.
        student: the run before it was distilled.
        distilled: the run whose method says which maps are compared.
        scale: whose networks are drawn, at every scale.
    """

    kind: Literal["bev_encoders"]
    teacher: CurveSpec
    student: CurveSpec
    distilled: CurveSpec

    @property
    def curves(self) -> list[CurveSpec]:
        """Teacher, student and distilled run."""
        return [self.teacher, self.student, self.distilled]

    def settings(self, rows: Mapping[str, RowConfig]) -> list[RunConfig]:
        """The settings of teacher, student and distilled run.

        Raises:
            ConfigError: a run, or the scale, is unknown; the distilled run does not learn from this teacher, or has
                not the student's BEV encoder.
        """
        where = f"figure {self.name!r}"
        teacher, student, distilled = super().settings(rows)
        if distilled.row.teacher != teacher.run or distilled.row.method is None:
            raise ConfigError(f"{where}: {distilled.run!r} is not distilled from {teacher.run!r}")
        if distilled.model.bev != student.model.bev:
            raise ConfigError(f"{where}: {distilled.run!r} has another BEV encoder than {student.run!r}")
        return [teacher, student, distilled]


@dataclass(frozen=True, config=_STRICT)
class ArrowSpec:
    """How a loss is drawn.

    Attributes:
        label: what it is called.
        colour: as `#rrggbb`.
    """

    label: Words
    colour: Words

    def __post_init__(self) -> None:
        if not re.fullmatch("#[0-9a-fA-F]{6}", self.colour):
            raise ValueError(f"colour {self.colour!r} is not of the form #rrggbb")


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class Pipelines(_Networks):
    """Networks beside each other, each from its sensors to its head, with the sizes of its maps, as they are built from
    the settings of one scale; arrows lead from teachers to what is distilled from them, by loss. Nothing trained is
    read (SimDistill, Figures 1, 2 and 4).

    Attributes:
        panels: networks that stand together; a distilled one gets arrows from its teacher where this stands before it.
        losses: by their names in the method (`DistillMethod.compared`); others have these names, and colours of the
            palette.
        scale: whose networks are drawn, at every scale.
    """

    kind: Literal["pipelines"]
    panels: tuple[PanelSpec, ...]
    losses: dict[Words, ArrowSpec] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.panels or any(not panel.curves for panel in self.panels):
            raise ValueError("a panel shows one network at least")
        super().__post_init__()

    @property
    def curves(self) -> list[CurveSpec]:
        """Those of the panels."""
        return [curve for panel in self.panels for curve in panel.curves]


FigureConfig: TypeAlias = (
    LossCurves
    | Dots
    | LearningCurves
    | TrainingCurves
    | ResponseMaps
    | Detections
    | GatedMaps
    | AttentionMaps
    | Examples
    | BEVEncoders
    | Pipelines
    | TopView
    | BranchMaps
    | SamplingOffsets
)
FIGURES: dict[str, Any] = {
    get_args(cls.__pydantic_fields__["kind"].annotation)[0]: cls  # type: ignore[attr-defined]
    for cls in get_args(FigureConfig)
}
