"""SimDistill's student of two branches: no way to LiDAR, its stages by hand, its switches, its sizes at every scale."""

from __future__ import annotations

import inspect
import os
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_batch import make_batch, model_config
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bevkd.bench.profile import macs_dense2d, synthetic_frame
from bevkd.config import DataConfig, load_model
from bevkd.config.identity import differences
from bevkd.config.plain import to_plain
from bevkd.config.schema import ModelConfig, NormConfig
from bevkd.data import FrameDataset, collate
from bevkd.data.batch import Batch, Cameras
from bevkd.data.reads import Camera, Depth, LidarImage, reads_of
from bevkd.distill.sizes import Sizes
from bevkd.errors import ConfigError
from bevkd.models.base import Detector
from bevkd.models.bev.residual import ResidualEncoder
from bevkd.models.camera.depth.convs import ConvsDepthNet
from bevkd.models.camera.lss_simulated import TwoBranchCameraEncoder
from bevkd.models.camera.neck.lss_fpn import LSSFPN
from bevkd.models.camera.view import splat
from bevkd.models.detector import build_detector, outline, weights_come_later
from bevkd.models.layers import ResidualBlock
from bevkd.models.losses import depth_loss

MODELS = ("simdistill", "fusion_simdistill", "bevfusion_c")


def student(scale: str = "smoke", frames: int = 2, **camera: Any) -> tuple[Detector, Batch]:
    torch.manual_seed(0)
    model = model_config("simdistill", scale, camera=camera) if camera else model_config("simdistill", scale)
    detector, batch = build_detector(model), make_batch(model, frames)
    with torch.no_grad():  # trained weights: nothing looks where it looked at first
        for module in (encoder(detector).gcm_image, encoder(detector).gcm_bev):
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return detector, batch


def encoder(detector: Detector) -> TwoBranchCameraEncoder:
    found = detector.encoders["camera"]  # type: ignore[index]
    assert isinstance(found, TwoBranchCameraEncoder)
    return found


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def everything(detector: Detector, batch: Batch) -> dict[str, Tensor]:
    """All that it says of a batch, by name."""
    out = detector(batch)
    tensors = {name: value for name, value in out.features.items() if isinstance(value, Tensor)}
    for k, task in enumerate(out.head.tasks):
        tensors |= {f"{k}.heatmap": task.heatmap} | {f"{k}.{name}": maps for name, maps in task.regression.items()}
    boxes = detector.decode(out)
    return tensors | {
        f"decoded.{f.name}": value for f in fields(boxes) if (value := getattr(boxes, f.name)) is not None
    }


# No way to LiDAR.


def other_points(batch: Batch) -> dict[str, Batch]:
    """The same images with other LiDAR: random, shuffled, and none at all."""
    g = torch.Generator().manual_seed(1)
    assert batch.points is not None
    assert batch.point_frame is not None
    assert batch.cameras is not None
    assert batch.cameras.lidar is not None
    noise = 50 * torch.randn(batch.points.shape, generator=g)
    depths = 60 * torch.rand(batch.cameras.lidar.shape, generator=g)
    order = torch.randperm(len(batch.points), generator=g)
    virtual = {"points": torch.randn(7, 17, generator=g), "frame": torch.zeros(7, dtype=torch.long)}

    def with_depths(lidar: Tensor | None, depth: Tensor | None) -> Cameras:
        assert batch.cameras is not None
        return replace(batch.cameras, lidar=lidar, depth=depth)

    images = batch.cameras.lidar.flatten(2)
    shuffled = images[..., torch.randperm(images.shape[-1], generator=g)].view_as(batch.cameras.lidar)
    return {
        "random": replace(
            batch, points=noise, cameras=with_depths(depths, depths[..., ::16, ::16]),
            extra=batch.extra | {"lidar_virtual": virtual},
        ),
        "shuffled": replace(
            batch, points=batch.points[order], point_frame=batch.point_frame, cameras=with_depths(shuffled, None)
        ),
        "none": replace(batch, points=None, point_frame=None, cameras=with_depths(None, None), extra={}),
        "empty": replace(
            batch, points=batch.points[:0], point_frame=batch.point_frame[:0],
            cameras=with_depths(torch.zeros_like(depths), None), extra={},
        ),
    }  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "camera", [{}, {"shared_view": True}, {"depth_net": {"kind": "convs"}}, {"view": {"kind": "sample"}}]
)
def test_points_change_no_bit(camera: dict[str, Any], training: bool) -> None:
    detector, batch = student(**camera)
    detector.train(training)
    state = {name: value.clone() for name, value in detector.state_dict().items()}

    def said(of: Batch) -> dict[str, Tensor]:
        detector.load_state_dict(state)
        torch.manual_seed(0)
        with torch.no_grad():
            return everything(detector, of)

    expected = said(batch)
    assert {"simulated", "simulated.raw", "camera", "low", "high", "0.heatmap", "decoded.boxes"} <= set(expected)
    for name, other in other_points(batch).items():
        found = said(other)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], value), f"{name}: {key}"


