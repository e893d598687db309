"""The fixed tables of nuScenes (categories, attributes, visibility, sensors) and how its scenes and logs are worded."""

from __future__ import annotations

from collections import Counter

from bevkd.sim.world import World

CATEGORIES: dict[str, str] = {
    "human.pedestrian.adult": "Grown-up person.",
    "human.pedestrian.child": "Child.",
    "human.pedestrian.wheelchair": "Person in a wheelchair.",
    "human.pedestrian.stroller": "Stroller, with or without a child.",
    "human.pedestrian.personal_mobility": "Person on a scooter, skateboard or the like.",
    "human.pedestrian.police_officer": "Police officer.",
    "human.pedestrian.construction_worker": "Construction worker.",
    "animal": "Animal.",
    "vehicle.car": "Passenger car or van.",
    "vehicle.motorcycle": "Motorcycle, with its rider if there is one.",
    "vehicle.bicycle": "Bicycle, with its rider if there is one.",
    "vehicle.bus.bendy": "Articulated bus.",
    "vehicle.bus.rigid": "Bus in one piece.",
    "vehicle.truck": "Vehicle built to haul cargo.",
    "vehicle.construction": "Vehicle built for construction work.",
    "vehicle.emergency.ambulance": "Ambulance.",
    "vehicle.emergency.police": "Police vehicle.",
    "vehicle.trailer": "Trailer, hitched or parked.",
    "movable_object.barrier": "Temporary road barrier.",
    "movable_object.trafficcone": "Traffic cone.",
    "movable_object.pushable_pullable": "Thing that a person pushes or pulls.",
    "movable_object.debris": "Debris on the road.",
    "static_object.bicycle_rack": "Rack for bicycles, with those in it.",
}
ATTRIBUTES: dict[str, str] = {
    "vehicle.moving": "The vehicle moves.",
    "vehicle.stopped": "The vehicle stands in traffic.",
    "vehicle.parked": "The vehicle is parked.",
    "cycle.with_rider": "Somebody rides it.",
    "cycle.without_rider": "Nobody rides it.",
    "pedestrian.sitting_lying_down": "The person sits or lies.",
    "pedestrian.standing": "The person stands.",
    "pedestrian.moving": "The person walks or runs.",
}
VISIBILITY: tuple[tuple[str, float], ...] = (("v0-40", 0.4), ("v40-60", 0.6), ("v60-80", 0.8), ("v80-100", 1.01))

# location -> (vehicle, time zone suffix of log names, whether traffic keeps left)
LOCATIONS: dict[str, tuple[str, str, bool]] = {
    "singapore-onenorth": ("n015", "+0800", True),
    "boston-seaport": ("n008", "-0400", False),
    "singapore-queenstown": ("n015", "+0800", True),
    "singapore-hollandvillage": ("n015", "+0800", True),
}

_NAMES = {
    "car": "cars",
    "truck": "truck",
    "bus": "bus",
    "trailer": "trailer",
    "construction_vehicle": "construction vehicle",
    "motorcycle": "motorcycle",
    "bicycle": "bicycle",
    "pedestrian": "peds",
    "barrier": "barriers",
    "traffic_cone": "cones",
}


def describe(world: World) -> str:
    """A scene description in short comma-separated fragments; "Night" and "Rain" lead when they apply."""
    parts: list[str] = []
    if world.conditions.night:
        parts.append("Night")
    if world.conditions.rain:
        parts.append("Rain")
    if world.ego.speed < 0.1:
        parts.append("ego stopped")
    elif abs(world.ego.turn_rate) > 0.08:
        parts.append("turn left" if world.ego.turn_rate > 0 else "turn right")
    if world.cross is not None:
        parts.append("intersection")
    parked = sum(o.attribute == "vehicle.parked" for o in world.objects)
    if parked:
        parts.append("parked cars" if parked > 1 else "parked vehicle")
    count = Counter(o.kind for o in world.objects if o.annotated)
    rare = ("bus", "truck", "trailer", "construction_vehicle", "motorcycle", "bicycle", "traffic_cone", "barrier")
    parts += [_NAMES[kind] for kind in rare if count[kind]][:4]
    if count["pedestrian"]:
        parts.append("many peds" if count["pedestrian"] > 5 else "peds on pavement")
    text = ", ".join(parts) or "empty street"
    return text[0].upper() + text[1:]
