"""Radar encoder, gated fusion and the depth net that sees LiDAR depths (CRKD)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from models_batch import make_batch, model_config
from torch import Tensor, nn

from bevkd.config import load_run
from bevkd.config.schema import DataConfig, GridConfig, ModelConfig
from bevkd.data.batch import Batch
from bevkd.data.inputs.radar_features import KEY
from bevkd.data.reads import RadarFeatures, reads_of
from bevkd.errors import ConfigError
from bevkd.models.camera.trunk import ImageTrunk
from bevkd.models.detector import build_detector, weights_come_later
from bevkd.models.fuser.gated import GatedFuser
from bevkd.models.radar.pillar_mlp import PillarMLP
from bevkd.models.radar.pillar_mlp_settings import PillarMLPSettings
from bevkd.registry import lookup

WIDE = GridConfig(x=(-8.0, 16.0), y=(-6.0, 6.0), cell=2.0)  # 12 cells along x, 6 along y


def radar_only(grid: GridConfig = WIDE, **settings: Any) -> ModelConfig:
    """A radar detector of two narrow layers."""
    radar = PillarMLPSettings(**({"channels": (8, 6)} | settings))
    return ModelConfig(sensors=("radar",), grid=grid, radar=radar)


def batch_of(points: Tensor, frame: Tensor, frames: int = 1) -> Batch:
    batch = make_batch(radar_only(), frames=frames)
    return replace(batch, extra={KEY: {"points": points, "frame": frame}})


def some_points(count: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    points = torch.randn(count, 45)
    points[:, 0] = 24 * torch.rand(count) - 8
    points[:, 1] = 12 * torch.rand(count) - 6
    points[:, 2] = torch.rand(count)
    return points


def encoder(**settings: Any) -> PillarMLP:
    torch.manual_seed(1)
    return PillarMLP(radar_only(**settings))


def test_one_point_by_hand() -> None:
    model = encoder().eval()
    points = some_points(1)
    points[0, :3] = torch.tensor([3.5, -4.5, 1.0])  # cell (iy, ix) = (0, 5), its centre is (3, -5)
    row = torch.cat([points[0], torch.tensor([0.5, 0.5])])
    row[:3] = torch.tensor([(3.5 + 8) / 24, (-4.5 + 6) / 12, (1.0 + 3) / 8])  # [0, 1] over the grid and its heights
    for linear, norm in zip(model.linear, model.norms, strict=True):
        row = torch.relu(norm((linear.weight @ row)[None])[0])  # type: ignore[operator]
    out = model(batch_of(points, torch.zeros(1, dtype=torch.long))).maps["radar"]
    assert out.shape == (1, 6, 6, 12)
    torch.testing.assert_close(out[0, :, 0, 5], row)
    torch.testing.assert_close(out.abs().sum(), row.sum(), msg="zero elsewhere")


def test_scales_reach_their_columns() -> None:
    model = encoder(rcs_scale=0.5, velocity_scale=0.1, dt_scale=4.0)
    assert model.scale[3:7].tolist() == pytest.approx([0.5, 0.1, 0.1, 4.0])
    assert (model.scale[7:] == 1).all()


def test_the_maximum_is_over_points_of_a_pillar() -> None:
    model = encoder().eval()
    points = some_points(2)
    points[:, :2] = torch.tensor([[3.5, -4.5], [2.5, -5.5]])
    frame = torch.zeros(2, dtype=torch.long)
    both = model(batch_of(points, frame)).maps["radar"]
    each = [model(batch_of(points[i : i + 1], frame[:1])).maps["radar"] for i in range(2)]
    torch.testing.assert_close(both, torch.maximum(*each))
    apart = model(batch_of(points, torch.tensor([0, 1]), frames=2)).maps["radar"]
    torch.testing.assert_close(apart, torch.cat(each))


def test_order_of_points_does_not_matter() -> None:
    model = encoder(max_points=0)
    points, order = some_points(200), torch.randperm(200)
    frame = torch.zeros(200, dtype=torch.long)
    one = model(batch_of(points, frame)).maps["radar"]
    other = model(batch_of(points[order], frame)).maps["radar"]
    torch.testing.assert_close(one, other)


def test_at_most_so_many_points_a_pillar() -> None:
    few, all_of_them = encoder(max_points=3).eval(), encoder(max_points=0).eval()
    points = some_points(10)
    points[:, :2] = torch.tensor([3.5, -4.5])
    frame = torch.zeros(10, dtype=torch.long)
    kept = few(batch_of(points, frame)).maps["radar"]
    torch.testing.assert_close(kept, all_of_them(batch_of(points[:3], frame[:3])).maps["radar"])
    assert not torch.equal(kept, all_of_them(batch_of(points, frame)).maps["radar"])


def padded_reference(model: PillarMLP, points: Tensor, size: int) -> Tensor:
    """All points in one pillar (C,), filled up with rows of zeros, as the public code does it."""
    centre = torch.tensor([3.0, -5.0])
    rows = (torch.cat([points, points[:, :2] - centre], dim=1) - model.low) * model.scale
    rows = torch.cat([rows, rows.new_zeros(size - len(rows), rows.shape[1])])
    for linear, norm in zip(model.linear, model.norms, strict=True):
        rows = torch.relu(norm(linear(rows)))
    return rows.max(dim=0).values


def test_padding_is_masked_unless_asked_for() -> None:
    """Zeros are no zeros behind a batch norm with a bias: in the public code they can win the maximum."""
    model, original = encoder(max_points=5), encoder(max_points=5, padding="counted")
    for one in (model, original):
        for norm in one.norms:
            nn.init.constant_(norm.bias, 0.3)  # type: ignore[arg-type]
    points = some_points(2)
    points[:, :2] = torch.tensor([3.5, -4.5])
    batch = batch_of(points, torch.zeros(2, dtype=torch.long))
    for training in (True, False):
        reference = encoder(max_points=5)
        reference.load_state_dict(original.state_dict())
        reference.train(training)
        masked, counted = model.train(training)(batch).maps["radar"], original.train(training)(batch).maps["radar"]
        torch.testing.assert_close(counted[0, :, 0, 5], padded_reference(reference, points, 5))
        assert not torch.allclose(masked, counted)
    full = some_points(5)
    full[:, :2] = torch.tensor([3.5, -4.5])
    batch = batch_of(full, torch.zeros(5, dtype=torch.long))
    original.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(batch).maps["radar"], original(batch).maps["radar"], msg="a full pillar")
    with pytest.raises(ValueError, match="wants max_points"):
        PillarMLPSettings(padding="counted", max_points=0)


@pytest.mark.parametrize("padding", ["masked", "counted"])
@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_points(padding: str, count: int) -> None:
    model = encoder(padding=padding, calibration=1).train()
    batch = batch_of(some_points(count), torch.zeros(count, dtype=torch.long))
    out = model(batch).maps
    assert out["radar"].isfinite().all()
    assert (out["radar.raw"].abs().sum() > 0) == (count > 0)
    with pytest.raises(ValueError, match="no radar points"):
        model(replace(batch, extra={}))


def test_points_outside_of_the_grid_are_left_out() -> None:
    model = encoder().eval()
    points = some_points(4)
    points[:, :3] = torch.tensor([[16.5, 0, 0], [0, -6.5, 0], [0, 0, 5.5], [float("nan"), 0, 0]])
    assert model(batch_of(points, torch.zeros(4, dtype=torch.long))).maps["radar"].abs().sum() == 0


def test_calibration_takes_the_place_of_the_map() -> None:
    plain, calibrated = encoder(), encoder(calibration=3)
    assert (set(plain.features), set(plain.activations)) == ({"radar"}, set())
    assert {name: info.channels for name, info in calibrated.features.items()} == {"radar": 6, "radar.raw": 6}
    assert calibrated.fused == ("radar",)
    convolutions = [m for m in calibrated.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 3
    assert {(c.kernel_size, c.padding, c.dilation) for c in convolutions} == {((3, 3), (2, 2), (2, 2))}
    detector = build_detector(radar_only(calibration=3))
    detector.expose(["radar.pre"])
    batch = batch_of(some_points(50), torch.zeros(50, dtype=torch.long))
    out = detector(batch)
    torch.testing.assert_close(out.low, out.feature("radar"))
    torch.testing.assert_close(out.feature("radar"), out.feature("radar.pre").relu())
    raw = out.feature("radar.raw")
    assert raw.shape == out.feature("radar").shape
    assert not torch.equal(raw, out.feature("radar"))
    torch.testing.assert_close(detector.encoders["radar"].calibration(raw), out.feature("radar"))


def test_what_is_read_follows_from_the_settings() -> None:
    data = DataConfig(radar_sweeps=5)
    assert reads_of(radar_only(), data).get(RadarFeatures) == RadarFeatures(5)
    other = radar_only(filtered=True, advance=False, released_augment=True)
    assert reads_of(other, data).get(RadarFeatures) == RadarFeatures(5, True, False, True)


def gated(channels: dict[str, int], width: int = 5) -> GatedFuser:
    torch.manual_seed(0)
    model = ModelConfig(sensors=("camera", "lidar"), fuser={"kind": "gated", "out_channels": width})
    fuser = lookup("fuser", "gated")(model, channels)
    assert isinstance(fuser, GatedFuser)
    return fuser


@pytest.mark.parametrize("channels", [{"camera": 4, "radar": 6}, {"lidar": 6, "camera": 4, "radar": 3}])
def test_gates_by_formula(channels: dict[str, int]) -> None:
    """A gate of its own for every sensor, channel and cell; nothing but the maps decides it."""
    fuser = gated(channels).eval()
    maps = {name: torch.randn(2, width, 5, 7) for name, width in channels.items()}
    out = fuser(maps)
    together, start, parts = torch.cat(list(maps.values()), dim=1), 0, []
    for name, width in channels.items():
        rows = slice(start, start + width)
        gate = nn.functional.conv2d(together, fuser.gate.weight[rows], fuser.gate.bias[rows], padding=1).sigmoid()
        torch.testing.assert_close(out.maps[f"gated.{name}"], maps[name] * gate)
        parts.append(out.maps[f"gated.{name}"])
        start += width
    convolution, norm, _ = fuser.conv
    torch.testing.assert_close(out.low, norm(convolution(torch.cat(parts, dim=1))).relu())
    assert convolution.bias is None
    assert {name: info.channels for name, info in fuser.features.items()} == {
        "low": 5, **{f"gated.{name}": width for name, width in channels.items()}
    }  # fmt: skip
    swapped = fuser(dict(reversed(maps.items())))
    torch.testing.assert_close(swapped.low, out.low)


def test_the_contract_shows_gated_and_ungated_maps() -> None:
    for name, sensors in (("camera_radar", ("camera", "radar")), ("fusion_gated", ("lidar", "camera"))):
        model = model_config(name, "smoke")
        detector, batch = build_detector(model), make_batch(model)
        out = detector(batch, until="low")
        assert detector.spec.sensors == sensors
        for sensor in sensors:
            plain, weighed = out.feature(sensor), out.feature(f"gated.{sensor}")
            assert plain.shape == weighed.shape
            assert plain.shape[1] == detector.spec.channels(sensor) == detector.spec.channels(f"gated.{sensor}")
            assert (weighed.abs() <= plain.abs()).all()
            assert detector.spec.info(f"gated.{sensor}").stage == "low"


def test_depths_steer_the_depth_net() -> None:
    model = model_config("fusion_gated", "smoke")
    assert reads_of(model, DataConfig()).names == ("lidar", "camera", "lidar_image")
    detector, batch = build_detector(model).eval(), make_batch(model)
    assert batch.cameras is not None
    far = replace(batch, cameras=replace(batch.cameras, lidar=3 * batch.cameras.lidar))
    one, other = detector(batch, until="low").feature("depth"), detector(far, until="low").feature("depth")
    assert not torch.allclose(one, other)
    with pytest.raises(ValueError, match="no LiDAR images"):
        detector(replace(batch, cameras=replace(batch.cameras, lidar=None)))
    with pytest.raises(ConfigError, match="multiple of 4"):
        build_detector(model_config("fusion_gated", "smoke", camera={"stride": 2}))


def test_a_finer_splat_sums_to_the_same_cells() -> None:
    """What falls into a cell falls into one of its parts: the finer map, summed, is the coarser one."""
    coarse = model_config("camera", "smoke")
    finer = replace(coarse, camera=replace(coarse.camera, view=replace(coarse.camera.view, finer=2)))
    views = [lookup("view_transform", "lift_splat")(model) for model in (coarse, finer)]
    batch, bins = make_batch(coarse), coarse.camera.view.bins
    assert batch.cameras is not None
    height, width = (side // coarse.camera.stride for side in coarse.camera.image_size)
    mixed = torch.randn(12, bins + coarse.camera.out_channels, height, width)
    assert views[1](mixed, batch.cameras, batch.bev_aug)[0].shape == (2, 16, 32, 32)
    views[1].reduce = nn.Sequential()
    one, parts = (view(mixed, batch.cameras, batch.bev_aug)[0] for view in views)
    torch.testing.assert_close(4 * nn.functional.avg_pool2d(parts, 2), one, atol=1e-4, rtol=1e-4)
    assert len(views[0].reduce) == 0


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_widths() -> None:
    """Parameters that follow from the layer tables of CRKD's spec, 3.2, 3.4 to 3.6."""
    model = model_config("camera_radar", "paper", radar={"calibration": 3})
    assert (model.radar.max_points, model.radar.padding, model.radar.filtered) == (20, "masked", False)
    detector = build_detector(weights_come_later(model))
    radar = detector.encoders["radar"]
    assert count(radar) == (47 + 3 * 256) * 256 + 4 * 2 * 256 + 3 * (9 * 256 * 256 + 2 * 256)
    assert count(detector.fuser) == (9 * 336 + 1) * 336 + 9 * 336 * 256 + 2 * 256
    camera = detector.encoders["camera"]
    assert camera.neck.out_channels == 512
    assert count(camera.depth_and_context) == (512 + 1) * (59 + 80)
    assert (detector.grid.W, detector.grid.H) == (180, 180)
    teacher = build_detector(weights_come_later(model_config("fusion_gated", "paper")))
    assert count(teacher.fuser) == count(detector.fuser)
    net = teacher.encoders["camera"].depth_and_context
    depths = (1 * 8 + 25 * 8 * 32 + 25 * 32 * 64) + 2 * (8 + 32 + 64)
    mix = 9 * (256 + 64) * 256 + 9 * 256 * 256 + 4 * 256 + (256 + 1) * (118 + 80)
    assert count(net) == depths + mix
    assert count(teacher.encoders["camera"].view_transform) == 3 * (9 * 80 * 80 + 2 * 80)
    shared = {name for name in teacher.spec.features if name in detector.spec.features}
    for name in ("camera", "gated.camera", "low", "high"):
        assert name in shared
        assert teacher.spec.channels(name) == detector.spec.channels(name)
    assert teacher.spec.channels("gated.lidar") == detector.spec.channels("gated.radar") == 256