def test_the_leak_of_the_released_code_would_be_seen() -> None:
    """With its switch on, the same batches give other maps: the test above can tell. So many channels that not all are
    dead at the start.
    """
    leak = {"lidar_depth": True, "depth_net": {"kind": "lidar_aided", "channels": [16, 16, 16]}}
    detector, batch = student(**leak)
    detector.eval()
    with torch.no_grad():
        expected = detector(batch).feature("simulated")
        assert not torch.equal(detector(other_points(batch)["random"]).feature("simulated"), expected)
        with pytest.raises(ValueError, match="no LiDAR images"):
            detector(other_points(batch)["none"])


class Watched(Batch):
    """A batch that tells what is taken of it."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__"):
            object.__getattribute__(self, "__dict__").setdefault("_taken", set()).add(name)
        return object.__getattribute__(self, name)


@torch.no_grad()
def test_forward_takes_images_and_geometry_alone() -> None:
    detector, batch = student()
    watched = Watched(**{f.name: getattr(batch, f.name) for f in fields(batch) if f.init})
    watched.__dict__["_taken"] = set()
    detector.eval()(watched)
    assert watched.__dict__["_taken"] == {"cameras", "bev_aug"}
    assert list(inspect.signature(TwoBranchCameraEncoder.lift_both).parameters) == ["self", "cameras", "bev_aug"]
    held = []
    net = encoder(detector).simulated_depth_and_context
    net.register_forward_pre_hook(lambda _module, inputs: held.append(inputs[1]))
    encoder(detector).depth_and_context.register_forward_pre_hook(lambda _module, inputs: held.append(inputs[1]))
    detector(batch)
    assert batch.cameras is not None
    assert batch.cameras.lidar is not None
    assert len(held) == 2
    assert all(one.lidar is None and one.depth is None for one in held)


def test_reads_images_alone() -> None:
    for scale in ("smoke", "sim", "paper"):
        reads = reads_of(*load_model("simdistill", scale))
        assert reads.names == ("camera",)
        assert reads.records == ("camera",)
    taught = load_model("simdistill", "paper", changes={"camera": {"depth_weight": 3.0}})
    assert [type(one) for one in reads_of(*taught).inputs] == [Camera, Depth]
    assert reads_of(*taught).without_targets().sensors == ("camera",)
    leak = load_model(
        "simdistill", "paper", changes={"camera": {"lidar_depth": True, "depth_net": {"kind": "lidar_aided"}}}
    )
    assert reads_of(*leak).get(LidarImage) is not None
    teacher = reads_of(*load_model("fusion_simdistill", "paper"))
    assert set(teacher.names) == {"lidar", "camera", "lidar_image"}


def test_no_lidar_file_is_opened(smoke_dataset: Any, tmp_path: Path) -> None:
    """The whole way from disk, from a copy of the data without LiDAR files, to the same bits."""
    model, data = load_model("simdistill", "smoke", "nuscenes_sim")
    blind = tmp_path / "blind"
    for path in smoke_dataset.root.rglob("*"):
        target = blind / path.relative_to(smoke_dataset.root)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif "LIDAR" not in str(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    assert any("LIDAR" in str(path) for path in smoke_dataset.root.rglob("*.bin"))

    def frames(root: Path) -> Batch:
        seen: DataConfig = replace(data, root=str(root), version=smoke_dataset.version, index=str(smoke_dataset.index))
        dataset = FrameDataset(seen, model, "train", train=True, seed=0)
        return collate([dataset.get(0, 0), dataset.get(1, 0)]).to("cpu")

    with_files, without = frames(smoke_dataset.root), frames(blind)
    assert without.points is None
    assert without.cameras is not None
    assert without.cameras.lidar is None
    detector = student()[0].eval()
    with torch.no_grad():
        expected, found = everything(detector, with_files), everything(detector, without)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


# The whole, at the small scales.


@pytest.mark.parametrize("scale", ["smoke", "sim"])
def test_maps_and_gradients(scale: str) -> None:
    detector, batch = student(scale)
    out, spec, grid = detector.train()(batch), detector.spec, detector.grid
    width, camera = detector.config.camera.out_channels, detector.config.camera
    assert detector.config.maps == encoder(detector).fused == ("simulated", "camera")
    for name in ("simulated", "camera", "simulated.raw"):
        assert out.feature(name).shape == (2, width, grid.H, grid.W)
        assert (spec.channels(name), spec.info(name).stage) == (width, "low")
    assert out.low.shape == (2, detector.config.fuser.out_channels, grid.H, grid.W)
    size = (camera.image_size[0] // camera.stride, camera.image_size[1] // camera.stride)
    for name in ("depth", "depth.simulated"):
        assert out.feature(name).shape == (2, 6, camera.view.bins, *size)
        assert spec.info(name).layout == "depth"
    assert not torch.equal(out.feature("simulated"), out.feature("simulated.raw"))
    assert not torch.equal(out.feature("simulated.raw"), out.feature("camera"))
    terms = detector.loss(out, batch)
    assert "depth" not in terms
    terms["total"].backward()
    for key, value in detector.named_parameters():
        assert value.grad is not None, key
        assert torch.isfinite(value.grad).all(), key
        assert float(value.grad.abs().sum()) > 0 or key.endswith(".bias"), key


def test_mixed_precision_teaches_every_weight() -> None:
    detector, batch = student()
    with torch.autocast("cpu", torch.bfloat16):
        loss = detector.train().loss(detector(batch), batch)["total"]
    loss.backward()
    assert loss.dtype == torch.float32
    for key, value in detector.named_parameters():
        assert value.grad is not None, key
        assert torch.isfinite(value.grad).all(), key


@torch.no_grad()
def test_the_student_by_hand() -> None:
    """F_U = Fuse([F_SL, F_C]), F_SL = GCM_bev(lift'(GCM_img(X))), F_C = lift(X)."""
    detector, batch = student()
    out, own, cameras = detector.eval()(batch), encoder(detector), batch.cameras
    assert cameras is not None
    b, n = cameras.images.shape[:2]
    levels = own.backbone(cameras.images.flatten(0, 1))
    x = own.neck(levels, (4, 11))

    def lifted(net: nn.Module, features: Tensor) -> Tensor:
        mixed = net(features, cameras, batch.bev_aug)
        view, grid = detector.config.camera.view, detector.grid
        logits, context = (
            mixed.unflatten(0, (b, n)).movedim(2, -1).split([view.bins, own.config.camera.out_channels], -1)
        )
        depths = view.depth_min + view.depth_step * torch.arange(view.bins)
        heights = (detector.config.grid.z_min, detector.config.grid.z_max)
        cells = splat.frustum_cells(cameras, batch.bev_aug, grid, heights, depths, (4, 11))
        spread = (torch.softmax(logits, -1)[..., None] * context[..., None, :])[cells >= 0]
        bev = torch.zeros(b * grid.H * grid.W, context.shape[-1]).index_add_(0, cells[cells >= 0].long(), spread)
        return bev.view(b, grid.H, grid.W, -1).permute(0, 3, 1, 2)

    close = {"atol": 1e-5, "rtol": 1e-4}
    camera, raw = lifted(own.depth_and_context, x), lifted(own.simulated_depth_and_context, own.gcm_image(x))
    torch.testing.assert_close(out.feature("camera"), camera, **close)
    torch.testing.assert_close(out.feature("simulated.raw"), raw, **close)
    simulated = own.gcm_bev(raw)
    torch.testing.assert_close(out.feature("simulated"), simulated, **close)
    low = detector.fuser.conv(torch.cat([simulated, camera], dim=1))  # type: ignore[union-attr,operator]
    torch.testing.assert_close(out.low, low, **close)


def test_one_plan_for_both_view_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int] = []
    plan = splat.plan_splat
    monkeypatch.setattr(splat, "plan_splat", lambda *a: planned.append(1) or plan(*a))
    detector, batch = student()

    def step(own: TwoBranchCameraEncoder) -> dict[str, Tensor]:
        detector.zero_grad()
        out = detector.train()(batch)
        out.low.square().sum().backward()
        grads = {key: p.grad.clone() for key, p in own.named_parameters() if p.grad is not None}
        return {name: out.feature(name).detach() for name in ("camera", "simulated.raw", "low")} | grads

    own = encoder(detector)
    shared = step(own)
    assert len(planned) == 1
    batch.bev_aug = batch.bev_aug.clone()
    batch.bev_aug[:, 0, 3] += 1.0
    moved = step(own)
    assert len(planned) == 2, "another geometry, another plan"
    own.simulated_view_transform._plans = []
    separate = step(own)
    assert len(planned) == 3
    assert all(torch.equal(separate[key], value) for key, value in moved.items())
    assert not torch.equal(shared["camera"], moved["camera"])


