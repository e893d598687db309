"""What networks read of a frame, as declarations."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from models_batch import model_config

from bevkd.config.schema import DataConfig
from bevkd.data.reads import Camera, Depth, Lidar, LidarImage, Radar, Reads, reads_of
from bevkd.errors import ConfigError

DATA = DataConfig(lidar_sweeps=3, lidar_sweep_stride=2, crop_in_resize=True)


def test_encoders_say_what_they_read() -> None:
    fusion = model_config("fusion", "smoke", camera={"depth_weight": 1.0})
    size = tuple(fusion.camera.image_size)
    camera = Camera(size, DATA.image_mean, DATA.image_std, True)
    found = reads_of(fusion, DATA)
    assert found == Reads.of(Lidar(3, 2), camera, Depth(fusion.camera.stride))
    assert found.without_targets() == Reads.of(Lidar(3, 2), camera)
    assert found.sensors == ("lidar", "camera")
    image = model_config("camera_lidar_image", "smoke")
    assert reads_of(image, DATA).names == ("camera", "lidar_image")
    assert reads_of(image, DATA).sensors == ("camera", "lidar")
    ahead = reads_of(model_config("lidar_pillar", "smoke"), replace(DATA, lidar_in_view=True))
    assert (ahead.sensors, ahead.records) == (("lidar",), ("lidar", "camera"))


def test_two_networks_share_what_they_read_alike() -> None:
    one, other = Reads.of(Depth(8), Camera((4, 8))), Reads.of(Camera((4, 8)), Lidar(2))
    assert (one | other).names == ("camera", "lidar", "depth")  # those that need others last
    assert (one | other).get(Lidar) == Lidar(2)
    assert one.get(Lidar) is None
    with pytest.raises(ConfigError, match="sweeps=2"):
        other | Reads.of(Lidar(4))


def test_a_depth_needs_a_camera() -> None:
    Reads.of(Camera((4, 8)), LidarImage()).check()
    with pytest.raises(ConfigError, match="'depth' needs 'camera'"):
        Reads.of(Lidar(), Radar(), Depth(8)).check()


def test_declarations_need_no_torch() -> None:
    code = "import sys; from bevkd.data.reads import reads_of; from bevkd.config import ModelConfig, DataConfig; "
    code += "reads_of(ModelConfig(sensors=('lidar', 'camera')), DataConfig()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
