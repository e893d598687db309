"""Depth nets and view transforms are exchanged by one word of the config, and do what they say."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from models_batch import make_batch, make_cameras, model_config

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Cameras
from bevkd.errors import ConfigError
from bevkd.models.backbone.base import build_transformers
from bevkd.models.camera.depth.camera_aware import GEOMETRY, CameraAwareDepthNet, camera_numbers
from bevkd.models.camera.view.sample import BilinearSampling
from bevkd.models.detector import build_detector
from bevkd.registry import names

DEPTH_NETS, VIEW_TRANSFORMS = ("bevdepth", "camera_aware", "conv", "convs", "lidar_aided"), ("lift_splat", "sample")


def test_what_there_is() -> None:
    assert tuple(names("depth_net")) == DEPTH_NETS
    assert tuple(names("view_transform")) == VIEW_TRANSFORMS


@pytest.mark.parametrize("view", VIEW_TRANSFORMS)
@pytest.mark.parametrize("depth", DEPTH_NETS)
@pytest.mark.parametrize("name", ["camera", "fusion_swin"])
def test_each_pair_trains(name: str, depth: str, view: str) -> None:
    torch.manual_seed(0)
    model = model_config(name, "smoke", camera={"depth_net": {"kind": depth}, "view": {"kind": view}})
    detector, batch = build_detector(model).train(), make_batch(model)
    outputs = detector(batch)
    assert outputs.low.shape[0] == 2
    assert (outputs.depth is None) == (view == "sample")
    detector.loss(outputs, batch)["total"].backward()
    image_side = detector.encoders["camera"]
    for part in (image_side.depth_and_context, image_side.view_transform):  # type: ignore[union-attr]
        for key, value in part.named_parameters():  # type: ignore[union-attr]
            assert value.grad is not None, key
            assert float(value.grad.abs().sum()) > 0, key


def test_the_default_pair_is_that_of_bevdet() -> None:
    camera = ModelConfig(sensors=("camera",)).camera
    assert (camera.depth_net.kind, camera.view.kind) == ("conv", "lift_splat")
    keys = build_detector(model_config("camera", "smoke")).state_dict().keys()
    assert {"encoders.camera.depth_and_context.weight", "encoders.camera.depth_and_context.bias"} <= keys
    assert not any("view_transform" in key for key in keys)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"camera": {"depth_net": {"kind": "convv"}}}, "did you mean 'conv'"),
        ({"camera": {"view": {"kind": "lift_splatt"}}}, "did you mean 'lift_splat'"),
        ({"camera": {"view": {"kind": "sample"}, "depth_weight": 3.0}}, "predicts no depth"),
    ],
)
def test_bad_names_and_pairs_are_named(over: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_detector(model_config("camera", "smoke", **over))


def sampler(heights: int = 2) -> tuple[BilinearSampling, ModelConfig]:
    """A transform that returns the lower layer of two channels as it is."""
    model = model_config("camera", "smoke", camera={"view": {"kind": "sample", "heights": heights}, "out_channels": 2})
    view = BilinearSampling(model)
    torch.nn.init.zeros_(view.merge.weight)
    torch.nn.init.zeros_(view.merge.bias)  # type: ignore[arg-type]
    for channel in range(2):
        view.merge.weight.data[channel, heights * channel] = 1  # columns are (channel, height)
    return view, model


def ramp(cameras: Cameras, size: tuple[int, int]) -> torch.Tensor:
    """Context of two channels, which say in which pixel (u, v) they are."""
    height, width = cameras.images.shape[-2:]
    v, u = torch.meshgrid(torch.linspace(0, height - 1, size[0]), torch.linspace(0, width - 1, size[1]), indexing="ij")
    return torch.stack([u, v]).expand(cameras.images.shape[0] * cameras.images.shape[1], -1, -1, -1).contiguous()


def test_a_voxel_reads_the_pixel_that_it_projects_to() -> None:
    view, model = sampler()
    cameras = make_cameras(2, (64, 176), cameras=3)  # 120 degrees apart: no voxel is seen twice
    cameras.image_aug[1] = torch.tensor([[0.9, 0, 3], [0, 0.9, 5], [0, 0, 1]])
    turn = torch.eye(4).repeat(2, 1, 1)
    turn[1, :2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    bev, depth = view(ramp(cameras, (8, 22)), cameras, turn)
    assert depth is None
    grid, z = view.grid, model.grid
    seen = 0
    for b, iy, ix in ((b, iy, ix) for b in range(2) for iy in range(grid.H) for ix in range(grid.W)):
        height = z.z_min + 0.25 * (z.z_max - z.z_min)
        place = torch.tensor([grid.x_min + (ix + 0.5) * grid.cell, grid.y_min + (iy + 0.5) * grid.cell, height, 1])
        expected = torch.zeros(2)
        for n in range(3):
            local = torch.linalg.inv((turn[b] @ cameras.ego_from_camera[b, n]).double()) @ place.double()
            if local[2] < 0.1:
                continue
            pixel = cameras.intrinsics[b, n].double() @ (local[:3] / local[2])
            u, v = (cameras.image_aug[b, n].double() @ pixel)[:2].tolist()
            if 0 <= u <= 175 and 0 <= v <= 63:
                expected, seen = torch.tensor([u, v]), seen + 1
        torch.testing.assert_close(bev[b, :, iy, ix].detach().float(), expected.float(), atol=2e-3, rtol=0)
    assert 50 < seen < 2 * grid.H * grid.W


def test_cameras_that_see_the_same_share_it() -> None:
    view, _ = sampler()
    one = make_cameras(1, (64, 176), cameras=1)
    two = Cameras(*(v if v is None else v.repeat(1, 2, *[1] * (v.ndim - 2)) for v in vars(one).values()))
    context = ramp(one, (8, 22))
    once, _ = view(context, one, torch.eye(4)[None])
    twice, _ = view(torch.cat([context, context + 4]), two, torch.eye(4)[None])
    seen = once.abs().sum(1, keepdim=True) > 0
    torch.testing.assert_close(twice, torch.where(seen, once + 2, 0.0))


@torch.no_grad()
def test_the_camera_aware_depth_net_looks_at_the_camera() -> None:
    torch.manual_seed(0)
    model = model_config("camera", "smoke", camera={"depth_net": {"kind": "camera_aware"}})
    net = CameraAwareDepthNet(24, 16, model).eval()
    cameras, features = make_cameras(1, (64, 176), cameras=2), torch.randn(2, 24, 4, 11)
    rows = camera_numbers(cameras, torch.eye(4)[None])
    assert rows.shape == (2, GEOMETRY)
    assert rows[1, 6:].reshape(3, 4).equal(cameras.ego_from_camera[0, 1, :3])
    with torch.autocast("cpu", torch.bfloat16):
        assert camera_numbers(cameras, torch.eye(4)[None]).equal(rows)
    before = net(features, cameras, torch.eye(4)[None])
    assert before.shape == (2, 16 + model.camera.out_channels, 4, 11)
    longer = replace(cameras, intrinsics=cameras.intrinsics * torch.tensor([[2.0], [2.0], [1.0]]))
    after = net(features, longer, torch.eye(4)[None])
    assert float((after - before)[:, :16].abs().max()) > 1e-4
    zoomed = replace(cameras, image_aug=torch.diag(torch.tensor([2.0, 2.0, 1.0])).expand(1, 2, 3, 3))
    torch.testing.assert_close(net(features, zoomed, torch.eye(4)[None]), after)  # what counts is the pixel


class Spy:
    """Stands in for a backbone of the library; records how its weights are asked for."""

    asked: dict[str, Any]

    @classmethod
    def from_pretrained(cls, name: str, **options: Any) -> Any:
        cls.asked = {"name": name} | options
        if name == "some/one-without":
            raise OSError("there is no such model, or no network")
        return object(), {"missing_keys": ["hidden_states_norms.stage1.weight"], "mismatched_keys": []}


def test_the_hub_is_asked_only_by_name(caplog: pytest.LogCaptureFixture) -> None:
    from transformers import ResNetConfig

    with caplog.at_level(logging.INFO):
        build_transformers(Spy, ResNetConfig, {}, "hub:some/backbone@v2")
    assert (Spy.asked["name"], Spy.asked["revision"]) == ("some/backbone", "v2")
    assert Spy.asked["local_files_only"] is False
    assert Spy.asked["use_safetensors"] is True
    assert "asking the hub for some/backbone" in caplog.text
    build_transformers(Spy, ResNetConfig, {}, "hub:some/backbone")
    assert Spy.asked["revision"] == "main"
    with pytest.raises(ConfigError, match=r"hub:some/one-without: .*no network"):
        build_transformers(Spy, ResNetConfig, {}, "hub:some/one-without")
    with pytest.raises(ConfigError, match=r"no model.safetensors in some/backbone"):
        build_transformers(Spy, ResNetConfig, {}, "some/backbone")  # a folder, not a name of the hub
