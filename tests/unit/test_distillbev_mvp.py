"""The pillar encoder of LiDAR, painted and virtual points (MVP; DistillBEV spec, 2.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models_batch import make_batch, model_config
from torch import Tensor

from bevkd.config import load_run
from bevkd.config.schema import DataConfig, GridConfig, ModelConfig
from bevkd.data.batch import Batch
from bevkd.data.inputs.lidar_virtual import KEY
from bevkd.data.reads import Lidar, LidarVirtual, reads_of
from bevkd.distill.sizes import Sizes
from bevkd.errors import ConfigError
from bevkd.models.detector import build_detector
from bevkd.models.lidar.pillar import PillarEncoder
from bevkd.models.lidar.pillar_settings import PillarSettings
from bevkd.models.lidar.pillar_virtual import PillarVirtualEncoder
from bevkd.models.lidar.pillar_virtual_settings import PillarVirtualSettings

GRID = GridConfig(x=(-8.0, 16.0), y=(-6.0, 6.0), cell=2.0)
RAW = torch.tensor([[3.5, -4.5, 1.0, 90.0, 0.25]])
CAR = [1.0, *[0.0] * 9, 0.75]


def config(**settings: object) -> ModelConfig:
    lidar = PillarVirtualSettings(cell=2.0, channels=(8,), out_channels=8, max_points=0, max_voxels=0, **settings)  # type: ignore[arg-type]
    return ModelConfig(sensors=("lidar",), grid=GRID, lidar=lidar)


def batch_of(raw: Tensor, made: Tensor) -> Batch:
    batch = make_batch(config(), frames=1)
    frame = torch.zeros(len(made), dtype=torch.long)
    of_raw = torch.zeros(len(raw), dtype=torch.long)
    return replace(batch, points=raw, point_frame=of_raw, extra={KEY: {"points": made, "frame": frame}})


def encoder(**settings: object) -> PillarVirtualEncoder:
    torch.manual_seed(1)
    return PillarVirtualEncoder(config(**settings)).eval()


def test_points_as_the_encoder_reads_them() -> None:
    """x, y, z, intensity, age, ten classes, score; 1 for virtual points, 0 for LiDAR's and painted ones."""
    painted, virtual = [1.0, 2, 3, 40, *CAR, 0.0, 0.5], [4.0, 5, 6, -1, *CAR, -1.0, 0.1]
    points, frame = encoder()._points(batch_of(RAW, torch.tensor([painted, virtual])))
    want = [[3.5, -4.5, 1, 90, 0.25, *[1.0] * 11, 0], [1, 2, 3, 40, 0.5, *CAR, 0], [4, 5, 6, -1, 0.1, *CAR, 1]]
    torch.testing.assert_close(points, torch.tensor(want))
    assert frame.tolist() == [0, 0, 0]


def test_one_virtual_point_by_hand() -> None:
    model = encoder()
    row = torch.tensor([[3.5, -4.5, 1.0, -1.0, *CAR, -1.0, 0.25]])
    out = model(batch_of(RAW[:0], row)).others["cells"]
    # Its pillar's centre is (3, -5); it is itself the mean of its pillar.
    seen = torch.tensor([3.5, -4.5, 1.0, -1.0, 0.25, *CAR, 1.0, 0, 0, 0, 0.5, 0.5])
    assert model.linear.weight.shape == (8, 22)
    want = torch.relu(model.norm((model.linear.weight @ seen)[None]))
    torch.testing.assert_close(out.features, want)
    assert out.coordinates.tolist() == [[0, 0, 5]]


def test_the_age_is_where_the_encoder_looks_for_it() -> None:
    made = torch.tensor([[3.5, -4.5, 1.0, -1.0, *CAR, -1.0, 0.75]])
    out = encoder(mean_age=True, dt_scale=2.0)(batch_of(RAW, made)).others["cells"]
    assert float(out.features[0, -1].detach()) == pytest.approx((0.25 + 0.75) / 2 * 2.0 - 1.0)


def test_each_kind_of_point_counts() -> None:
    model = encoder(intensity_scale=1 / 255)  # raw ones would drown all else
    place = [3.5, -4.5, 1.0]
    made = {
        "none": torch.zeros(0, 17),
        "painted": torch.tensor([[*place, 90.0, *CAR, 0.0, 0.25]]),
        "virtual": torch.tensor([[*place, -1.0, *CAR, -1.0, 0.25]]),
        "other class": torch.tensor([[*place, -1.0, 0.0, *CAR[:9], 0.75, -1.0, 0.25]]),
    }
    maps = {name: model(batch_of(RAW, points)).maps["lidar"] for name, points in made.items()}
    for one, other in (("none", "painted"), ("painted", "virtual"), ("virtual", "other class")):
        assert not torch.equal(maps[one], maps[other])
    assert torch.isfinite(model(batch_of(RAW[:0], made["none"])).maps["lidar"]).all()


