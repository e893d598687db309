"""How large a teacher cache will be, before it is built and without a tensor library: entries times bytes per tap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevkd.config import ModelConfig, RunConfig
from bevkd.config.schema import branches
from bevkd.distill.cache_key import teacher_config
from bevkd.distill.settings import method_settings
from bevkd.distill.tap import BOXES, Wanted, together
from bevkd.errors import ConfigError
from bevkd.splits import split_names

# Where there is no index yet: frames of nuScenes' training split, boxes in the range of a detector.
TYPICAL_FRAMES, TYPICAL_BOXES = 28_130, 20.0
_CAMERAS = {"nuscenes": 6, "waymo": 5, "kitti": 1}
_BOX_ROW = 11 * 4  # bytes of a teacher box
_REGRESSION = 10  # maps per task, one more with an IoU branch


@dataclass(frozen=True)
class Sizes:
    """What taps know of a network and its data to say how much they store; rough where it cannot be known.

    Attributes:
        model: the teacher's settings.
        boxes: per frame.
        cameras: of a frame.
        peak_cells, box_cells, confident_cells: per box.
        image_box_share: share of an image's cells that boxes touch.
    """

    model: ModelConfig
    boxes: float = TYPICAL_BOXES
    cameras: int = 6
    peak_cells: float = 4.0
    box_cells: float = 12.0
    confident_cells: float = 12.0
    image_box_share: float = 0.3

    def channels(self, feature: str) -> int:
        """Channels of a BEV map; those of F_low for one that is not known here."""
        name, bev = feature.removeprefix("gated.").split(".")[0], self.model.bev
        if name.startswith("B") and name[1:].isdigit():
            return int(bev.widths[int(name[1:])])
        if name == "high":
            return int(bev.high_channels)
        stage = self.model.fuser if len(self.model.maps) > 1 else getattr(self.model, self.model.sensors[0])
        of = next((s for s in self.model.sensors if name in branches(getattr(self.model, s))), name)
        named = getattr(self.model, of, None) or stage
        return int(getattr(named, "map_channels", getattr(named, "out_channels", stage.out_channels)))

    def cells(self, feature: str) -> int:
        """Cells of a BEV map."""
        name, low = feature.removeprefix("gated.").split(".")[0], self.model.grid.build().refined(self.model.finer)
        stride = self.model.finer if name in ("high", "heads") else 1
        if name.startswith("B") and name[1:].isdigit():
            stride = self.model.bev.strides[int(name[1:])]
        return int(low.H * low.W // stride**2)

    @property
    def tasks(self) -> int:
        """Groups of classes with regression maps of their own."""
        return len(self.model.head.tasks)

    @property
    def classes(self) -> int:
        """Heat maps."""
        return sum(len(task) for task in self.model.head.tasks)

    @property
    def regression_maps(self) -> int:
        """Dense regression maps of all tasks."""
        return self.tasks * (_REGRESSION + bool(getattr(self.model.head, "iou_branch", False)))

    def image(self, level: int) -> tuple[int, int]:
        """Channels of a level of the image backbone, counted from the coarsest (-1), and its cells in all images."""
        camera = self.model.camera
        options = camera.backbone.options
        first = options.get("embed_dim", 96)
        widths: Sequence[int] = options.get("hidden_sizes") or [
            first * 2**k for k in range(len(options.get("depths", range(4))))
        ]
        stride = 4 * 2 ** (len(widths) + level)
        height, width = camera.image_size
        return widths[level], self.cameras * (height // stride) * (width // stride)


def estimate_cache_bytes(run: RunConfig, readers: Sequence[RunConfig] = ()) -> int:
    """About how many bytes the teacher cache of a run will take.

    Args:
        run: a run with a cached teacher.
        readers: all runs that read the cache, this one included; default: this one alone.

    Raises:
        ConfigError: the run has no teacher.
    """
    counts, total = _counts(run), 0.0
    teacher, by_column = teacher_config(run), dict[str, list[RunConfig]]()
    everything = together(_held(reader) for reader in readers or (run,))
    for reader in readers or (run,):
        for column in _held(reader).columns:
            by_column.setdefault(column, []).append(reader)
    sizes = column_bytes(everything, teacher, run.data.kind, counts[1])
    for column, those in by_column.items():
        labelled, unlabelled = _expected(run, those, counts[0])
        total += unlabelled * counts[1] * _BOX_ROW if column == BOXES else (labelled + unlabelled) * sizes[column]
    return round(total)


def column_bytes(wanted: Wanted, teacher: RunConfig, data: str, boxes: float = TYPICAL_BOXES) -> dict[str, float]:
    """About how many bytes one frame under one augmentation takes by column, teacher boxes left aside.

    Args:
        wanted: what is stored.
        teacher: settings of the teacher.
        data: kind of the data set.
        boxes: per frame.
    """
    sizes = Sizes(teacher.model, boxes, _CAMERAS.get(data, 6))
    return {tap.column: tap.entry_bytes(sizes) for tap in wanted.taps.values()}


def _held(run: RunConfig) -> Wanted:
    if run.row.method is None:
        raise ConfigError(f"run {run.run!r} has no method to tap its teacher for")
    return method_settings(run.row.method).cached()


def expected_entries(run: RunConfig, readers: Sequence[RunConfig] = ()) -> tuple[tuple[float, float], float]:
    """About how many labelled and unlabelled frame variants runs read together, and boxes per frame.

    Without an index the frames of a real data set are not known: then it is as if no run read any twice that another
    reads too.
    """
    frames, boxes = _counts(run)
    return _expected(run, readers or (run,), frames), boxes


def adding(readers: Sequence[RunConfig], earlier: Sequence[RunConfig]) -> list[RunConfig]:
    """Those of some trainings that read of their cache what earlier ones do not: another tap, or other samples."""
    known: dict[Any, list[tuple[float, frozenset[str]]]] = {}
    for run in earlier:
        known.setdefault(_order(run), []).append((_steps(run, None), frozenset(_held(run).columns)))

    def covered(run: RunConfig) -> bool:
        there = (columns for steps, columns in known.get(_order(run), []) if steps >= _steps(run, None))
        return set(_held(run).columns) <= frozenset[str]().union(*there)

    return [run for run in readers if not covered(run)]


def _expected(
    run: RunConfig, readers: Sequence[RunConfig], frames: tuple[int | None, int | None]
) -> tuple[float, float]:
    augment = run.data.augment
    # Who shares the order of the frames draws the same, as far as the shorter training goes.
    longest: dict[Any, tuple[float, float]] = {}
    for reader in readers:
        longest[_order(reader)] = max(longest.get(_order(reader), (0.0, 0.0)), _draws(reader, frames[0]))
    out = []
    for part, (known, variants) in enumerate(
        zip(frames, (augment.variants, augment.unlabelled_variants or augment.variants), strict=True)
    ):
        drawn = [one[part] for one in longest.values()]
        slots = 0 if known is None else known * variants
        # Each draw takes any of them: how many are hit at least once.
        out.append(slots * -math.expm1(-sum(drawn) / slots) if slots else max(drawn))
    return out[0], out[1]


def _order(run: RunConfig) -> Any:
    """What decides which samples a training meets, but for their number."""
    train = run.train
    return run.seed, train.order, train.batch_size, train.unlabelled_per_batch, run.data.cbgs, train.switch_off


def _steps(run: RunConfig, labelled: int | None) -> float:
    return run.train.steps or run.train.epochs * (labelled or TYPICAL_FRAMES) / run.train.batch_size


def _draws(run: RunConfig, labelled: int | None) -> tuple[float, float]:
    steps = _steps(run, labelled)
    return steps * run.train.batch_size, steps * run.train.unlabelled_per_batch


def _counts(run: RunConfig) -> tuple[tuple[int | None, int | None], float]:
    """Labelled and unlabelled training frames and boxes per frame, as far as there is an index."""
    folder = Path(run.data.index)
    if not (folder / "frames.parquet").exists():
        return _planned(run), TYPICAL_BOXES
    from bevkd.data.index import FRAMES
    from bevkd.data.parquet import open_parquet, read_parquet

    table = read_parquet(folder / "frames.parquet", FRAMES, ["split", "labelled"])
    splits, marks = table["split"].to_pylist(), table["labelled"].to_pylist()
    wanted = split_names(run.data.train_split)
    chosen: list[Any] = [mark for split, mark in zip(splits, marks, strict=True) if split in wanted]
    subset = run.row.labelled_subset
    labelled = sum(mark is None or subset < 0 or subset in mark for mark in chosen) // run.data.train_stride
    limit = run.train.frames_limit or len(chosen)
    boxes = open_parquet(folder / "boxes.parquet").metadata.num_rows / max(1, len(splits))
    return (min(labelled, limit), max(0, len(chosen) - labelled)), boxes


def _planned(run: RunConfig) -> tuple[int | None, int | None]:
    """Labelled and unlabelled training frames of a simulated data set that has not been made; of a real one nothing."""
    if run.data.root != f"data/{run.data.kind}_sim/{run.scale}":
        return None, None
    from bevkd.sim import WRITERS

    config = WRITERS[run.data.kind][1][run.scale]
    frames = config.splits.train * config.splits.keyframes_per_scene
    labelled = (frames if run.row.labelled_subset < 0 else config.labelled.count) // run.data.train_stride
    return min(labelled, run.train.frames_limit or frames), frames - labelled
