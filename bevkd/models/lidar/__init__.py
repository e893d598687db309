"""LiDAR encoders, by name."""

from __future__ import annotations

from bevkd.config.schema import DataConfig
from bevkd.data.reads import Lidar, Reads


def lidar_reads(data: DataConfig) -> Reads:
    """What encoders of merged sweeps read of a frame."""
    return Reads.of(Lidar(data.lidar_sweeps, data.lidar_sweep_stride, data.lidar_in_view))
