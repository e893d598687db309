"""How large a teacher cache will be, before it is built and without a tensor library: entries times bytes per tap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevkd.config import ModelConfig, RunConfig
from bevkd.distill.cache_key import teacher_config
from bevkd.distill.settings import method_settings
from bevkd.distill.tap import Wanted
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
            return int(bev.up_channels * len(bev.widths))
        stage = self.model.fuser if len(self.model.sensors) > 1 else getattr(self.model, self.model.sensors[0])
        return int(getattr(getattr(self.model, name, None) or stage, "out_channels", stage.out_channels))

    def cells(self, feature: str) -> int:
        """Cells of a BEV map."""
        grid, name = self.model.grid.build(), feature.split(".")[0]
        stride = self.model.bev.strides[int(name[1:])] if name.startswith("B") and name[1:].isdigit() else 1
        return int(grid.H * grid.W // stride**2)

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
    (labelled, unlabelled), boxes = expected_entries(run, readers)
    each = entry_bytes(run, teacher_config(run), boxes)
    return round((labelled + unlabelled) * each + _held(run).boxes * unlabelled * boxes * _BOX_ROW)


def entry_bytes(run: RunConfig, teacher: RunConfig, boxes: float = TYPICAL_BOXES) -> float:
    """About how many bytes one frame under one augmentation takes, teacher boxes left aside."""
    sizes = Sizes(teacher.model, boxes, _CAMERAS.get(run.data.kind, 6))
    return sum(tap.entry_bytes(sizes) for tap in _held(run).taps.values())


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
    augment = run.data.augment
    draws = [_draws(reader, frames[0]) for reader in readers or (run,)]
    out = []
    for part, (known, variants) in enumerate(
        zip(frames, (augment.variants, augment.unlabelled_variants or augment.variants), strict=True)
    ):
        drawn = [one[part] for one in draws]
        slots = 0 if known is None else known * variants
        # Each draw takes any of them: how many are hit at least once.
        out.append(slots * -math.expm1(-sum(drawn) / slots) if slots else max(drawn))
    return (out[0], out[1]), boxes


def _draws(run: RunConfig, labelled: int | None) -> tuple[float, float]:
    train = run.train
    steps = train.steps or train.epochs * (labelled or TYPICAL_FRAMES) / train.batch_size
    return steps * train.batch_size, steps * train.unlabelled_per_batch


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
