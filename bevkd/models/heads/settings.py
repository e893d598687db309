"""What the settings of all heads have in common. A head also owns those of its loss and of its decoding."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import APART, Classes, Epsilon, Few, Share

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

    tasks: Annotated[tuple[Classes, ...], Field(min_length=1), APART] = NUSCENES_TASKS
    min_overlap: Share = 0.1
    min_radius: Few = 2
    norm_eps: Epsilon | None = None
    norm_momentum: Share | None = None
