"""Camera encoders, by name."""

from __future__ import annotations

from bevkd.config.schema import ModelConfig
from bevkd.data.reads import Camera, Depth, LidarImage, Reads


def camera_reads(model: ModelConfig) -> Reads:
    """What an encoder of the images of one moment reads of a frame."""
    found = Reads.of(Camera(tuple(model.camera.image_size)))
    if model.camera.input == "lidar":
        found |= Reads.of(LidarImage())
    if model.loss.depth_weight > 0:
        found |= Reads.of(Depth(model.camera.stride))
    return found
