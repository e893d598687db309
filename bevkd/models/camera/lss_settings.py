"""Settings of the camera encoder; its backbone, depth net and view transform have their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Name, Pixels, Stride, Weight, Width
from bevkd.config.stages import Registered, Stage, default_stage
from bevkd.data.reads import Camera, Depth, Input, LidarImage, Reads
from bevkd.registry import register_settings

if TYPE_CHECKING:
    from bevkd.config.schema import DataConfig, ModelConfig


@register_settings("camera_encoder", "lss")
@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class LSSSettings:
    """Image backbone, neck, depth net, view transform.

    Attributes:
        input: `lidar`: depths of LiDAR points as an image (MonoDistill).
        backbone: which image backbone; see `bevkd.models.backbone`.
        image_size: height and width of the images that it sees (pixels).
        stride: of the image features behind the neck.
        neck: from the levels of the backbone to one map; see `bevkd.models.camera.neck`.
        neck_channels: per level with neck `concat`; of the map with the others.
        depth_net, view: from image features to the BEV grid; see `bevkd.models.camera`.
        out_channels: of the BEV map.
        depth_weight: of BEVDepth's L_Depth, from LiDAR points; 3.0 there, 100 with `depth_loss: sigmoid`.
        depth_loss: what the logits of a pixel are taught as: the distribution over bins that is lifted, or each bin on
            its own (DistillBEV spec, 3.1.5).
    """

    kind: Literal["lss"] = "lss"
    input: Literal["rgb", "lidar"] = "rgb"
    backbone: Annotated[Any, Stage("image_backbone", "resnet")] = default_stage("image_backbone", "resnet")
    image_size: tuple[Pixels, Pixels] = (256, 704)
    stride: Stride = 16
    neck: Annotated[Name, Registered("image_neck")] = "concat"
    neck_channels: Width = 128
    depth_net: Annotated[Any, Stage("depth_net", "conv")] = default_stage("depth_net", "conv")
    view: Annotated[Any, Stage("view_transform", "lift_splat")] = default_stage("view_transform", "lift_splat")
    out_channels: Width = 256
    depth_weight: Weight = 0.0
    depth_loss: Literal["softmax", "sigmoid"] = "softmax"

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        """Images of the keyframe; where asked for, LiDAR depths (in their place, or for the depth net), and depths to
        be taught.
        """
        size = self.image_size[0], self.image_size[1]
        wanted: list[Input] = [Camera(size, data.image_mean, data.image_std, data.crop_in_resize, data.image_horizon)]
        depths = self.input == "lidar" or getattr(self.depth_net, "reads_depths", False)
        wanted += [LidarImage()] * depths + [Depth(self.stride)] * (self.depth_weight > 0)
        return Reads.of(*wanted)
