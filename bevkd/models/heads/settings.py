"""What the settings of all heads have in common. A head also owns those of its loss and of its decoding."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

# Groups of classes that share regression maps, as CenterPoint groups nuScenes' classes.
NUSCENES_TASKS: tuple[tuple[str, ...], ...] = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class HeadSettings:
    """Classes, and how their heat maps are drawn.

    Attributes:
        tasks: groups of classes that share regression maps.
        min_overlap: of a box that is displaced within the radius of its Gaussian.
        min_radius: of a Gaussian (cells).
        norm_eps, norm_momentum: of the head's batch norms; none: as `model.norm` says.
    """

    tasks: tuple[tuple[str, ...], ...] = NUSCENES_TASKS
    min_overlap: float = 0.1
    min_radius: int = 2
    norm_eps: float | None = None
    norm_momentum: float | None = None