# Switches.


def names_of(**camera: Any) -> set[str]:
    model = model_config("simdistill", "smoke", camera=camera)
    return set(build_detector(model).state_dict())


def test_each_switch_removes_its_own_parameters() -> None:
    whole = names_of()
    for setting in ("gcm_image", "gcm_bev"):
        own = {name for name in whole if name.startswith(f"encoders.camera.{setting}.")}
        assert own
        assert names_of(**{setting: None}) == whole - own
    second = {name for name in whole if name.startswith("encoders.camera.simulated_")}
    assert second
    assert names_of(shared_view=True) == whole - second
    leak = names_of(lidar_depth=True, depth_net={"kind": "lidar_aided"})
    assert {name for name in leak if ".depths." in name and "simulated" in name}
    for kind in ("conv", "deform_conv"):
        other = {
            name for name in names_of(gcm_bev={"kind": kind}) ^ whole if not name.startswith("encoders.camera.gcm_bev.")
        }
        assert not other


@torch.no_grad()
def test_without_compensation_both_maps_of_the_branch_are_one() -> None:
    detector, batch = student(gcm_image=None, gcm_bev=None)
    out = detector.eval()(batch)
    assert torch.equal(out.feature("simulated"), out.feature("simulated.raw"))
    own = encoder(detector)
    own.simulated_depth_and_context.load_state_dict(own.depth_and_context.state_dict())
    out = detector(batch)
    assert torch.equal(out.feature("simulated"), out.feature("camera")), "same weights, same images"


