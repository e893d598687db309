"""Settings of the camera encoder with a second branch that stands in for LiDAR."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.stages import Stage
from bevkd.models.camera.lss_settings import LSSSettings
from bevkd.registry import register_settings


@register_settings("camera_encoder", "lss_simulated")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SimulatedLSSSettings(LSSSettings):
    """SimDistill's student: the settings of `lss`, of whose depth net and view transform each branch has its own.
    `out_channels` are those of the map of each branch; `depth_weight` teaches the depths of the simulated branch.

    Attributes:
        branches: maps that go into the fuser, in this order (spec, 3).
        gcm_image: compensation module between image features and the simulated branch's depth net; null: none.
        gcm_bev: compensation module behind its view transform; null: none.
        shared_view: one depth net and one view transform for both branches, behind the compensation module in the
            images, as in the released code (spec, 8, pitfalls 2 and 3).
        lidar_depth: the depth nets may look at LiDAR depths, also at test time, as in the released code (pitfall 1):
            the student then is none of cameras alone. It takes a depth net that does, such as `lidar_aided`.
    """

    branches: ClassVar[tuple[str, ...]] = ("simulated", "camera")
    kind: Literal["lss_simulated"] = "lss_simulated"  # type: ignore[assignment]
    gcm_image: Annotated[Any, Stage("compensation", "attention", optional=True)] = None
    gcm_bev: Annotated[Any, Stage("compensation", "attention", optional=True)] = None
    shared_view: bool = False
    lidar_depth: bool = False

    def __post_init__(self) -> None:
        """LiDAR is looked at where that is said, and nowhere else."""
        if self.input != "rgb":
            raise ValueError("input: camera encoder lss_simulated reads images")
        if bool(getattr(self.depth_net, "reads_depths", False)) != self.lidar_depth:
            wants = "wants a depth net that reads LiDAR depths" if self.lidar_depth else "is off"
            raise ValueError(f"depth_net: {self.depth_net.kind!r}, but lidar_depth {wants}")
