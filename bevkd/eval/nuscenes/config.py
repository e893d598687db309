"""Settings of the nuScenes detection benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bevkd.classes import CLASSES
from bevkd.errors import ConfigError, nearest
from bevkd.io import read_json

# In this order the benchmark averages over classes.
_CVPR_2019_RANGE: dict[str, float] = {
    "car": 50,
    "truck": 50,
    "bus": 50,
    "trailer": 50,
    "construction_vehicle": 50,
    "pedestrian": 40,
    "motorcycle": 40,
    "bicycle": 40,
    "traffic_cone": 30,
    "barrier": 30,
}


_MOST = 1e9  # of any of these numbers


def _check_numbers(name: str, value: Any) -> None:
    """Whether a value, or all of several, are finite numbers.

    Raises:
        ConfigError: one is not.
    """
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
    for one in held:
        if isinstance(one, bool) or not isinstance(one, int | float) or not abs(one) <= _MOST:
            raise ConfigError(f"{name}: {one!r:.40} is not a finite number of at most {_MOST:g}")


@dataclass(frozen=True)
class DetectionConfig:
    """What counts, and how it is averaged; the defaults are the official settings (`cvpr_2019`).

    Attributes:
        class_range: distance (m) from the ego vehicle below which a box of the class counts.
        dist_fcn: distance between boxes; only "center_distance" (in the ground plane) exists.
        dist_ths: matching thresholds (m).
        dist_th_tp: the threshold at which true-positive errors are measured.
        min_recall, min_precision: below these, the precision-recall curve is cut off.
        max_boxes_per_sample: more detections in one frame are an error.
        mean_ap_weight: weight of mAP in NDS, against 1 for each of the five errors.

    Raises:
        ConfigError: a value is out of its range, or the classes are not the ten of the task.
    """

    class_range: Mapping[str, float] = field(default_factory=lambda: dict(_CVPR_2019_RANGE))
    dist_fcn: str = "center_distance"
    dist_ths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    dist_th_tp: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    max_boxes_per_sample: int = 500
    mean_ap_weight: float = 5

    def __post_init__(self) -> None:
        if set(self.class_range) != set(CLASSES):
            raise ConfigError(f"class_range must name exactly {', '.join(CLASSES)}")
        for name in ("class_range", "dist_ths", "dist_th_tp", "min_recall", "min_precision", "mean_ap_weight"):
            _check_numbers(name, getattr(self, name))
        if min(self.class_range.values()) <= 0:
            raise ConfigError(f"class_range must be positive, not {dict(self.class_range)}")
        if type(self.max_boxes_per_sample) is not int or self.max_boxes_per_sample < 1:
            raise ConfigError(f"max_boxes_per_sample must be a positive integer, not {self.max_boxes_per_sample!r}")
        if self.mean_ap_weight < 0:
            raise ConfigError(f"mean_ap_weight must not be negative, not {self.mean_ap_weight}")
        if self.dist_fcn != "center_distance":
            raise ConfigError(f"unknown dist_fcn {self.dist_fcn!r}; only 'center_distance' exists")
        if not self.dist_ths or min(self.dist_ths) <= 0 or len(set(self.dist_ths)) != len(self.dist_ths):
            raise ConfigError(f"dist_ths must be positive and different, not {list(self.dist_ths)}")
        if self.dist_th_tp not in self.dist_ths:
            raise ConfigError(f"dist_th_tp {self.dist_th_tp} is not one of dist_ths {list(self.dist_ths)}")
        if not 0 <= self.min_recall < 1 or not 0 <= self.min_precision < 1:
            raise ConfigError("min_recall and min_precision must lie in [0, 1)")

    @classmethod
    def cvpr_2019(cls) -> DetectionConfig:
        """The official settings."""
        return cls()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "detection config") -> DetectionConfig:
        """Settings from the keys of the devkit's JSON; every key must be there.

        Raises:
            ConfigError: a key is missing or unknown, or has a value of another type.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise ConfigError(f"{source}: unknown key {key!r}{nearest(key, names)}")
        missing = [name for name in names if name not in values]
        if missing:
            raise ConfigError(f"{source}: missing key {missing[0]!r}")
        try:
            return cls(**{**values, "dist_ths": tuple(values["dist_ths"]), "class_range": dict(values["class_range"])})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{source}: a value has the wrong type: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error

    @classmethod
    def from_json(cls, path: str | Path) -> DetectionConfig:
        """Settings from a JSON file in the devkit's layout.

        Raises:
            ConfigError: see `from_dict`.
            DataError: the file is missing or not JSON.
        """
        values = read_json(path)
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: must hold one JSON object")
        return cls.from_dict(values, source=str(path))

    def with_range(self, metres: float) -> DetectionConfig:
        """The same settings with every class range cut to `metres`, for datasets that reach less far."""
        return dataclasses.replace(self, class_range={c: min(r, metres) for c, r in self.class_range.items()})

    def to_dict(self) -> dict[str, Any]:
        """The devkit's JSON form."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"class_range": dict(self.class_range), "dist_ths": list(self.dist_ths)}
