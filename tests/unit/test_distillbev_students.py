"""BEVDet, BEVDet4D and BEVDepth: their stages by hand and against direct loops, their shapes at every scale."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from models_batch import make_batch, make_cameras, make_past, model_config
from torch import Tensor

from bevkd.bench.profile import profile_model
from bevkd.config.schema import ModelConfig, NormConfig
from bevkd.data.batch import Batch, Boxes, PastCameras
from bevkd.distill.sizes import Sizes
from bevkd.errors import ConfigError, FeatureError
from bevkd.geometry import BEVGrid
from bevkd.models.bev.residual import ResidualEncoder
from bevkd.models.camera.depth.bevdepth import NUMBERS, BEVDepthNet, camera_row
from bevkd.models.camera.neck.fpn import FPN
from bevkd.models.camera.view import splat
from bevkd.models.detector import build_detector, weights_come_later
from bevkd.models.head_outputs import REGRESSION, CenterOutput, TaskOutput
from bevkd.models.heads.center import CenterHead
from bevkd.models.layers import ResidualBlock, residual_blocks
from bevkd.models.losses import DetectionLoss, depth_bin_loss
from bevkd.models.ops.deform import DeformConv, deform_conv
from bevkd.models.ops.warp import warp_bev
from bevkd.models.outputs import BEVOutputs

MODELS = ("bevdet", "bevdet4d", "bevdepth")
# B0, B1, B2 and F_high: channels and cells along a side.
SHAPES = {
    "smoke": ((16, 16), (24, 8), (24, 4), (16, 32)),
    "sim": ((32, 32), (48, 16), (64, 8), (48, 64)),
    "paper": ((128, 64), (256, 32), (512, 16), (256, 128)),
}


def with_depths(model: ModelConfig, frames: int = 2) -> Batch:
    """A batch in which a tenth of the pixels have a depth."""
    batch = make_batch(model, frames)
    assert batch.cameras is not None
    (height, width), stride = model.camera.image_size, model.camera.stride
    shape = (*batch.cameras.images.shape[:2], height // stride, width // stride)
    g = torch.Generator().manual_seed(0)
    depth = torch.where(torch.rand(shape, generator=g) < 0.1, 2 + 30 * torch.rand(shape, generator=g), 0.0)
    batch.cameras = replace(batch.cameras, depth=depth)
    return batch


def past_of(batch: Batch) -> PastCameras:
    past = batch.extra["camera_past"]
    assert isinstance(past, PastCameras)
    return past


# The whole.


@pytest.mark.parametrize("scale", ["smoke", "sim"])
@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_gradients(name: str, scale: str) -> None:
    torch.manual_seed(0)
    model = model_config(name, scale)
    detector, batch = build_detector(model).train(), with_depths(model)
    out = detector(batch)
    grid, spec = detector.grid, detector.spec
    width = model.camera.out_channels * (1 if name == "bevdet" else 2)
    assert out.low.shape == (2, width, grid.H, grid.W)
    for feature, (channels, side) in zip(("B0", "B1", "B2", "high"), SHAPES[scale], strict=True):
        assert out.feature(feature).shape == (2, channels, side, side)
        info = spec.info(feature)
        assert (info.channels, grid.H / info.stride, info.stage) == (channels, side, "high")
    assert out.depth is not None
    assert out.depth.shape == (2, 6, model.camera.view.bins, 8, 22)
    terms = detector.loss(out, batch)
    assert ("depth" in terms) == (name == "bevdepth")
    terms["total"].backward()
    for key, value in detector.named_parameters():
        assert value.grad is not None, key
        assert torch.isfinite(value.grad).all(), key


@torch.no_grad()
def test_shapes_at_the_published_size() -> None:
    for name, low, seen in (("bevdet", 64, 1), ("bevdepth", 128, 2)):
        model = model_config(name, "paper")
        assert getattr(model.camera, "map_channels", model.camera.out_channels) == low == 64 * seen
        encoder = ResidualEncoder(model, low).eval()
        made = encoder(torch.randn(1, low, 128, 128))
        for feature, (channels, side) in zip(("B0", "B1", "B2", "high"), SHAPES["paper"], strict=True):
            assert made[feature].shape == (1, channels, side, side)
        assert (model.camera.view.bins, model.camera.stride, model.camera.image_size) == (59, 16, (256, 704))
        assert model.camera.view.depth_min == 1.0
        assert (model.grid.build().x_max, model.grid.build().W, model.grid.z_min, model.grid.z_max) == (
            51.2, 128, -10.0, 10.0
        )  # fmt: skip
        assert (model.loss.velocity_weight, model.loss.loc_weight, model.loss.iou_weight) == (1.0, 0.25, 0.0)
    assert (model.camera.depth_weight, model.camera.depth_loss, model.head.velocity) == (
        100.0,
        "sigmoid",
        "displacement",
    )


def conv(c_in: int, c_out: int, k: int, bias: bool = False, norm: bool = True) -> int:
    return c_in * c_out * k + c_out * bias + 2 * c_out * norm


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_at_the_published_size_by_hand() -> None:
    detector = build_detector(weights_come_later(model_config("bevdepth", "paper")))

    def stage(c_in: int, c_out: int, blocks: int) -> int:
        first = conv(c_in, c_out, 9) + conv(c_out, c_out, 9) + conv(c_in, c_out, 9, bias=True, norm=False)
        return first + (blocks - 1) * 2 * conv(c_out, c_out, 9)

    bev = stage(128, 128, 2) + stage(128, 256, 2) + stage(256, 512, 2)
    bev += conv(640, 512, 9) + conv(512, 512, 9) + conv(512, 256, 9) + conv(256, 256, 1, bias=True, norm=False)
    assert count(detector.bev) == bev
    camera: Any = detector.encoders["camera"]
    neck = sum(conv(c, 512, 1, bias=True, norm=False) for c in (1024, 2048)) + conv(512, 512, 9, True, False)
    assert count(camera.neck) == neck
    assert count(camera.refine) == stage(64, 64, 2)
    depth = conv(512, 64, 1, True, False) + conv(512, 256, 1, True, False)  # context; to the width of the depth net
    depth += 2 * 33 + 33 * 256 + 256 + stage(256, 256, 3)  # norm and gate of the camera; residual blocks
    depth += conv(256, 256, 9, True, True) + conv(256, 27, 9, True, False)  # deformable convolution and its offsets
    depth += conv(256, 59, 1, True, False)
    assert count(camera.depth_and_context) == depth
    head = conv(256, 64, 9)
    for classes in (1, 2, 2, 1, 2, 2):
        for width in (classes, 2, 1, 3, 2, 2):
            head += conv(64, 64, 9) + conv(64, width, 9, bias=True, norm=False)
    assert count(detector.head) == head


@pytest.mark.slow
def test_one_training_step_at_the_published_size() -> None:
    torch.manual_seed(0)
    model = model_config("bevdepth", "paper")
    detector, batch = build_detector(weights_come_later(model)).train(), with_depths(model, frames=1)
    assert batch.cameras is not None
    two = {name: value if value is None else value[:, :2] for name, value in vars(batch.cameras).items()}
    batch.cameras = replace(batch.cameras, **two)  # cameras, so that the test takes seconds
    batch.extra["camera_past"] = make_past(batch.cameras)
    out = detector(batch)
    assert out.depth is not None
    assert out.depth.shape == (1, 2, 59, 16, 44)
    assert out.low.shape == (1, 128, 128, 128)
    assert out.high.shape == (1, 256, 128, 128)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=1e-4)
    loss = detector.loss(out, batch)["total"]
    loss.backward()
    assert torch.isfinite(loss.detach())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())
    before = detector.bev.stages[0][0].net[0][0].weight.detach().clone()  # type: ignore[union-attr,index]
    optimiser.step()
    assert not torch.equal(before, detector.bev.stages[0][0].net[0][0].weight)  # type: ignore[union-attr,index]


def test_mixed_precision_teaches_every_weight() -> None:
    """Weights that autocast has once cast without gradients stay so for the rest of the pass."""
    torch.manual_seed(0)
    model = model_config("bevdepth", "smoke", camera={"depth_net": {"deformable": True}})
    detector, batch = build_detector(model).train(), with_depths(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = detector.loss(detector(batch), batch)["total"]
    loss.backward()
    assert loss.dtype == torch.float32
    for key, value in detector.named_parameters():
        assert value.grad is not None, key
        assert torch.isfinite(value.grad).all(), key


def test_a_profile_counts_the_residual_encoder() -> None:
    found = profile_model("bevdet", "smoke", rounds=1)
    assert found["params"] == count(build_detector(model_config("bevdet", "smoke")))
    assert found["macs_dense2d"] > 0
    model = model_config("bevdet4d", "smoke")
    sizes = Sizes(model)
    assert [sizes.channels(name) for name in ("low", "B0", "B2", "high")] == [32, 16, 24, 16]
    assert [sizes.cells(name) for name in ("low", "B0", "B2", "high")] == [1024, 256, 16, 1024]


# The earlier moment.

SIDES = BEVGrid(-20.0, -14.4, 0.8, 60, 40)


def turn(degrees: float, x: float = 0.0, y: float = 0.0) -> Tensor:
    """Rotation about z, then a shift."""
    a, out = math.radians(degrees), torch.eye(4, dtype=torch.float64)
    out[:2, :2] = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    out[0, 3], out[1, 3] = x, y
    return out


def warped_by_loops(maps: Tensor, grid: BEVGrid, target_from_source: Tensor) -> Tensor:
    """Cell by cell, bilinear between centres, zero outside."""
    out = torch.zeros_like(maps)
    for b in range(len(maps)):
        inverse = torch.linalg.inv(target_from_source[b].double())
        for iy in range(grid.H):
            for ix in range(grid.W):
                x, y = grid.x_min + (ix + 0.5) * grid.cell, grid.y_min + (iy + 0.5) * grid.cell
                sx, sy, _, _ = (inverse @ torch.tensor([x, y, 0.0, 1.0]).double()).tolist()
                u, v = (sx - grid.x_min) / grid.cell - 0.5, (sy - grid.y_min) / grid.cell - 0.5
                for jy in (math.floor(v), math.floor(v) + 1):
                    for jx in (math.floor(u), math.floor(u) + 1):
                        if 0 <= jx < grid.W and 0 <= jy < grid.H:
                            out[b, :, iy, ix] += (1 - abs(u - jx)) * (1 - abs(v - jy)) * maps[b, :, jy, jx]
    return out


def test_warp_against_loops_on_a_grid_that_is_not_square() -> None:
    g = torch.Generator().manual_seed(0)
    grid = BEVGrid(-4.0, -2.4, 0.8, 11, 7)
    maps = torch.randn(2, 3, grid.H, grid.W, generator=g)
    tilted = turn(33.0, 1.3, -0.7)
    tilted[:3, :3] @= torch.tensor([[1.0, 0, 0.02], [0, 1, 0], [-0.02, 0, 1]]).double()  # a slope, by first order
    moves = torch.stack([tilted, turn(90.0, 0.5, 0.2)])
    expected = warped_by_loops(maps, grid, moves)
    torch.testing.assert_close(warp_bev(maps, grid, moves), expected, atol=1e-5, rtol=1e-5)
    assert 0 < int((expected == 0).sum()) < expected.numel()  # some of it lies beyond the map


def test_a_quarter_turn_puts_cells_upon_cells() -> None:
    maps = torch.randn(1, 2, SIDES.H, SIDES.W, generator=torch.Generator().manual_seed(0))
    out = warp_bev(maps, SIDES, turn(90.0)[None])
    seen = 0
    for iy in range(SIDES.H):
        for ix in range(SIDES.W):
            x, y = SIDES.x_min + (ix + 0.5) * 0.8, SIDES.y_min + (iy + 0.5) * 0.8
            jx, jy = round((y - SIDES.x_min) / 0.8 - 0.5), round((-x - SIDES.y_min) / 0.8 - 0.5)  # back by 90 degrees
            inside = 0 <= jx < SIDES.W and 0 <= jy < SIDES.H
            expected = maps[0, :, jy, jx] if inside else torch.zeros(2)
            torch.testing.assert_close(out[0, :, iy, ix], expected, atol=1e-4, rtol=0)
            seen += inside
    assert 1000 < seen < SIDES.H * SIDES.W


def test_a_vehicle_that_drives_ahead_moves_the_map_back() -> None:
    maps = torch.zeros(1, 1, SIDES.H, SIDES.W)
    maps[0, 0, 5, 30] = 1.0
    out = warp_bev(maps, SIDES, turn(0.0, -2.0, 0.8)[None])  # what was at x is 2 m nearer; 2.5 cells
    assert out[0, 0, 6, 27:29].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
    assert float(out.sum()) == pytest.approx(1.0, abs=1e-5)


@torch.no_grad()
def test_what_stands_still_lies_in_the_same_cells_of_both_maps() -> None:
    """The same images from cameras that did not move while the ego frame did (turn and shift, which do not commute with
    the augmentation): both halves of the map are equal, but where the earlier one ends.
    """
    torch.manual_seed(0)
    model = model_config(
        "bevdet4d", "smoke", grid={"x": [-24.0, 25.6], "y": [-16.0, 19.2]}, camera={"fusion_blocks": 0},
        bev={"strides": [1, 1, 1]},
    )  # fmt: skip
    detector, batch = build_detector(model).eval(), make_batch(model)
    cell = model.grid.cell
    batch.bev_aug = torch.stack([turn(90.0), torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0])).double()]).float()
    moved = torch.stack([turn(90.0, 2 * cell, -3 * cell), turn(-90.0, cell, 4 * cell)])
    past = past_of(batch)
    past.now_from_past = moved.float()
    past.ego_from_camera = (torch.linalg.inv(moved)[:, None] @ past.ego_from_camera.double()).float()
    low = detector(batch, until="low").low
    now, before = low.chunk(2, dim=1)
    lit = before.abs().sum(1) > 0
    assert int(lit.sum()) > 100
    different = ((now - before).abs().amax(1) > 1e-3) & lit
    assert float(different.sum() / lit.sum()) < 0.01  # points on the border of two cells
    assert float(now[:, :, 8:14, 10:20].abs().sum()) > 0
    past.now_from_past = torch.linalg.inv(moved).float()
    wrong = detector(batch, until="low").low.chunk(2, dim=1)[1]
    assert float((wrong - now).abs().sum()) > 0.5 * float(now.abs().sum())


def test_no_gradient_goes_to_the_earlier_moment() -> None:
    torch.manual_seed(0)
    model = model_config("bevdet4d", "smoke")
    detector, batch = build_detector(model).train(), make_batch(model)
    past = past_of(batch)
    assert batch.cameras is not None
    past.images = torch.randn_like(past.images).requires_grad_(True)
    batch.cameras.images.requires_grad_(True)
    out = detector(batch)
    now, before = out.low.chunk(2, dim=1)
    assert float(before.detach().abs().sum()) > 0
    before.sum().backward(retain_graph=True)
    assert past.images.grad is None
    assert not any(p.grad is not None and bool(p.grad.any()) for p in detector.encoders.parameters())
    now.sum().backward()
    assert past.images.grad is None
    assert batch.cameras.images.grad is not None
    assert float(batch.cameras.images.grad.abs().sum()) > 0


def test_both_geometries_are_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    plan = splat.plan_splat
    monkeypatch.setattr(splat, "plan_splat", lambda *a: planned.append(1) or plan(*a))
    model = model_config("bevdet4d", "smoke")
    detector, batch = build_detector(model).eval(), make_batch(model)
    past_of(batch).ego_from_camera[..., 0, 3] += 1.0
    with torch.no_grad():
        first, again = detector(batch, until="low").low, detector(batch, until="low").low
    assert len(planned) == 2
    assert torch.equal(first, again)


def test_what_is_missing_or_does_not_fit_is_named() -> None:
    model = model_config("bevdet4d", "smoke")
    batch = make_batch(model)
    del batch.extra["camera_past"]
    with pytest.raises(ValueError, match="no earlier images"):
        build_detector(model)(batch)
    with pytest.raises(ConfigError, match="displacement wants a detector that reads earlier images"):
        build_detector(model_config("bevdet", "smoke", head={"velocity": "displacement"}))
    for camera in ({"input": "lidar"}, {"depth_net": {"kind": "lidar_aided"}}):
        with pytest.raises(ConfigError, match="reads images alone"):
            build_detector(model_config("bevdet4d", "smoke", camera=camera))
    with pytest.raises(ConfigError, match="neck 'fpn' ends at the finest level"):
        build_detector(model_config("bevdet", "smoke", camera={"stride": 16}))
    with pytest.raises(ConfigError, match="did you mean 'fpn'"):
        model_config("bevdet", "smoke", camera={"neck": "fpnn"})
    with pytest.raises(ConfigError, match="multiples of each other"):
        build_detector(model_config("bevdet", "smoke", bev={"strides": [2, 3, 4]}))
    with pytest.raises(ValueError, match="needs `project`"):
        ResidualBlock(8, 16, NormConfig())


# Motion.


def displaced(branch_channels: int, iou: bool = False) -> tuple[ModelConfig, CenterHead]:
    model = model_config("bevdet4d", "smoke", head={"branch_channels": branch_channels, "iou_branch": iou})
    torch.manual_seed(0)
    return model, CenterHead(model, 8).eval()


@torch.no_grad()
@pytest.mark.parametrize(("branch_channels", "iou"), [(0, False), (0, True), (8, False)])
def test_displacements_come_out_as_velocities(branch_channels: int, iou: bool) -> None:
    model, head = displaced(branch_channels, iou)
    batch = make_batch(model)
    past_of(batch).seconds = torch.tensor([0.5, 2.0])
    said = head(torch.randn(2, 8, 32, 32))
    out = head.in_units(said, batch)
    assert isinstance(out, CenterOutput)
    for before, after in zip(said.tasks, out.tasks, strict=True):
        torch.testing.assert_close(after.regression["vel"][0], before.regression["vel"][0] * 2)
        torch.testing.assert_close(after.regression["vel"][1], before.regression["vel"][1] / 2)
        for name in before.regression.keys() - {"vel"}:
            assert torch.equal(after.regression[name], before.regression[name]), name
        assert torch.equal(
            after.joined, torch.cat([after.regression[n] for n, _ in REGRESSION if n != "iou" or iou], 1)
        )
        assert torch.equal(after.heatmap, before.heatmap)
    plain = model_config("bevdet", "smoke")
    assert CenterHead(plain, 8).in_units(said, batch) is said


def test_displacement_by_hand() -> None:
    """One car at 3 m/s along x and -1 m/s along y, seen over 0.5 s: the network is to say (1.5, -0.5) m."""
    model = model_config(
        "bevdet4d", "smoke", loss={"velocity_weight": 1.0, "huber": {}, "loc_weight": 1.0},
        decode={"score_threshold": 0.3, "nms_iou": 0.1},
    )  # fmt: skip
    grid = model.grid.build()
    truth = torch.tensor([[10.0, -4.0, 0.5, 4.0, 2.0, 1.5, 0.3, 3.0, -1.0]])
    boxes = Boxes(truth, torch.tensor([0]), torch.tensor([0]), torch.ones(1))
    batch = replace(make_batch(model, frames=1), boxes=boxes)
    past_of(batch).seconds = torch.tensor([0.5])
    criterion = DetectionLoss(model)
    target = criterion.assign(boxes, 1)[0]
    (cell,) = target.positive[target.counted > 0].tolist()

    def terms(said: list[float]) -> tuple[dict[str, Tensor], CenterOutput, Tensor]:
        maps = torch.zeros(1, 10, grid.H * grid.W)
        maps[0, :, cell] = target.regression[target.counted > 0][0]
        maps[0, 8:10, cell] = torch.tensor(said)
        maps.requires_grad_(True)
        heat = torch.full((1, 10, grid.H, grid.W), -8.0)
        heat[0, 0].view(-1)[cell] = 4.0
        raw = CenterOutput([TaskOutput.split(heat, maps.view(1, 10, grid.H, grid.W))], tuple(range(10)))
        out = CenterHead(model, 8).in_units(raw, batch)
        assert isinstance(out, CenterOutput)
        features = {"low": torch.zeros(1, 1, grid.H, grid.W)}
        return criterion(BEVOutputs(features, out), batch), out, maps

    right, out, _ = terms([1.5, -0.5])
    assert float(right["loc"]) == pytest.approx(0.0, abs=1e-5)
    found = CenterHead(model, 8).decode(out)
    assert len(found) == 1
    assert found.boxes[0].tolist() == pytest.approx(truth[0].tolist(), abs=1e-4)
    wrong, _, maps = terms([2.0, -0.25])  # 0.5 m and 0.25 m off; in m/s twice as much
    assert float(wrong["loc"]) == pytest.approx(0.75, rel=1e-3)
    wrong["total"].backward()
    assert maps.grad is not None
    # What is learnt is the displacement: the gradient of L1 on it is one, whatever the time.
    assert maps.grad[0, 8:10, cell].tolist() == pytest.approx([1.0, 1.0], rel=1e-3)


# Depths.


def test_depth_bin_loss_by_hand() -> None:
    logits = torch.zeros(1, 1, 4, 1, 3)  # four bins of 0.5 m from 2 m
    depth = torch.tensor([2.0, 3.99, 4.0]).view(1, 1, 1, 3)  # bin 0, bin 3, beyond the last
    assert float(depth_bin_loss(logits, depth, 2.0, 0.5)) == pytest.approx(8 * math.log(2) / 12, rel=1e-6)
    logits[0, 0, :, 0, 0] = torch.tensor([2.0, -1.0, 0.0, 0.5])
    logits[0, 0, :, 0, 2] = 50.0  # of a pixel that does not count
    logits.requires_grad_(True)

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    wanted = (softplus(-2.0) + softplus(-1.0) + softplus(0.0) + softplus(0.5) + 4 * math.log(2)) / 12
    loss = depth_bin_loss(logits, depth, 2.0, 0.5)
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, :, 0, 2].tolist() == [0.0] * 4
    assert float(logits.grad[0, 0, 0, 0, 0]) == pytest.approx((1 / (1 + math.exp(-2.0)) - 1) / 12, rel=1e-5)
    assert float(depth_bin_loss(logits.detach(), torch.zeros_like(depth), 2.0, 0.5)) == 0


def test_depth_is_taught_by_the_loss_that_is_named() -> None:
    torch.manual_seed(0)
    model = model_config("bevdepth", "smoke")
    detector, batch = build_detector(model), with_depths(model)
    assert batch.cameras is not None
    assert batch.cameras.depth is not None
    out = detector(batch)
    terms = detector.loss(out, batch)
    view = model.camera.view
    expected = depth_bin_loss(out.feature("depth"), batch.cameras.depth, view.depth_min, view.depth_step)
    torch.testing.assert_close(terms["depth"], expected.detach())
    without = detector.criterion(out, batch)["total"]
    torch.testing.assert_close(terms["total"], without + 100.0 * expected)


@torch.no_grad()
def test_the_depth_net_knows_33_numbers_of_a_camera() -> None:
    torch.manual_seed(0)
    model = model_config("bevdepth", "smoke", camera={"depth_net": {"deformable": True}})
    cameras, features = make_cameras(1, (64, 176), cameras=2), torch.randn(2, 24, 4, 11)
    cameras.image_aug[:] = torch.tensor([[0.9, -0.1, 7.0], [0.1, 0.9, 5.0], [0.0, 0.0, 1.0]])
    flip = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0]))[None]
    rows = camera_row(cameras, flip)
    assert rows.shape == (2, NUMBERS) == (2, 33)
    assert rows[1, :9].reshape(3, 3).equal(cameras.intrinsics[0, 1])
    assert rows[1, 9:18].tolist() == pytest.approx([0.9, -0.1, 0, 0.1, 0.9, 0, 0, 0, 1])
    assert rows[1, 18:21].tolist() == [7.0, 5.0, 0.0]
    to_ego = flip[0] @ cameras.ego_from_camera[0, 1]
    assert rows[1, 21:30].reshape(3, 3).equal(to_ego[:3, :3])
    assert rows[1, 30:].equal(to_ego[:3, 3])
    with torch.autocast("cpu", torch.bfloat16):
        assert camera_row(cameras, flip).equal(rows)
    net = BEVDepthNet(24, 16, model).eval()
    before = net(features, cameras, flip)
    assert before.shape == (2, 16 + model.camera.out_channels, 4, 11)
    longer = replace(cameras, intrinsics=cameras.intrinsics * torch.tensor([[2.0], [2.0], [1.0]]))
    change = (net(features, longer, flip) - before).abs().amax((0, 2, 3))
    assert float(change[:16].max()) > 1e-4
    assert float(change[16:].max()) == 0  # the context is not gated
    assert BEVDepthNet(24, 0, model)(features, cameras, flip).shape == (2, model.camera.out_channels, 4, 11)


def deformed_by_loops(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    m, channels, height, width = x.shape
    rows = []
    for b, o, iy, ix in (
        (b, o, y, x) for b in range(m) for o in range(len(weight)) for y in range(height) for x in range(width)
    ):
        total = bias[o]
        for k in range(9):
            v = iy + k // 3 - 1 + offset[b, 2 * k, iy, ix]
            u = ix + k % 3 - 1 + offset[b, 2 * k + 1, iy, ix]
            for jy in (math.floor(float(v)), math.floor(float(v)) + 1):
                for jx in (math.floor(float(u)), math.floor(float(u)) + 1):
                    if 0 <= jy < height and 0 <= jx < width:
                        share = (1 - (v - jy).abs()) * (1 - (u - jx).abs()) * mask[b, k, iy, ix]
                        for c in range(channels):
                            total = total + weight[o, c, k // 3, k % 3] * share * x[b, c, jy, jx]
        rows.append(total)
    return torch.stack(rows).view(m, len(weight), height, width)


def test_deformable_convolution_against_loops() -> None:
    g = torch.Generator().manual_seed(0)
    shapes = ((2, 2, 3, 5), (2, 18, 3, 5), (2, 9, 3, 5), (3, 2, 3, 3), (3,))
    found = []
    for function in (deform_conv, deformed_by_loops):
        g.manual_seed(0)
        parts = [torch.randn(*shape, generator=g).requires_grad_(True) for shape in shapes]
        out = function(parts[0], 1.5 * parts[1], parts[2].sigmoid(), parts[3], parts[4])
        out.square().sum().backward()
        found.append((out.detach(), *(part.grad for part in parts)))
    for ours, loops in zip(*found, strict=True):
        torch.testing.assert_close(ours, loops, atol=2e-4, rtol=1e-4)


def test_a_deformable_convolution_starts_as_half_a_plain_one() -> None:
    torch.manual_seed(0)
    layer, x = DeformConv(4, 6), torch.randn(2, 4, 7, 9)
    plain = torch.nn.functional.conv2d(x, layer.weight, None, padding=1)
    torch.testing.assert_close(layer(x), 0.5 * plain + layer.bias[:, None, None], atol=1e-5, rtol=1e-5)  # type: ignore[index]
    layer(x).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in layer.parameters())


# Necks and the BEV encoder.


@torch.no_grad()
def test_fpn_by_hand() -> None:
    neck = FPN((1, 1), (8, 16), 8, 1, NormConfig())
    for lateral, factor in zip(neck.lateral, (1.0, 10.0), strict=True):
        lateral.weight.fill_(factor)  # type: ignore[union-attr,operator]
        lateral.bias.zero_()  # type: ignore[union-attr,operator]
    neck.out.weight.zero_()
    neck.out.weight[0, 0, 1, 1] = 2.0
    neck.out.bias.fill_(0.5)  # type: ignore[union-attr]
    fine = torch.arange(8.0).view(1, 1, 2, 4)
    coarse = torch.tensor([[[[1.0, 2.0]]]])
    wanted = 2 * (fine + 10 * torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2]])) + 0.5
    torch.testing.assert_close(neck([fine, coarse], (2, 4)), wanted)


@torch.no_grad()
def test_a_residual_block_by_its_parts() -> None:
    torch.manual_seed(0)
    stage = residual_blocks(3, 5, 2, NormConfig(), stride=2).eval()
    x = torch.randn(2, 3, 8, 6)
    first, second = stage
    inner = first.net[0](x).relu()
    torch.testing.assert_close(first(x), (first.net[2](first.net[1](inner)) + first.shortcut(x)).relu())
    y = first(x)
    assert y.shape == (2, 5, 4, 3)
    torch.testing.assert_close(second(y), (second.net(y) + y).relu())
    assert len(residual_blocks(4, 4, 0, NormConfig())) == 0


def test_states_of_the_residual_encoder_before_their_activations() -> None:
    model = model_config("bevdet", "smoke", bev={"final_norm": True})
    detector, batch = build_detector(model).eval(), make_batch(model)
    wanted = ["B0.pre", "B2.pre", "high.pre"]
    detector.expose(wanted)
    out = detector(batch)
    for feature in wanted:
        assert torch.equal(out.feature(feature).relu(), out.feature(feature.removesuffix(".pre")))
        assert (out.feature(feature) < 0).any()
    assert float(out.high.detach().min()) >= 0
    plain = build_detector(model_config("bevdet", "smoke"))
    with pytest.raises(FeatureError):
        plain.expose(["high.pre"])
    assert float(plain(batch).high.detach().min()) < 0
    pillars = build_detector(model_config("lidar_pillar", "sim"))
    assert {"B0", "B1", "B2", "high"} <= pillars.spec.features.keys()  # teacher and student have the same names


@torch.no_grad()
@pytest.mark.parametrize("corners", [False, True])
def test_enlarging_keeps_places_unless_told_otherwise(corners: bool) -> None:
    """A ramp stays a ramp: by the centres of all cells, or by those of the outermost ones."""
    model = model_config("bevdet", "smoke", bev={"align_corners": corners})
    encoder = ResidualEncoder(model, 4)
    coarse = torch.arange(4.0).expand(1, 1, 4, 4)
    fine = encoder._enlarged(coarse, torch.zeros(1, 1, 16, 16))[0, 0, 8]
    step = 3 / 15 if corners else 0.25
    start = 0.0 if corners else -0.375
    wanted = torch.tensor([min(3.0, max(0.0, start + step * k)) for k in range(16)])
    torch.testing.assert_close(fine, wanted)
