"""`FrameDataset`: frames of an index, augmented replayably, with only what a network reads."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import LABEL_INDEX
from bevkd.config.schema import BEVAugmentConfig, DataConfig, ModelConfig
from bevkd.data.augment import (
    BEVTransform,
    draw_bev,
    fresh_generator,
    variant_bev,
    variant_generator,
    variant_of,
)
from bevkd.data.index import FrameIndex
from bevkd.data.inputs.base import Change
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.paste import GTPaste, LabelledCloud, build_paste_database, is_whole
from bevkd.data.present import require_data_set
from bevkd.data.reads import Camera, Lidar, Reads, reads_of
from bevkd.data.sample import Sample, collate
from bevkd.data.store import SampleStore, store_beside
from bevkd.data.targets import TargetCounts, count_targets
from bevkd.errors import ConfigError, DataError
from bevkd.geometry import box_corners
from bevkd.io import digest
from bevkd.locks import waiting_for

__all__ = ["EVERY_LABEL", "FrameDataset", "Sample", "collate"]

log = logging.getLogger(__name__)

EVERY_LABEL = -1  # as `labelled_subset`: pass over the lists, for upper bounds


class FrameDataset:
    """Frames of one split.

    Args:
        data: which data set, classes, augmentation.
        model: decides the grid, and what is read unless `reads` says so.
        split: split of the index; several are joined by `+`.
        train: augmentation on, and labelled lists apply. Otherwise every frame of the split is there, labelled, as
            variant 0.
        seed: of augmentations that are drawn afresh each epoch and of the choice among fixed variants.
        frames: `labelled` keeps the labelled frames only; `all` adds unlabelled ones: the keyframes outside of the
            labelled list or, where a data set has no such list, the LiDAR sweeps between keyframes (if cameras recorded
            there too).
        labelled_subset: which of the data set's labelled lists is used; -1: every keyframe is labelled.
        reads: what to read of each frame; default: what `model`, trained on `data`, reads, but for the targets of
            losses where it is not trained.

    Attributes:
        tokens: one per frame.
        labelled: (n,) whether the annotations of a frame may be used.
        timestamps: one per frame (microseconds).
        global_from_ego: (n, 4, 4) ego pose of each frame.
        weather, lighting, scenes, locations: one word per frame.
        categories: own category names and the classes they count as.

    Raises:
        ConfigError: unknown split or labelled subset, or settings that exclude each other.
        DataError: no frame, or a frame without a sensor that is needed.
    """

    def __init__(
        self,
        data: DataConfig,
        model: ModelConfig,
        split: str,
        *,
        train: bool,
        seed: int,
        frames: Literal["labelled", "all"] = "labelled",
        labelled_subset: int = 0,
        reads: Reads | None = None,
    ) -> None:
        self.data, self.model, self.split, self.train, self.seed = data, model, split, train, seed
        self.labelled_subset = labelled_subset
        if reads is None:
            reads = reads_of(model, data) if train else reads_of(model, data).without_targets()
        self.reads = reads
        require_data_set(data)
        self.index = FrameIndex.open(
            data.index,
            split,
            sensors=tuple(dict.fromkeys((*reads.records, *(("camera",) if data.boxes_in_view else ())))),
            between=train and frames == "all",
            camera_sweeps=reads.camera_sweeps,
            camera_past=reads.camera_past,
            categories=data.categories,
        )
        self._check_format()
        self.categories: dict[str, str | None] = {**self.index.facts.get("categories", {}), **data.categories}
        labelled = self._labelled_mask()
        keep = labelled if train and frames == "labelled" else np.ones(len(labelled), dtype=bool)
        if train and frames == "all" and self.index.facts["labelled_subsets"] is not None:
            keep = self.index.keyframe.copy()  # the labelled list already says which frames are unlabelled
        if train and data.train_stride > 1:
            keep &= self._every(data.train_stride)
        self._loader = FrameLoader(self.index, data.root, reads, data.rescale_images, data.link_targets)
        keep = self._with_sensors(keep)
        self._frames = np.flatnonzero(keep)
        if len(self._frames) == 0:
            listed = train and frames == "labelled" and not labelled.any()
            what = f"no frame of the split is in labelled subset {labelled_subset}" if listed else "no frame"
            raise DataError(f"nothing to look at: {what}", file=data.index, field=split)
        self.labelled: NDArray[np.bool_] = labelled[self._frames]
        columns = self.index.columns
        self.tokens = [columns["token"][i] for i in self._frames]
        self.weather = [columns["weather"][i] for i in self._frames]
        self.lighting = [columns["lighting"][i] for i in self._frames]
        self.scenes = [columns["scene_name"][i] for i in self._frames]
        self.locations = [columns["location"][i] for i in self._frames]
        self.timestamps: list[int] = self.index.timestamp[self._frames].tolist()
        self.global_from_ego = self.index.global_from_ego[self._frames]
        self._check_sensors()
        classes = np.array([LABEL_INDEX[name] for name in data.classes], dtype=np.int64)
        boxes = self.index.boxes
        self._of_classes = np.isin(boxes.labels, classes)
        if data.boxes_in_view:
            self._of_classes &= self._boxes_seen()
        self._usable = self._of_classes & (boxes.points >= data.min_points)
        self._images = data.augment.image if train and data.augment.image.enabled else None
        self._raw: dict[int, RawFrame] = {}
        self._paste = self._open_paste() if train and data.augment.gt_paste else None
        self._store = self._open_store()

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, i: int, epoch: int) -> Sample:
        """Frame `i` as an epoch sees it: a pure function of (seed, epoch, token).

        Raises:
            DataError: a sensor file is missing, truncated or unreadable.
        """
        if not self.train:
            return self._replayed(i, 0)
        if self.variant_count(i) > 0:
            return self.get_variant(i, self.variant_in(i, epoch, self.seed))
        rng = fresh_generator(self.seed, epoch, self.tokens[i])
        return self._sample(i, -1, draw_bev(self.data.augment.bev, rng), rng)

    def variant_in(self, i: int, epoch: int, seed: int) -> int:
        """Which of its fixed augmentations frame `i` has in an epoch of a training with some seed."""
        return variant_of(seed, epoch, self.tokens[i], self.variant_count(i))

    def without(self, what: frozenset[str]) -> FrameDataset:
        """The same frames with parts of their augmentation left out: `gt_paste`, `augment.image`, `augment.bev`."""
        augment = self.data.augment
        changes: dict[str, Any] = {}
        if "gt_paste" in what:
            changes["gt_paste"] = {}
        if "augment.image" in what:
            changes["image"] = replace(augment.image, enabled=False)
        if "augment.bev" in what:
            changes["bev"] = BEVAugmentConfig()
        out = copy.copy(self)
        out.data = replace(self.data, augment=replace(augment, **changes))
        out._paste = None if "gt_paste" in what else self._paste
        if self._images is not None and "augment.image" in what:
            # What is kept in memory of images that never change is not what is kept of those that do.
            out._images, out._raw = None, {}
            data = self.data
            out._loader = FrameLoader(self.index, data.root, self.reads, data.rescale_images, data.link_targets)
        out._store = out._open_store()
        return out

    def forget(self) -> None:
        """Drop the decoded frames that `data.memory_cache` keeps."""
        self._raw.clear()
        for reader in self._loader.inputs:
            reader.forget()

    def variant_count(self, i: int) -> int:
        """How many fixed augmentations frame `i` has; in training 0 where they are drawn afresh each epoch."""
        augment = self.data.augment
        if not self.train:
            return 1
        if self.labelled[i] or augment.unlabelled_variants == 0:
            return augment.variants
        return min(augment.variants, augment.unlabelled_variants)

    def get_variant(self, i: int, variant: int) -> Sample:
        """Frame `i` with one of its fixed augmentations, the same in every run.

        Without training there is variant 0 only, the frame as it is.

        Raises:
            ConfigError: there is no such variant.
            DataError: a sensor file is missing, truncated or unreadable.
        """
        count = self.variant_count(i)
        if not 0 <= variant < count:
            raise ConfigError(f"variant {variant} of frame {self.tokens[i]} does not exist, there are {count}")
        return self._replayed(i, variant)

    def boxes(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Usable annotations of frame `i` before augmentation: boxes (M, 9), NaN velocity set to 0, and labels (M,)."""
        table, rows = self.index.boxes, self._rows(i)
        return np.nan_to_num(table.boxes[rows]), table.labels[rows]

    def _rows(self, i: int) -> NDArray[np.int64]:
        rows = self._all_rows(i)
        return rows[self._usable[rows]]

    def _all_rows(self, i: int) -> NDArray[np.int64]:
        frame, start = int(self._frames[i]), self.index.boxes.start
        return np.arange(start[frame], start[frame + 1])

    def annotations(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Boxes (M, 9), labels (M,) and difficulties (M,) of frame `i` as a benchmark counts them: every box of the
        classes with a LiDAR point, whatever `data.min_points` says of training.
        """
        table, rows = self.index.boxes, self._all_rows(i)
        rows = rows[self._of_classes[rows] & (table.lidar_points[rows] > 0)]
        return np.nan_to_num(table.boxes[rows]), table.labels[rows], table.difficulty[rows]

    def seen(self, i: int, centres: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which centres (M, 3+) in the ego frame of frame `i`, not augmented, a camera sees (M,).

        Raises:
            DataError: the frame has no camera.
        """
        return self._loader.seen(int(self._frames[i]), np.asarray(centres, dtype=np.float32), "data.boxes_in_view")

    def _boxes_seen(self) -> NDArray[np.bool_]:
        """Which boxes of the index a camera sees; those of frames that are not looked at count as not seen."""
        table = self.index.boxes
        out = np.zeros(len(table.labels), dtype=bool)
        for i in range(len(self)):
            rows = self._all_rows(i)
            out[rows] = self.seen(i, table.boxes[rows])
        return out

    @property
    def has_annotations(self) -> bool:
        """Whether the split has any box at all: those of a test set are not published."""
        return len(self.index.boxes.labels) > 0

    def class_lists(self) -> list[list[int]]:
        """For class-balanced sampling: for each class the labelled frames that contain it."""
        lists: list[list[int]] = [[] for _ in self.data.classes]
        position = {LABEL_INDEX[name]: at for at, name in enumerate(self.data.classes)}
        for i in np.flatnonzero(self.labelled):
            for label in np.unique(self.learnt_labels(int(i))):
                lists[position[int(label)]].append(int(i))
        return lists

    def learnt_labels(self, i: int) -> NDArray[np.int64]:
        """Labels (M,) of what can be learnt from frame `i`."""
        return self.boxes(i)[1]

    def __iter__(self) -> Iterator[Sample]:
        """Every frame once, as epoch 0 sees it."""
        return (self.get(i, 0) for i in range(len(self)))

    def _every(self, stride: int) -> NDArray[np.bool_]:
        """Every `stride`-th keyframe of each scene, in the order of time, and no frame between keyframes."""
        seen: dict[str, int] = {}
        keep = np.zeros(len(self.index), dtype=bool)
        for i in np.argsort(self.index.timestamp, kind="stable"):
            if self.index.keyframe[i]:
                name = self.index.columns["scene_name"][i]
                seen[name] = seen.get(name, -1) + 1
                keep[i] = seen[name] % stride == 0
        return keep

    def _labelled_mask(self) -> NDArray[np.bool_]:
        index = self.index
        subsets = index.facts["labelled_subsets"]
        # Where there are lists, a frame without any is one without labels.
        annotated = np.array([subsets is None or held is not None for held in index.subsets], dtype=bool)
        if not self.train:
            return annotated
        if subsets is None or self.labelled_subset == EVERY_LABEL:
            return index.keyframe & annotated
        if self.labelled_subset not in subsets:
            raise ConfigError(f"index {index.folder} has no labelled subset {self.labelled_subset}; it has {subsets}")
        return np.array([self.labelled_subset in (held or ()) for held in index.subsets])

    def target_counts(self, limit: int | None = None) -> TargetCounts:
        """What becomes of the boxes of the labelled frames (of the first `limit` frames) before a loss sees them."""
        members = np.flatnonzero(self.labelled[:limit])
        rows = np.concatenate([self._all_rows(int(i)) for i in members]) if len(members) else np.zeros(0, np.int64)
        inside = self._in_range(np.nan_to_num(self.index.boxes.boxes[rows]))
        return count_targets(
            self.index.boxes, rows, len(members),
            of_classes=self._of_classes, inside=inside, min_points=self.data.min_points,
        )  # fmt: skip

    def require_targets(self, limit: int | None = None) -> None:
        """Refuse to train where there is nothing to learn.

        Raises:
            DataError: no frame has what a kind of input is about; or no labelled frame has a usable box, the message
                counts what each filter drops.
        """
        for reader in self._loader.inputs:
            reader.require(self._frames[:limit].tolist())
        self.target_counts(limit).require(Path(self.data.index), self.split)

    def _check_format(self) -> None:
        """Whether frames of the index have boxes in 3D; see `bevkd.data.image_frames` for those that have none.

        Raises:
            ConfigError: they have none.
        """
        if "objects" in self.index.facts:
            raise ConfigError(f"index {self.data.index} is of images with 2D labels: there is nothing in 3D to look at")

    def _with_sensors(self, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Without frames that lack a sensor because it was not downloaded, as the conversion has counted.

        Raises:
            DataError: there is no other frame.
        """
        if not self.index.facts.get("missing"):
            return keep
        out = keep.copy()
        for sensor in self.reads.sensors:
            counts = np.array([len(self._loader.records(int(i), sensor)) for i in range(len(keep))])
            most = int(counts[keep].max(initial=0)) if sensor == "camera" else 1
            out &= counts >= max(1, most)
        if (left := int((keep & ~out).sum())) == 0:
            return keep
        what = (
            f"split {self.split}: {left} of {int(keep.sum())} frames lack the files of {', '.join(self.reads.sensors)}"
        )
        if not out.any():
            missing = ", ".join(f"{name}: {count}" for name, count in self.index.facts["missing"].items())
            message = f"{what}, which were not there when the index was made ({missing})"
            raise DataError(message, file=self.index.folder, field=self.split)
        log.warning("%s and are left out", what)
        return out

    def _check_sensors(self) -> None:
        """Every frame must have every sensor, and all frames the same number of cameras."""
        cameras: int | None = None
        for i, frame in enumerate(self._frames):
            for modality in self.reads.sensors:
                count = len(self._loader.records(int(frame), modality))
                expected = cameras if modality == "camera" and cameras is not None else max(1, count)
                if count == 0 or (modality == "camera" and count != expected):
                    raise DataError(
                        f"frame has {count} {modality} records, expected {expected}",
                        file=self.index.folder / "frames.parquet", token=self.tokens[i], field="key",
                    )  # fmt: skip
                cameras = count if modality == "camera" else cameras

    def _open_paste(self) -> GTPaste:
        """The paste database of the labelled frames, beside the index; built when it is not there yet."""
        lidar = self.reads.get(Lidar)
        unseen = not all(reader.pastes for reader in self._loader.inputs)
        if lidar is None or (unseen and not self.data.augment.paste_unseen):
            raise ConfigError(
                f"gt_paste is for LiDAR-only data sets, this one loads {', '.join(self.reads.names)}"
                " (data.augment.paste_unseen pastes what the other sensors do not show)"
            )
        data, index = self.data, Path(self.data.index)
        facts = self.index.facts
        sweeps = [lidar.sweeps, lidar.stride]
        made_of = [facts["source"], self.split, self.labelled_subset, sweeps, data.min_points, data.classes]
        made_of += [data.train_stride] * (data.train_stride > 1) + ["in view"] * lidar.in_view
        made_of += ["boxes in view"] * data.boxes_in_view
        made_of += [data.categories] * bool(data.categories)  # they decide the labels that are pasted
        folder = index.parent / f"{index.name}_paste" / digest(made_of)
        if not is_whole(folder):
            with waiting_for(folder):
                if not is_whole(folder):  # another process may have made it meanwhile
                    self.require_targets()
                    build_paste_database((self._cloud(int(i)) for i in np.flatnonzero(self.labelled)), folder)
        return GTPaste(folder, data.augment.gt_paste)

    def _cloud(self, i: int) -> LabelledCloud:
        points = self._loader.load(int(self._frames[i])).points
        assert points is not None
        return LabelledCloud(self.tokens[i], points, *self.boxes(i))

    def _open_store(self) -> SampleStore | None:
        """Where samples are kept that every run makes alike; None where there is no such place or no such sample.

        Without images or pasted objects there is none: to move points costs little more than to read them, and less
        than to write them.
        """
        data = self.data
        worth = self.reads.get(Camera) is not None or self._paste is not None
        if data.store_gb == 0 or (self.train and data.augment.variants == 0) or not worth:
            return None
        augment: list[Any] = [repr(data.augment.bev), repr(self._images)] if self.train else []
        made_of = {
            "index": [self.index.facts, str(Path(data.root).resolve())],
            "reads": [repr(one) for one in self.reads.inputs],
            "grid": repr(self.model.grid),
            "boxes": [data.classes, data.categories, data.min_points, data.box_range, data.boxes_in_view],
            "images": [data.rescale_images],
            "augment": augment,
        }
        if self._paste is not None:  # its database says of which frames it was made
            made_of["paste"] = [data.augment.gt_paste, self._paste.folder.name]
        if files := {one.declared.name: one.files() for one in self._loader.inputs if one.files() is not None}:
            made_of["files"] = files
        readers = [self._loader.files, *self._loader.inputs]
        return store_beside(Path(data.index), made_of, readers, data.store_gb)

    def _replayed(self, i: int, variant: int) -> Sample:
        """Frame `i` with one of its fixed augmentations, or as it is: out of the store, or made and put there."""
        store = self._store
        if store is None:
            return self._made(i, variant)
        sample = store.read(self.tokens[i], variant, bool(self.labelled[i]))
        if sample is None:
            sample = self._made(i, variant)
            store.write(sample)
        return sample

    def _made(self, i: int, variant: int) -> Sample:
        if not self.train:
            return self._sample(i, 0, BEVTransform(), None)
        rng = variant_generator(self.tokens[i], variant)
        return self._sample(i, variant, variant_bev(self.data.augment, variant, rng), rng)

    def _load(self, i: int) -> RawFrame:
        if i in self._raw:
            return self._raw[i]
        raw = self._loader.load(int(self._frames[i]))
        if self.data.memory_cache:
            self._raw[i] = raw
        return raw

    def _sample(self, i: int, variant: int, bev: BEVTransform, rng: np.random.Generator | None) -> Sample:
        raw = self._load(i)
        boxes, labels = self.boxes(i) if self.labelled[i] else (np.zeros((0, 9)), np.zeros(0, dtype=np.int64))
        if self._paste is not None and raw.points is not None and rng is not None and self.labelled[i]:
            own = len(boxes)
            points, boxes, labels = self._paste.paste(raw.points, boxes, labels, rng)
            raw = replace(raw, points=points)
            for reader in self._loader.inputs if len(boxes) > own else ():
                raw = reader.cleared(raw, boxes[own:])
        boxes = bev.boxes(boxes)
        inside = self._in_range(boxes)
        matrix = bev.matrix()
        sample = Sample(
            token=self.tokens[i],
            variant=variant,
            labelled=bool(self.labelled[i]),
            bev_aug=matrix,
            boxes=boxes[inside],
            labels=labels[inside],
            inputs=self.reads.names,
        )
        keep = self.data.memory_cache and self._images is None
        change = Change(matrix, self.model.grid.area, self._images, rng, keep)
        for reader in self._loader.inputs:
            reader.augment(int(self._frames[i]), raw, sample, change)
        if keep and raw.images is not None:
            raw.images, raw.key_points = [], None  # what was made of them is kept
        return sample

    def _in_range(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Boxes that have a corner in the range that encoders see and, but for `data.box_range`, their centre there."""
        grid, area = self.model.grid, self.model.grid.area
        if len(boxes) == 0:
            return np.zeros(0, dtype=bool)
        corners = box_corners(boxes)
        corner_in = area.holds(corners.reshape(-1, 3)).reshape(len(boxes), 8)
        corner_in &= (corners[..., 2] >= grid.z_min) & (corners[..., 2] <= grid.z_max)
        if self.data.box_range == "corner":
            return np.asarray(corner_in.any(axis=-1))
        centre_in = area.holds(boxes) & (boxes[:, 0] < area.x_max) & (boxes[:, 1] < area.y_max)
        return np.asarray(corner_in.any(axis=-1) & centre_in)
