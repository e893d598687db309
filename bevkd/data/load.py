"""One frame as it lies on disk: merged points, radar and images, all in the ego frame of the keyframe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from bevkd.data.index import FrameIndex
from bevkd.data.points import Points, merge_sweeps, multiply, transform
from bevkd.data.radar import RadarFilter, merge_radar, read_radar
from bevkd.geometry import invert
from bevkd.registry import lookup


@dataclass
class RawFrame:
    """A frame before augmentation.

    Attributes:
        points: (P, 5) key sweep and previous sweeps: x, y, z, intensity, dt; None when not asked for.
        key_points: (K, 3+) points of the key sweep alone; None when not asked for.
        radar: (R, 7); None when not asked for.
        images: decoded RGB images, one per camera; None when not asked for.
        intrinsics, ego_from_camera: (N, 3, 3) and (N, 4, 4) of those cameras.
    """

    points: NDArray[np.float32] | None = None
    key_points: NDArray[np.float32] | None = None
    radar: NDArray[np.float32] | None = None
    images: list[Image] | None = None
    intrinsics: NDArray[np.float64] | None = None
    ego_from_camera: NDArray[np.float64] | None = None


class FrameLoader:
    """Reads frames of an index.

    Args:
        index: the frames.
        root: folder that the file names of the index are relative to.
        sensors: modalities to load.
        lidar_sweeps: previous LiDAR sweeps to merge.
        lidar_sweep_stride: take every k-th previous sweep.
        lidar_in_view: drop LiDAR points that no camera of the frame sees.
        radar_sweeps: previous sweeps to merge per radar.
        key_points: also the key sweep alone (for depth targets).
        radar_filter: radar points to keep.
    """

    def __init__(
        self,
        index: FrameIndex,
        root: str | Path,
        *,
        sensors: tuple[str, ...],
        lidar_sweeps: int,
        radar_sweeps: int,
        lidar_sweep_stride: int = 1,
        lidar_in_view: bool = False,
        key_points: bool = False,
        radar_filter: RadarFilter | None = None,
    ) -> None:
        self.index, self.root, self.sensors = index, Path(root), sensors
        self.files = lookup("reader", index.facts["reader"])(root)
        self.lidar_sweeps, self.radar_sweeps = lidar_sweeps, radar_sweeps
        self.lidar_sweep_stride, self.lidar_in_view = lidar_sweep_stride, lidar_in_view
        self.key_points, self.radar_filter = key_points, radar_filter

    def records(self, frame: int, modality: str) -> list[int]:
        """Positions in `index.sensors` of the key records of a modality, in channel order."""
        sensors = self.index.sensors
        rows = (sensors.position.get(row, -1) for row in self.index.key[frame])
        return [at for at in rows if at >= 0 and sensors.modality[at] == modality]

    def load(self, frame: int) -> RawFrame:
        """Read one frame.

        Raises:
            DataError: a file is missing, truncated or unreadable.
        """
        raw = RawFrame()
        if "lidar" in self.sensors or self.key_points:
            self._load_lidar(frame, raw)
        if "radar" in self.sensors:
            raw.radar = self._load_radar(frame)
        if "camera" in self.sensors:
            at = self.records(frame, "camera")
            sensors = self.index.sensors
            raw.images = [self.files.image(sensors.filename[i], sensors.token[i]) for i in at]
            raw.intrinsics = sensors.intrinsics[at]
            raw.ego_from_camera = self.ego_from_sensor(frame, at)
        return raw

    def ego_from_sensor(self, frame: int, at: list[int]) -> NDArray[np.float64]:
        """Sensor frames at their own time stamps to the ego frame of the keyframe, through global poses: (S, 4, 4)."""
        sensors = self.index.sensors
        ego_from_global = invert(self.index.global_from_ego[frame])
        return np.asarray(ego_from_global @ sensors.global_from_ego[at] @ sensors.ego_from_sensor[at])

    def ages(self, frame: int, at: list[int]) -> NDArray[np.float64]:
        """Seconds by which records are older than the frame."""
        return np.asarray((self.index.timestamp[frame] - self.index.sensors.timestamp[at]) * 1e-6)

    def _load_lidar(self, frame: int, raw: RawFrame) -> None:
        sensors, wanted = self.index.sensors, "lidar" in self.sensors
        at = self.records(frame, "lidar")[:1]
        if wanted:
            previous = self.index.lidar_sweeps[frame][self.lidar_sweep_stride - 1 :: self.lidar_sweep_stride]
            at += [sensors.position[row] for row in previous[: self.lidar_sweeps]]
        sweeps = [self.files.lidar(sensors.filename[i], sensors.token[i]) for i in at]
        poses, ages = self.ego_from_sensor(frame, at), self.ages(frame, at)
        if wanted:
            merged = merge_sweeps(
                [(p, m, float(t)) for p, m, t in zip(sweeps, poses, ages, strict=True)], self.lidar_sweeps
            )
            raw.points = merged[self._seen(frame, merged)] if self.lidar_in_view else merged
            raw.key_points = merged[: len(sweeps[0])] if self.key_points else None
        else:
            raw.key_points = transform(sweeps[0], poses[0])

    def _seen(self, frame: int, points: Points) -> NDArray[np.bool_]:
        """Which points (P, 3+) of the ego frame lie in the image of some camera."""
        at, sensors = self.records(frame, "camera"), self.index.sensors
        out = np.zeros(len(points), dtype=bool)
        for i, ego_from_camera in zip(at, self.ego_from_sensor(frame, at), strict=True):
            camera_from_ego = invert(ego_from_camera)
            local = multiply(points, camera_from_ego[:3, :3].T)
            local += camera_from_ego[:3, 3]
            pixel = multiply(local, sensors.intrinsics[i].T)  # times the depth
            inside = (pixel[:, :2] >= 0) & (pixel[:, :2] < local[:, 2:] * sensors.size[i])
            out |= (local[:, 2] > 0) & inside.all(axis=1)
        return out

    def _load_radar(self, frame: int) -> NDArray[np.float32]:
        sensors = self.index.sensors
        at = self.records(frame, "radar")
        taken: dict[str, int] = {}
        for row in self.index.radar_sweeps[frame]:  # grouped by radar, newest first
            i = sensors.position[row]
            taken[sensors.channel[i]] = taken.get(sensors.channel[i], 0) + 1
            if taken[sensors.channel[i]] <= self.radar_sweeps:
                at.append(i)
        clouds = [read_radar(self.root / sensors.filename[i], sensors.token[i], self.radar_filter) for i in at]
        poses, ages = self.ego_from_sensor(frame, at), self.ages(frame, at)
        return merge_radar([(p, m, float(t)) for p, m, t in zip(clouds, poses, ages, strict=True)])
