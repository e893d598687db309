"""Named features of a network: what they are called, where in its pipeline they arise, and how they lie in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bevkd.errors import FeatureError, nearest

# bev (B, C, H, W); image (B, N, C, h, w); depth (B, N, D, h, w) logits; cells `SparseCells`; points `PointFeatures`;
# heads a list of `TaskOutput`; queries `QueryOutput`.
Layout = Literal["bev", "image", "depth", "cells", "points", "heads", "queries"]
BEV_STAGES = ("low", "high", "heads")  # of a detector sensors -> low -> high -> heads, in order
BEFORE = ".pre"  # `<name>.pre`: the same feature before its last activation


@dataclass(frozen=True)
class FeatureInfo:
    """One feature.

    Attributes:
        channels: C; depth bins D; all maps of all tasks; numbers per query.
        stride: size of its cells in cells of the BEV grid; for images and depths in pixels of the image.
        layout: what it is.
        stage: the stage of the pipeline that has to run for it.
    """

    channels: int
    stride: float = 1
    layout: Layout = "bev"
    stage: str = "low"


@dataclass(frozen=True)
class FeatureSpec:
    """What a network offers, for methods that choose what to compare and build adapters.

    Attributes:
        features: by name. Sensor maps `lidar`, `camera`, `radar`, before calibration `radar.raw`, gated
            `gated.<sensor>`; of a camera branch that stands in for LiDAR `simulated`, before its compensation
            `simulated.raw`, its `depth.simulated`; the fused map `low`; maps inside the BEV encoder `B0`..`Bn`; the map
            before the head `high`; `heads`, `queries`; `depth`; levels of the image backbone `image0`.. from fine to
            coarse; `cells`; `points`. A network may have others.
        stages: what can be run, one after the other.
        classes: heat maps of the head; 0 where it has none.
        regression_maps: dense regression maps of the head.
        sensors: what the network looks at.
    """

    features: dict[str, FeatureInfo]
    stages: tuple[str, ...]
    classes: int
    regression_maps: int
    sensors: tuple[str, ...]

    @classmethod
    def of_bev(
        cls,
        low: int,
        high: int,
        classes: int,
        regression_maps: int,
        sensors: tuple[str, ...],
        image: Sequence[int] = (),
    ) -> FeatureSpec:
        """A BEV detector known by the channels of `low`, `high` and of the levels of its image backbone alone."""
        features = {"low": FeatureInfo(low), "high": FeatureInfo(high, stage="high")}
        features |= {f"image{k}": FeatureInfo(width, 2 ** (k + 2), "image") for k, width in enumerate(image)}
        features["heads"] = FeatureInfo(classes + regression_maps, layout="heads", stage="heads")
        return cls(features, BEV_STAGES, classes, regression_maps, sensors)

    def info(self, name: str) -> FeatureInfo:
        """What a feature is.

        Raises:
            FeatureError: there is none of this name; the message has the nearest one.
        """
        if name not in self.features:
            raise unknown_feature(name, self.features)
        return self.features[name]

    def channels(self, name: str) -> int:
        """Channels of a feature.

        Raises:
            FeatureError: as `info`.
        """
        return self.info(name).channels

    def last_stage(self, names: Iterable[str]) -> str | None:
        """The stage to run to, so that all these features are computed; None for no feature.

        Raises:
            FeatureError: as `info`.
        """
        return max((self.info(name).stage for name in names), key=self.stages.index, default=None)

    @property
    def low_channels(self) -> int:
        """Channels of `low`."""
        return self.channels("low")

    @property
    def high_channels(self) -> int:
        """Channels of `high`."""
        return self.channels("high")

    @property
    def image_channels(self) -> tuple[int, ...]:
        """Channels of the levels of the image backbone, fine to coarse; empty without one."""
        return tuple(self.features[name].channels for name in numbered("image", self.features))


def numbered(prefix: str, features: Iterable[str]) -> list[str]:
    """The names `<prefix>0`, `<prefix>1`, ... as far as they go."""
    known, names = set(features), list[str]()
    while f"{prefix}{len(names)}" in known:
        names.append(f"{prefix}{len(names)}")
    return names


def unknown_feature(name: str, known: Iterable[str]) -> FeatureError:
    """The error of a name that is not among the known ones."""
    names = list(known)
    return FeatureError(f"there is no feature {name!r}{nearest(name, names)}; known: {', '.join(names)}")