@pytest.mark.parametrize(
    ("run", "backbone", "levels", "width"),
    [
        ("crkd_student", "swin", 3, 504),
        ("crkd_ungated", "swin", 3, 504),
        ("crkd", "swin", 3, 504),
        ("crkd_teacher", "swin", 3, 264),
        ("crkd_r50_student", "resnet", 4, 512),
        ("crkd_r50_ungated", "resnet", 4, 512),
        ("crkd_r50_further", "resnet", 4, 512),
        ("crkd_r50", "resnet", 4, 512),
        ("crkd_r50_teacher", "resnet", 4, 256),
    ],
)
def test_image_necks_of_published_rows_are_as_wide_with_both_backbones(
    run: str, backbone: str, levels: int, width: int
) -> None:
    """Swin-T has three levels, ResNet-50 four, and a neck has its width per level."""
    model = load_run(run, "paper", 0).model
    assert model.camera.backbone.kind == backbone
    with torch.device("meta"):
        trunk = ImageTrunk(weights_come_later(model))
    assert (len(trunk.backbone.channels), trunk.neck.out_channels) == (levels, width)


def test_models_with_swin_are_those_of_the_published_rows() -> None:
    for run, name in (("crkd_student", "camera_radar_swin"), ("crkd_teacher", "fusion_gated_swin")):
        camera, own = load_run(run, "paper", 0).model.camera, model_config(name, "paper").camera
        assert camera.neck_channels == own.neck_channels


