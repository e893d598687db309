"""Class names: the ten nuScenes detection classes, and the labels of all data sets in one numbered list."""

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

# What an index, a head and a sample mean by label k, in every data set: KITTI shares car, truck and pedestrian with
# nuScenes, and Waymo pedestrian and cyclist with KITTI. Names are only ever added at the end.
LABELS: tuple[str, ...] = (*CLASSES, "cyclist", "van", "tram", "person_sitting", "vehicle", "sign")
LABEL_INDEX: dict[str, int] = {name: i for i, name in enumerate(LABELS)}

# nuScenes' general category -> detection class; every other category is not detected.
CLASS_OF_CATEGORY: dict[str, str] = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
}
