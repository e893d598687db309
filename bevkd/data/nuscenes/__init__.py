"""Reader of nuScenes tables (any version and split)."""

from bevkd.data.nuscenes.convert import convert_nuscenes
from bevkd.data.nuscenes.names import (
    CAMERAS,
    CHANNELS,
    CLASS_OF_CATEGORY,
    LIDAR,
    RADARS,
    lighting,
    scene_splits,
    weather,
)

__all__ = [
    "CAMERAS",
    "CHANNELS",
    "CLASS_OF_CATEGORY",
    "LIDAR",
    "RADARS",
    "convert_nuscenes",
    "lighting",
    "scene_splits",
    "weather",
]
