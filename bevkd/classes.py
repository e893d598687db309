"""The ten nuScenes detection classes, in the fixed order used by every head, table and file of the project."""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
CLASS_INDEX: dict[str, int] = {name: i for i, name in enumerate(CLASSES)}