@torch.no_grad()
def test_the_shared_view_of_the_released_code() -> None:
    """Both branches are one map, behind the compensation in the images, until that in BEV space."""
    detector, batch = student(shared_view=True)
    out = detector.eval()(batch)
    assert torch.equal(out.feature("simulated.raw"), out.feature("camera"))
    assert torch.equal(out.feature("depth.simulated"), out.feature("depth"))
    assert not torch.equal(out.feature("simulated"), out.feature("camera"))
    before = out.feature("camera").clone()
    encoder(detector).gcm_image = nn.Identity()
    assert not torch.equal(detector(batch).feature("camera"), before)
    two, batch = student()
    before = two.eval()(batch).feature("camera").clone()
    encoder(two).gcm_image = nn.Identity()
    assert torch.equal(two(batch).feature("camera"), before), "by default it is the simulated branch's alone"


def test_depths_are_taught_to_the_simulated_branch() -> None:
    detector, batch = student(depth_weight=3.0)
    model = detector.config
    assert batch.cameras is not None
    g = torch.Generator().manual_seed(0)
    depth = torch.where(torch.rand(2, 6, 4, 11, generator=g) < 0.3, 2 + 30 * torch.rand(2, 6, 4, 11, generator=g), 0.0)
    batch.cameras = replace(batch.cameras, depth=depth)
    out = detector.train()(batch)
    own = encoder(detector)
    term = own.losses(out.features, batch)["depth"]
    expected = depth_loss(
        out.feature("depth.simulated"), depth, model.camera.view.depth_min, model.camera.view.depth_step
    )
    assert torch.equal(term, expected)
    plain = replace(batch, cameras=replace(batch.cameras, depth=None))
    with pytest.raises(ValueError, match="depth targets"):
        own.losses(out.features, plain)
    total, without = detector.loss(out, batch)["total"], detector.criterion(out, batch)["total"]  # type: ignore[operator]
    torch.testing.assert_close(total - without, 3.0 * term, rtol=1e-4, atol=1e-4)
    term.backward()
    assert all(p.grad is None for p in own.depth_and_context.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in own.simulated_depth_and_context.parameters())


