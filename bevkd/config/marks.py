"""Marks on the fields of settings: which of them decide the result of a run, `Annotated[int, VOLATILE]`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Volatile:
    """The setting does not change the result: it may differ when a run is resumed, and is no part of its identity."""


@dataclass(frozen=True)
class ReadFor:
    """The setting is read only where the network looks at one of these sensors, or reads one of these inputs
    (`bevkd.data.reads`).
    """

    sensors: frozenset[str]


VOLATILE = Volatile()
LIDAR, CAMERA, RADAR = (ReadFor(frozenset({sensor})) for sensor in ("lidar", "camera", "radar"))
PAST = ReadFor(frozenset({"camera_past"}))