def test_the_other_pillar_encoder_is_as_before() -> None:
    """Fields of virtual points mean nothing to it, and neither do its weights start otherwise."""
    torch.manual_seed(1)
    model = PillarEncoder(replace(config(), lidar=PillarSettings(cell=2.0, channels=(8,), out_channels=8))).eval()
    assert model.linear.weight.shape == (8, 10)
    batch = batch_of(RAW, torch.tensor([[3.5, -4.5, 1.0, -1.0, *CAR, -1.0, 0.25]]))
    torch.testing.assert_close(model(batch).maps["lidar"], model(replace(batch, extra={})).maps["lidar"])
    with pytest.raises(ValueError, match="no virtual points"):
        encoder()(replace(batch, extra={}))
    with pytest.raises(ValueError, match="no LiDAR points"):
        encoder()(replace(batch, points=None))


def test_what_is_read() -> None:
    data = DataConfig(lidar_sweeps=4, lidar_sweep_stride=2)
    reads = reads_of(config(), data)
    assert (reads.get(Lidar), reads.get(LidarVirtual)) == (Lidar(4, 2), LidarVirtual(4, 2))
    assert reads.sensors == ("lidar",)
    plain = reads_of(model_config("lidar_pillar"), data)
    assert plain.get(LidarVirtual) is None
    assert (plain | reads).names == ("lidar", "lidar_virtual")
    with pytest.raises(ConfigError, match="17"):
        model_config("mvp", lidar={"point_features": 5})


def test_the_published_size() -> None:
    """0.2 m pillars of 64 features on 51.2 m, maps of 128 x 128 cells (spec, 1 and 2.1)."""
    model = model_config("mvp", "paper")
    detector = build_detector(model)
    found = detector.encoders["lidar"]
    assert isinstance(found, PillarVirtualEncoder)
    assert (found.grid.H, found.grid.W, found.grid.cell) == (512, 512, pytest.approx(0.2))
    assert found.linear.weight.shape == (64, 17 + 5)
    assert (detector.grid.H, detector.grid.W) == (128, 128)
    assert model.lidar.max_points == 0


def test_the_published_teachers_begin_on_the_canvas() -> None:
    """Stages of 3, 5 and 5 further convolutions on the scattered pillars, H of all three (spec, 2.1)."""
    wanted = {"low": (64, 512), "B0": (64, 256), "B1": (128, 128), "B2": (256, 64), "high": (384, 128)}
    for run in ("distillbev_mvp", "distillbev_cp"):
        model = load_run(run, "paper", 0).model
        with torch.device("meta"):
            detector = build_detector(model)
            made = detector.bev.eval()(torch.zeros(1, 64, 512, 512))
        assert {name: info.channels for name, info in detector.spec.features.items() if name in wanted} == {
            name: width for name, (width, _) in wanted.items()
        }
        sides = {name: 128 / detector.spec.info(name).stride for name in wanted}
        assert sides == {name: n for name, (_, n) in wanted.items()}
        assert {name: tuple(maps.shape[1:]) for name, maps in made.items()} == {
            name: (width, n, n) for name, (width, n) in wanted.items() if name != "low"
        }
        assert Sizes(model).cells("low") == 512**2
        assert Sizes(model).cells("B2") == 64**2
        assert Sizes(model).cells("high") == Sizes(model).cells("heads") == 128**2


def test_a_small_network_on_the_canvas_learns() -> None:
    bev = {"finer": 2, "strides": [1, 2, 4], "widths": [8, 8, 16], "depths": [0, 1, 0], "up_channels": 8}
    cell = model_config("lidar_pillar", "smoke").grid.cell / 2
    over = {"lidar": {"cell": cell, "channels": [16], "out_channels": 16}, "bev": bev}
    model = model_config("lidar_pillar", "smoke", **over)
    detector, batch = build_detector(model), make_batch(model)
    out = detector(batch)
    side = detector.grid.H
    assert [tuple(maps.shape[1:]) for maps in (out.low, *out.stages, out.high)] == [
        *((16, 2 * side, 2 * side), (8, 2 * side, 2 * side), (8, side, side), (16, side // 2, side // 2)),
        (24, side, side),
    ]
    detector.loss(out, batch)["total"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())
    for change, message in (
        ({"lidar": over["lidar"] | {"channels": [16, 32]}}, "1 widths"),
        ({"bev": bev | {"finer": 4}}, "power of two"),
        ({"bev": bev | {"strides": [1, 1, 3]}}, "does not divide"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_detector(model_config("lidar_pillar", "smoke", **over | change))
    with pytest.raises(ConfigError, match="pillars of LiDAR alone"):
        build_detector(model_config("camera", "smoke", bev=bev))