def test_what_does_not_fit_is_refused() -> None:
    for camera, message in (
        ({"depth_net": {"kind": "lidar_aided"}}, "lidar_depth is off"),
        ({"lidar_depth": True}, "wants a depth net that reads LiDAR depths"),
        ({"input": "lidar"}, "reads images"),
        ({"gcm_bev": {"kind": "attentoin"}}, "did you mean 'attention'"),
    ):
        with pytest.raises(ConfigError, match=message):
            model_config("simdistill", "smoke", camera=camera)
    batch = make_batch(model_config("simdistill", "smoke"))
    batch.cameras = None
    with pytest.raises(ValueError, match="no images"):
        build_detector(model_config("simdistill", "smoke"))(batch)


# What it is compared with.


@pytest.mark.parametrize("scale", ["smoke", "sim"])
def test_small_students_have_the_shape_of_the_projects_own_detectors(scale: str) -> None:
    """So that `fusion` can teach, and `camera` be the baseline: the same settings but for the second branch."""
    plain = {name: to_plain(load_model(name, scale)[0]) for name in ("fusion", "camera", *MODELS)}

    def apart(one: str, other: str) -> set[str]:
        keys = (line.partition(":")[0].split(".") for line in differences(plain[one], plain[other]))
        return {".".join(key[:2]) for key in keys}

    second = {"camera.kind", "camera.gcm_image", "camera.gcm_bev", "camera.shared_view", "camera.lidar_depth"}
    assert apart("simdistill", "fusion") == second | {"lidar", "sensors"}
    assert apart("simdistill", "camera") == second | {"fuser"}
    assert apart("bevfusion_c", "camera") == set()
    assert apart("fusion_simdistill", "fusion") == {"camera.depth_net"}
    own, teacher = (build_detector(model_config(name, scale)).spec for name in ("simdistill", "fusion"))
    for mine, its in (
        ("camera", "camera"),
        ("simulated", "lidar"),
        ("low", "low"),
        ("high", "high"),
        ("heads", "heads"),
    ):
        assert own.info(mine) == teacher.info(its)
    assert (own.classes, own.regression_maps) == (teacher.classes, teacher.regression_maps)


def test_a_fuser_of_branches_is_there_and_no_other() -> None:
    assert model_config("simdistill", "smoke").fuser is not None
    assert model_config("bevfusion_c", "smoke").fuser is None
    assert ModelConfig(sensors=("camera", "radar")).maps == ("camera", "radar")
    assert model_config("simdistill", "smoke", fuser={"gate": True}).fuser.gate
    with pytest.raises(ConfigError, match="no such stage"):
        model_config("bevfusion_c", "smoke", fuser={"gate": True})
    sizes = Sizes(model_config("simdistill", "paper"))
    assert [sizes.channels(name) for name in ("simulated", "simulated.raw", "camera", "low", "high")] == [
        80, 80, 80, 256, 256,
    ]  # fmt: skip
    assert sizes.cells("simulated") == 180 * 180


# BEVFusion's layers.


