"""One frame as it lies on disk: merged points, radar and images, all in the ego frame of the keyframe."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from bevkd.data.checks import check_size
from bevkd.data.index import FrameIndex
from bevkd.data.inside import Inside
from bevkd.data.points import Points, in_view
from bevkd.data.reads import Reads
from bevkd.errors import DataError
from bevkd.geometry import invert
from bevkd.registry import lookup

if TYPE_CHECKING:
    from bevkd.data.inputs.base import InputReader

log = logging.getLogger(__name__)


@dataclass
class RawFrame:
    """A frame before augmentation.

    Attributes:
        points: (P, 5) key sweep and previous sweeps: x, y, z, intensity, dt; None when not asked for.
        key_points: (K, 3+) points of the key sweep alone; None when not asked for.
        radar: (R, 7); None when not asked for.
        images: decoded RGB images, one per camera; None when not asked for.
        intrinsics, ego_from_camera: (N, 3, 3) and (N, 4, 4) of those cameras.
        extra: parts of new kinds of input, by name.
    """

    points: NDArray[np.float32] | None = None
    key_points: NDArray[np.float32] | None = None
    radar: NDArray[np.float32] | None = None
    images: list[Image] | None = None
    intrinsics: NDArray[np.float64] | None = None
    ego_from_camera: NDArray[np.float64] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def open_files(facts: Mapping[str, Any], root: str | Path, link_targets: Sequence[str] = ()) -> Any:
    """The reader of the sensor files of an index.

    Args:
        facts: the stamp of the index.
        root: folder that its file names are relative to.
        link_targets: folders outside of it that links within it may lead to.
    """
    more: dict[str, Any] = {"link_targets": tuple(link_targets)} if link_targets else {}
    if columns := facts.get("point_columns"):
        more["point_columns"] = columns
    return lookup("reader", facts["reader"])(root, **more)


@cache
def _say_once(root: Path, known: tuple[int, int], found: tuple[int, int]) -> None:
    log.warning(
        "%s: images of %dx%d instead of %dx%d: intrinsics are scaled with them (data.rescale_images)",
        root, *found, *known,
    )  # fmt: skip


class FrameLoader:
    """Reads frames of an index.

    Args:
        index: the frames.
        root: folder that the file names of the index are relative to.
        reads: what to read of a frame.
        rescale: images may have another size than their calibration was made for.
        link_targets: folders outside of the root that links within it may lead to.

    Attributes:
        inside: file names as paths below the root.
        files: reads sensor files of this kind of data set.
        inputs: readers of what is declared, those that need others last.

    Raises:
        ConfigError: an input that no reader knows, that needs another one, or that an index does not hold.
    """

    def __init__(
        self,
        index: FrameIndex,
        root: str | Path,
        reads: Reads,
        rescale: bool = False,
        link_targets: Sequence[str] = (),
    ) -> None:
        reads.check()
        self.index, self.root, self.reads = index, Path(root), reads
        self.inside = Inside(root, link_targets)
        self.files = open_files(index.facts, root, link_targets)
        self.rescale = rescale or bool(index.facts.get("rescale_images"))
        self.inputs: list[InputReader[Any]] = [lookup("input", one.name)(one, self) for one in reads.inputs]

    def records(self, frame: int, modality: str) -> list[int]:
        """Positions in `index.sensors` of the key records of a modality, in channel order."""
        sensors = self.index.sensors
        rows = (sensors.position.get(row, -1) for row in self.index.key[frame])
        return [at for at in rows if at >= 0 and sensors.modality[at] == modality]

    def seen(self, frame: int, points: Points, setting: str) -> NDArray[np.bool_]:
        """Which points (P, 3+) of the ego frame lie in the image of some camera, as `setting` asks.

        Raises:
            DataError: the frame has no camera.
        """
        at, sensors = self.records(frame, "camera"), self.index.sensors
        if not at:
            raise DataError(
                f"nobody knows what the cameras see where there are none: set {setting} to false",
                file=self.index.folder, token=self.index.columns["token"][frame], field="camera",
            )  # fmt: skip
        poses = self.ego_from_sensor(frame, at)
        return in_view(points, poses, sensors.intrinsics[at], sensors.size[at])

    def image(self, at: int) -> tuple[Image, NDArray[np.float64]]:
        """The image of a record, and the intrinsics (3, 3) of an image of its size.

        Raises:
            DataError: it is missing, unreadable, or of another size than its calibration was made for.
        """
        sensors = self.index.sensors
        found = self.files.image(sensors.filename[at], sensors.token[at])
        intrinsics, known = sensors.intrinsics[at], tuple(sensors.size[at].tolist())
        if found.size == known or min(known) <= 0:
            return found, intrinsics
        if not self.rescale:
            check_size(found.size, known, self.root / sensors.filename[at], sensors.token[at])
        scale = (found.size[0] / known[0], found.size[1] / known[1])
        _say_once(self.root, known, found.size)
        # Pixels count from their edges: resized by s, a point at u is at exactly s * u.
        return found, np.diag([*scale, 1.0]) @ intrinsics

    def load(self, frame: int) -> RawFrame:
        """Read one frame.

        Raises:
            DataError: a file is missing, truncated or unreadable.
        """
        raw = RawFrame()
        for reader in self.inputs:
            reader.load(frame, raw)
        return raw

    def ego_from_sensor(self, frame: int, at: list[int]) -> NDArray[np.float64]:
        """Sensor frames at their own time stamps to the ego frame of the keyframe, through global poses: (S, 4, 4)."""
        sensors = self.index.sensors
        ego_from_global = invert(self.index.global_from_ego[frame])
        return np.asarray(ego_from_global @ sensors.global_from_ego[at] @ sensors.ego_from_sensor[at])

    def ages(self, frame: int, at: list[int]) -> NDArray[np.float64]:
        """Seconds by which records are older than the frame."""
        return np.asarray((self.index.timestamp[frame] - self.index.sensors.timestamp[at]) * 1e-6)

    def radar_records(self, frame: int, sweeps: int) -> list[int]:
        """Positions of the key records of all radars and of so many earlier ones of each."""
        sensors = self.index.sensors
        at = self.records(frame, "radar")
        taken: dict[str, int] = {}
        for row in self.index.radar_sweeps[frame]:  # grouped by radar, newest first
            i = sensors.position[row]
            taken[sensors.channel[i]] = taken.get(sensors.channel[i], 0) + 1
            if taken[sensors.channel[i]] <= sweeps:
                at.append(i)
        return at