@pytest.mark.parametrize("name", ["camera_radar", "camera_radar_swin", "fusion_gated", "fusion_gated_swin"])
@pytest.mark.parametrize("scale", ["smoke", "sim"])
def test_one_step(name: str, scale: str) -> None:
    torch.manual_seed(0)
    model = model_config(name, scale)
    detector, batch = build_detector(model), make_batch(model)
    losses = detector.loss(detector(batch), batch)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    without = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


@pytest.mark.slow
@pytest.mark.parametrize(("name", "point"), [("camera_radar", "radar"), ("fusion_gated", "lidar")])
def test_maps_of_the_published_size(name: str, point: str) -> None:
    model = model_config(name, "paper")
    detector, batch = build_detector(weights_come_later(model)).eval(), make_batch(model, frames=1)
    with torch.inference_mode():
        out = detector(batch, until="low")
    for feature, width in (("camera", 80), ("gated.camera", 80), (point, 256), (f"gated.{point}", 256), ("low", 256)):
        assert out.feature(feature).shape == (1, width, 180, 180)
    assert out.feature("depth").shape == (1, 6, model.camera.view.bins, 32, 88)


@pytest.mark.slow
def test_gradients_of_the_published_size() -> None:
    """Of radar encoder, calibration and fuser; the camera's map stands in for its encoder."""
    model = model_config("camera_radar", "paper", radar={"calibration": 3})
    torch.manual_seed(0)
    radar, fuser = PillarMLP(model), lookup("fuser", "gated")(model, {"camera": 80, "radar": 256})
    made = radar(make_batch(model, frames=1)).maps["radar"]
    fuser({"camera": torch.randn(1, 80, 180, 180), "radar": made}).low.square().mean().backward()
    for part in (radar, fuser):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