@torch.no_grad()
def test_lss_fpn_by_hand() -> None:
    torch.manual_seed(0)
    neck = LSSFPN((4, 6, 8), (8, 16, 32), 8, 5, NormConfig()).eval()
    levels = [torch.randn(2, c, 16 // k, 24 // k) for c, k in ((4, 1), (6, 2), (8, 4))]
    up = lambda maps: interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)  # noqa: E731
    middle = neck.joins[1](torch.cat([levels[1], up(levels[2])], 1))
    expected = neck.joins[0](torch.cat([levels[0], up(middle)], 1))
    out = neck(levels, (16, 24))
    assert torch.equal(out, expected)
    assert float(out.min()) >= 0
    assert [join[0][0].weight.shape for join in neck.joins] == [(5, 9, 1, 1), (5, 14, 1, 1)]  # type: ignore[index]
    with pytest.raises(ConfigError, match="of stride 8"):
        LSSFPN((4, 6), (8, 16), 16, 5, NormConfig())
    with pytest.raises(ConfigError, match="several levels"):
        LSSFPN((4,), (8,), 8, 5, NormConfig())


@torch.no_grad()
def test_decoder_of_bevfusion_by_hand() -> None:
    torch.manual_seed(0)
    changes = {"kind": "residual", "design": "bevfusion", "strides": [2, 4, 4], "final_norm": True}
    model = model_config("bevfusion_c", "smoke", bev=changes)
    decoder = ResidualEncoder(model, 8).eval()
    low = torch.randn(1, 8, 32, 32)
    made = decoder(low)
    assert [made[name].shape[-1] for name in ("B0", "B1", "B2", "high")] == [16, 8, 8, 32]
    up = lambda maps, side: interpolate(maps, (side, side), mode="bilinear", align_corners=False)  # noqa: E731
    neck = decoder.join(torch.cat([made["B0"], up(made["B2"], 16)], 1))
    assert torch.equal(made["high"], decoder.out(up(neck, 32)))
    assert float(made["high"].min()) >= 0
    assert isinstance(decoder.final, nn.Identity), "its last norm is there already"
    shortcut = decoder.stages[0][0].shortcut  # type: ignore[index]
    assert (shortcut[0].kernel_size, shortcut[0].stride, shortcut[0].bias) == ((1, 1), (2, 2), None)
    assert decoder.activations["high"] is decoder.out[0][-1]  # type: ignore[index]
    block = ResidualBlock(8, 4, NormConfig(), 2, project=True, pointwise=True).eval()
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(block(x), torch.relu(block.net(x) + block.shortcut(x)))


@torch.no_grad()
def test_heights_of_the_splat_are_those_that_are_said() -> None:
    """Null is the grid's own; beyond it there is more to sum, within it less."""
    batch = make_batch(model_config("camera", "smoke"))
    maps = []
    for z_range in (None, [-3.0, 5.0], [-30.0, 30.0], [1.4, 1.6]):
        torch.manual_seed(0)
        model = model_config("camera", "smoke", camera={"view": {"z_range": z_range}})
        maps.append(build_detector(model).eval()(batch, until="low").low)
    assert torch.equal(maps[0], maps[1])
    lit = [int((one.abs().sum(1) > 0).sum()) for one in maps]
    assert lit[3] < lit[0] <= lit[2]
    assert not torch.equal(maps[2], maps[0])
    with pytest.raises(ConfigError, match="z_range"):
        model_config("camera", "smoke", camera={"view": {"z_range": [5.0, -3.0]}})


# The published size.


@dataclass
class Seen:
    """Shapes (C, H, W) of maps, and multiply-accumulates."""

    maps: dict[str, tuple[int, ...]]
    macs: int


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a model of the published size on no values. Splatting, which has none to sum, only gives a shape."""
    monkeypatch.setattr(splat.LiftSplat, "_splat_plan", lambda self, cameras, bev_aug, size: None)

    def bags(context: Tensor, depth: Tensor, plan: None) -> Tensor:
        cells = 360 * 360 if side == 180 else 256 * 256
        return context.new_empty(cells, context.shape[1])

    monkeypatch.setattr(splat, "lift_splat", bags)
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_kwargs: nullcontext())  # which knows no such device
    side = 180

    def run(name: str) -> tuple[Detector, Seen]:
        nonlocal side
        model, data = load_model(name, "paper")
        side = model.grid.build().W
        detector = outline(model)
        batch = synthetic_frame(reads_of(model, data), 54.0, 10).to("meta")
        out = detector(batch)
        maps = {name: tuple(value.shape[1:]) for name, value in out.features.items() if isinstance(value, Tensor)}
        maps["heatmap"] = tuple(out.heatmap_logits().shape[1:])
        return detector, Seen(maps, macs_dense2d(detector, batch))

    return run


def test_shapes_at_the_published_size(published: Any) -> None:
    _, seen = published("simdistill")
    expected = {
        "camera": (80, 180, 180), "simulated": (80, 180, 180), "simulated.raw": (80, 180, 180),
        "low": (256, 180, 180), "B0": (128, 90, 90), "B1": (256, 45, 45), "B2": (512, 45, 45), "high": (256, 180, 180),
        "depth": (6, 118, 32, 88), "depth.simulated": (6, 118, 32, 88), "image0": (6, 192, 32, 88),
        "image2": (6, 768, 8, 22), "heatmap": (10, 180, 180),
    }  # fmt: skip
    assert {name: seen.maps[name] for name in expected} == expected
    _, seen = published("bevfusion_c")
    assert (seen.maps["low"], seen.maps["high"]) == ((80, 128, 128), (256, 128, 128))
    model = model_config("bevfusion_c", "paper")
    assert (model.grid.build().x_max, model.camera.view.finer, model.camera.depth_net.kind) == (51.2, 2, "conv")


def test_settings_at_the_published_size() -> None:
    for name in MODELS:
        model = model_config(name, "paper")
        view, head = model.camera.view, model.head
        assert (view.bins, view.depth_min, view.depth_min + 117 * view.depth_step) == (118, 1.0, 59.5)
        assert (view.z_range, view.finer) == ((-10.0, 10.0), 2)
        assert (model.camera.image_size, model.camera.stride) == ((256, 704), 8)
        assert (head.targets, head.min_radius, head.min_overlap, head.shared_channels) == ("gaussian", 2, 0.1, 64)
        assert [len(task) for task in head.tasks] == [1, 2, 2, 1, 2, 2]
        assert (model.loss.loc_weight, model.loss.velocity_weight, model.loss.iou_weight) == (0.25, 0.2, 0.0)
        assert (model.decode.score_threshold, model.decode.per_task) == (0.1, 83)
    own = model_config("simdistill", "paper").camera
    assert (own.gcm_image.heads, own.gcm_image.points, own.gcm_image.table) == (8, 10, (32, 88))
    assert (own.gcm_bev.heads, own.gcm_bev.points, own.gcm_bev.table) == (8, 20, (180, 180))
    assert not own.shared_view
    assert not own.lidar_depth
    lidar = model_config("fusion_simdistill", "paper").lidar
    assert (lidar.cell, lidar.z_cell, lidar.channels, lidar.out_channels) == (0.075, 0.2, (16, 32, 64, 128), 256)


def conv(c_in: int, c_out: int, k: int = 9, bias: bool = False, norm: bool = True) -> int:
    return c_in * c_out * k + c_out * bias + 2 * c_out * norm


def attention(channels: int, heads: int, points: int, rows: int, columns: int) -> int:
    """Values, offsets, weights, output; the two tables."""
    linear = 2 * (channels * channels + channels) + 3 * heads * points * (channels + 1)
    return linear + (rows + columns) * channels // 2


def test_parameters_at_the_published_size_by_hand() -> None:
    neck = conv(384 + 768, 256, 1) + conv(192 + 256, 256, 1) + 2 * conv(256, 256)
    reduce = 3 * conv(80, 80)
    convs = 2 * conv(256, 256) + conv(256, 118 + 80, 1, bias=True, norm=False)
    decoder = 0
    for c_in, c_out in ((256, 128), (128, 256), (256, 512)):
        decoder += conv(c_in, c_out) + 3 * conv(c_out, c_out) + conv(c_in, c_out, 1)
    decoder += conv(512 + 128, 256, 1) + 2 * conv(256, 256)
    head = conv(256, 64)
    for classes in (1, 2, 2, 1, 2, 2):
        for width in (classes, 2, 1, 3, 2, 2):
            head += conv(64, 64) + conv(64, width, bias=True, norm=False)
    detector = outline(model_config("simdistill", "paper"))
    own = encoder(detector)
    assert count(own.neck) == neck
    assert count(own.depth_and_context) == count(own.simulated_depth_and_context) == convs
    assert count(own.view_transform) == count(own.simulated_view_transform) == reduce
    assert count(own.gcm_image) == attention(256, 8, 10, 32, 88)
    assert count(own.gcm_bev) == attention(80, 8, 20, 180, 180)
    assert count(detector.fuser) == conv(160, 256)  # type: ignore[arg-type]
    assert count(detector.bev) == decoder  # type: ignore[arg-type]
    assert count(detector.head) == head  # type: ignore[arg-type]
    parts = neck + 2 * (convs + reduce) + count(own.gcm_image) + count(own.gcm_bev) + conv(160, 256) + decoder + head
    assert count(detector) - count(own.backbone) == parts
    teacher: Any = outline(model_config("fusion_simdistill", "paper"))
    aided = conv(1, 8, 1) + conv(8, 32, 25) + conv(32, 64, 25) + convs + 64 * 256 * 9
    assert count(teacher.encoders["camera"].depth_and_context) == aided
    assert count(teacher.fuser) == conv(336, 256)
    assert count(teacher.bev) == decoder
    baseline: Any = outline(model_config("bevfusion_c", "paper"))
    assert count(baseline.encoders["camera"].depth_and_context) == conv(256, 118 + 80, 1, bias=True, norm=False)
    assert count(baseline.bev) == decoder - (256 - 80) * 128 * (9 + 1)


def test_multiply_accumulates_at_the_published_size_by_hand(published: Any) -> None:
    """Of the parts without the image backbone; attention and splat are no convolutions."""
    detector, seen = published("simdistill")
    images, fine, grid, half, quarter = 6 * 32 * 88, 360**2, 180**2, 90**2, 45**2
    convs = 2 * 256 * 256 * 9 + 256 * 198
    lift = 80 * 80 * 9 * (fine + 2 * grid) + convs * images
    decoder = (256 * 128 * 9 + 3 * 128**2 * 9 + 256 * 128) * half
    decoder += (128 * 256 * 9 + 3 * 256**2 * 9 + 128 * 256 + 256 * 512 * 9 + 3 * 512**2 * 9 + 256 * 512) * quarter
    decoder += (640 * 256 + 256**2 * 9) * half + 256**2 * 9 * grid
    parts = 2 * lift + 160 * 256 * 9 * grid + decoder
    batch = synthetic_frame(reads_of(detector.config, DataConfig()), 54.0, 10).to("meta")
    others = ("backbone", "neck", "gcm_image", "gcm_bev")
    assert seen.macs - macs_of(detector, batch, "head", *(f"encoders.camera.{name}." for name in others)) == parts


def macs_of(detector: Detector, batch: Batch, *parts: str) -> int:
    """Multiply-accumulates of the convolutions in some parts."""
    total = 0

    def add(module: nn.Module, _inputs: Any, out: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += out.numel() * module.kernel_size[0] * module.kernel_size[1] * module.in_channels // module.groups

    hooks = [
        module.register_forward_hook(add)
        for name, module in detector.named_modules()
        if isinstance(module, nn.Conv2d) and name.startswith(parts)
    ]
    detector(batch)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.slow
def test_one_training_step_at_the_published_size() -> None:
    torch.manual_seed(0)
    model = model_config("simdistill", "paper")
    detector, batch = build_detector(weights_come_later(model)).train(), make_batch(model, frames=1)
    assert batch.cameras is not None
    one = {name: value if value is None else value[:, :1] for name, value in vars(batch.cameras).items()}
    batch.cameras = replace(batch.cameras, **one)  # one camera, so that the test takes seconds
    out = detector(batch)
    assert out.low.shape == out.high.shape == (1, 256, 180, 180)
    loss = detector.loss(out, batch)["total"]
    loss.backward()
    assert torch.isfinite(loss.detach())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())


@torch.no_grad()
def test_depth_net_of_convolutions() -> None:
    model = model_config("simdistill", "smoke", camera={"depth_net": {"kind": "convs", "hidden_channels": 12}})
    net = ConvsDepthNet(16, 5, model).eval()
    batch = make_batch(model)
    assert batch.cameras is not None
    x = torch.randn(12, 16, 4, 11)
    out = net(x, batch.cameras, batch.bev_aug)
    assert out.shape == (12, 5 + 16, 4, 11)
    assert torch.equal(out, net.mix(x))
    assert count(net) == conv(16, 12) + conv(12, 12) + conv(12, 21, 1, bias=True, norm=False)
