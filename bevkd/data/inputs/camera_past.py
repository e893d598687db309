"""Earlier images of the same cameras and where they were taken from (DistillBEV spec, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from bevkd.data.augment import own_stream
from bevkd.data.batch import REPEATED_S, Batch, PastCameras
from bevkd.data.index import PAST_SECONDS
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.inputs.camera import cut_images, ring_of_cameras
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.reads import Camera, CameraPast
from bevkd.data.sample import Sample, as_float
from bevkd.errors import DataError
from bevkd.geometry import invert
from bevkd.registry import register

KEY = CameraPast.name
_FIELDS = ("images", "intrinsics", "ego_from_camera", "image_aug", "now_from_past", "seconds", "repeated")
_REPEATED = -1  # in place of the number of a set: the current images


@dataclass(frozen=True)
class _Geometry:
    """Of one set; see `PastCameras`."""

    intrinsics: NDArray[np.float64]
    ego_from_camera: NDArray[np.float64]
    now_from_past: NDArray[np.float64]


@dataclass(frozen=True)
class _Set:
    """Decoded RGB images, and where they were taken from."""

    images: list[Image]
    geometry: _Geometry


@dataclass(frozen=True)
class _View:
    """One set after image augmentation."""

    images: NDArray[np.uint8]
    image_aug: NDArray[np.float64]
    geometry: _Geometry


class _History:
    """The earlier sets of one frame; files are read when they are asked for, since of many sets one is looked at.

    Attributes:
        seconds: (S,) ages against the frame's own images, by the first camera; rising.
        places: (S,) of each set in a list of one every `PAST_SECONDS`.
    """

    def __init__(self, loader: FrameLoader, frame: int) -> None:
        assert loader.index.past is not None
        own, sensors = loader.records(frame, "camera"), loader.index.sensors
        rows = loader.index.past.sets(frame, len(own))
        self.loader, self.frame = loader, frame
        self._at = [[sensors.position[row] for row in one] for one in rows.tolist()]
        first = sensors.timestamp[[one[0] for one in self._at]].astype(np.int64)
        self.seconds = (sensors.timestamp[own[0]] - first) * 1e-6 if own else np.zeros(0)
        self.places = np.rint(self.seconds / PAST_SECONDS).astype(np.int64) - 1
        self._read: dict[int, _Set] = {}

    def get(self, number: int) -> _Set:
        """One set.

        Raises:
            DataError: a file is missing, unreadable, or of another size than its calibration was made for.
        """
        if number not in self._read:
            self._read[number] = self._load(self._at[number])
        return self._read[number]

    def forget(self) -> None:
        """Drop the decoded images."""
        self._read.clear()

    def _load(self, at: list[int]) -> _Set:
        index, sensors = self.loader.index, self.loader.index.sensors
        found = [self.loader.image(i) for i in at]
        global_from_past = sensors.global_from_ego[at[0]]
        geometry = _Geometry(
            intrinsics=np.stack([intrinsics for _, intrinsics in found]),
            ego_from_camera=invert(global_from_past) @ sensors.global_from_ego[at] @ sensors.ego_from_sensor[at],
            now_from_past=invert(index.global_from_ego[self.frame]) @ global_from_past,
        )
        return _Set([image for image, _ in found], geometry)


@register("input", KEY)
class CameraPastReader(InputReader[CameraPast]):
    """`extra["camera_past"]` of a batch, see `PastCameras`; of a sample its arrays, `camera_past.images` and so on.

    What is drawn, a set and image augmentation, comes from a stream of its own (`own_stream`).
    """

    def load(self, frame: int, raw: RawFrame) -> None:
        """Which sets there are; their files are read with the sample that looks at them."""
        raw.extra[KEY] = _History(self.loader, frame)

    def require(self, frames: Sequence[int]) -> None:
        """Some frames have no past, as the first of a scene; where none has, motion would be learnt from nothing.

        Raises:
            DataError: none of them has earlier images.
        """
        past = self.loader.index.past
        assert past is not None
        at = np.asarray(frames)
        if not (past.start[at + 1] > past.start[at]).any():
            what = f"none of {len(at)} frames has earlier images: camera sweeps and earlier keyframes are missing"
            raise DataError(what, file=past.path, field="sets")

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """One set, of the size of the current images.

        Raises:
            DataError: one of its files is missing, truncated or unreadable.
        """
        assert sample.cameras is not None
        # Plain arrays (`bevkd.api`) come without a history.
        history: _History | None = raw.extra.get(KEY)
        rng = None if change.rng is None else own_stream(change.rng, KEY)
        number = self._choose(history, rng)
        views: dict[int, _View] = self._once(frame, change, dict)
        if number not in views:
            views[number] = self._view(
                _current(raw) if history is None or number == _REPEATED else history.get(number), change, rng
            )
            if change.keep and history is not None:
                history.forget()  # what was made of them is kept
        view, repeated = views[number], number == _REPEATED
        seconds = REPEATED_S if history is None or repeated else history.seconds[number]
        parts = (view.images, view.geometry.intrinsics, view.geometry.ego_from_camera, view.image_aug)
        moved = (view.geometry.now_from_past, np.array(seconds), np.array(repeated))
        sample.extra |= {f"{KEY}.{name}": part for name, part in zip(_FIELDS, (*parts, *moved), strict=True)}

    def _choose(self, history: _History | None, rng: np.random.Generator | None) -> int:
        if history is None or len(history.places) == 0:
            return _REPEATED
        low, high = (self.declared.test,) * 2 if rng is None else self.declared.train
        off = np.maximum(low - history.places, history.places - high).clip(min=0)
        nearest = np.flatnonzero(off == off.min())
        return int(nearest[0] if rng is None else rng.choice(nearest))

    def _view(self, one: _Set, change: Change, rng: np.random.Generator | None) -> _View:
        camera = self.loader.reads.get(Camera)
        assert camera is not None
        cut = cut_images(one.images, one.geometry.intrinsics, camera, change.images, rng)
        return _View(*cut, one.geometry)

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """`PastCameras`."""
        assert samples[0].cameras is not None
        parts = {name: np.stack([s.extra[f"{KEY}.{name}"] for s in samples]) for name in _FIELDS}
        pixels = torch.from_numpy(parts.pop("images"))  # (B, N, H, W, 3)
        repeated = torch.from_numpy(parts.pop("repeated"))
        batch.extra[KEY] = PastCameras(
            images=pixels.movedim(-1, -3),
            repeated=repeated,
            mean=samples[0].cameras.mean,
            std=samples[0].cameras.std,
            **{name: as_float(part) for name, part in parts.items()},
        )

    @staticmethod
    def example(declared: CameraPast, batch: Batch, reach: float, returns: int) -> None:
        """Random images half a second before, five metres behind."""
        assert batch.cameras is not None
        _, count, _, height, width = batch.cameras.images.shape
        ring = ring_of_cameras((height, width), count)
        now_from_past = torch.eye(4)[None].clone()
        now_from_past[0, 0, 3] = -5.0
        batch.extra[KEY] = PastCameras(
            images=ring.images,
            intrinsics=ring.intrinsics,
            ego_from_camera=ring.ego_from_camera,
            image_aug=ring.image_aug,
            now_from_past=now_from_past,
            seconds=torch.full((1,), 0.5),
            repeated=torch.zeros(1, dtype=torch.bool),
        )


def _current(raw: RawFrame) -> _Set:
    assert raw.images is not None
    assert raw.intrinsics is not None
    assert raw.ego_from_camera is not None
    return _Set(raw.images, _Geometry(raw.intrinsics, raw.ego_from_camera, np.eye(4)))
