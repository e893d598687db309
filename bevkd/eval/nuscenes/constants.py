"""Names that the nuScenes detection task fixes: attributes, categories, error names."""

from __future__ import annotations

from bevkd.classes import CLASS_OF_CATEGORY, CLASSES

NO_ATTRIBUTE = -1

ATTRIBUTES: tuple[str, ...] = (
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)
ATTRIBUTE_INDEX: dict[str, int] = {name: i for i, name in enumerate(ATTRIBUTES)} | {"": NO_ATTRIBUTE}

CATEGORY_OF_CLASS: dict[str, str] = {
    name: next(category for category, c in CLASS_OF_CATEGORY.items() if c == name) for name in CLASSES
}
BIKE_RACK = "static_object.bicycle_rack"
RACKED_CLASSES = ("bicycle", "motorcycle")

TP_METRICS: tuple[str, ...] = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
# Errors that have no meaning for a class: cones look the same from all sides, neither cones nor barriers move.
UNDEFINED_ERRORS: dict[str, tuple[str, ...]] = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}
HALF_TURN_CLASSES = ("barrier",)  # a barrier turned by 180 degrees is the same barrier
N_RECALL = 101
