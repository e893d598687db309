from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from models_batch import make_batch, model_config

from bevkd.config import load_run
from bevkd.config.schema import GridConfig, ModelConfig
from bevkd.data.batch import Boxes
from bevkd.errors import ConfigError, FeatureError
from bevkd.geometry import BEVGrid
from bevkd.models.detector import Detector, build_detector
from bevkd.models.fuser.concat_settings import ConcatSettings
from bevkd.registry import names

MODELS = (
    "lidar_pillar",
    "lidar_voxel",
    "mvp",
    "camera",
    "camera_swin",
    "fusion",
    "fusion_voxel",
    "fusion_gated",
    "camera_radar",
)


def fit(detector: Detector, batch: object, steps: int, lr: float = 3e-3) -> None:
    optimiser = torch.optim.AdamW(detector.parameters(), lr=lr)
    detector.train()
    for _ in range(steps):
        optimiser.zero_grad()
        detector.loss(detector(batch), batch)["total"].backward()  # type: ignore[arg-type]
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimiser.step()
    detector.eval()


def assert_found(found: Boxes, truth: Boxes, distance_m: float, yaw_rad: float) -> None:
    """Every true box has a confident detection of its class at its place with its heading."""
    for i in range(len(truth)):
        same = (found.frame == truth.frame[i]) & (found.labels == truth.labels[i]) & (found.scores > 0.5)
        assert same.any(), f"box {i} (class {int(truth.labels[i])}) is missing"
        gap = (found.boxes[same, :2] - truth.boxes[i, :2]).norm(dim=1)
        best = found.boxes[same][gap.argmin()]
        assert float(gap.min()) < distance_m
        turn = float(best[6] - truth.boxes[i, 6])
        assert abs(math.remainder(turn, 2 * math.pi)) < yaw_rad


@pytest.mark.parametrize("name", MODELS)
def test_feature_contract(name: str) -> None:
    torch.manual_seed(0)
    model = model_config(name, "smoke")
    detector, batch = build_detector(model), make_batch(model)
    grid, spec = detector.grid, detector.spec
    out = detector(batch)
    assert out.low.shape == (2, spec.low_channels, grid.H, grid.W)
    assert out.high.shape == (2, spec.high_channels, grid.H, grid.W)
    assert out.heatmap_logits().shape == (2, spec.classes, grid.H, grid.W)
    assert out.regression_maps().shape == (2, spec.regression_maps, grid.H, grid.W)
    assert tuple(out.sensors) == spec.sensors == tuple(model.sensors)
    assert len(out.stages) == len(model.bev.widths)
    if "camera" in model.sensors:
        assert out.depth is not None
        assert out.depth.shape == (2, 6, 16, 4, 11)
    if "lidar" in model.sensors:
        assert out.cells is not None
        assert len(out.cells.features) == len(out.cells.coordinates) > 0
    detector.loss(out, batch)["total"].backward()
    without = [n for n, p in detector.named_parameters() if p.grad is None]
    assert not without
    low = detector(batch, until="low")
    for late in ("high", "heads"):
        with pytest.raises(FeatureError):
            getattr(low, late)
    high = detector(batch, until="high")
    assert high.high.shape == out.high.shape
    with pytest.raises(FeatureError, match="not run"):
        _ = high.heads


@pytest.mark.parametrize("name", MODELS)
def test_eval_is_deterministic_and_survives_save_and_load(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = model_config(name, "smoke")
    detector, batch = build_detector(model).eval(), make_batch(model)
    torch.save(detector.state_dict(), tmp_path / "model.pt")
    again = build_detector(model).eval()
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.inference_mode():
        first, second, third = detector(batch), detector(batch), again(batch)
    for other in (second, third):
        assert torch.equal(first.heatmap_logits(), other.heatmap_logits())
        assert torch.equal(first.regression_maps(), other.regression_maps())


@pytest.mark.parametrize(
    ("name", "steps"), [("lidar_pillar", 50), ("lidar_voxel", 50), ("camera", 50), ("camera_swin", 50), ("fusion", 50)]
)
def test_overfits_one_batch(name: str, steps: int) -> None:
    torch.manual_seed(0)
    model = model_config(name)
    detector, batch = build_detector(model), make_batch(model)
    fit(detector, batch, steps)
    with torch.inference_mode():
        found = detector.decode(detector(batch))
    assert_found(found, batch.boxes, distance_m=0.4, yaw_rad=0.35)


class WideGrid(GridConfig):
    """48 m along x, 32 m along y, off centre."""

    def build(self) -> BEVGrid:
        return BEVGrid(-20.0, -14.4, 0.8, 60, 40)


def test_a_grid_that_is_not_square_keeps_its_axes() -> None:
    torch.manual_seed(0)
    base = model_config("fusion", bev={"strides": [1, 2], "widths": [32, 32], "depths": [0, 0]})
    model = replace(base, grid=WideGrid(reach=24.0, cell=0.8))
    batch = make_batch(replace(base, grid=GridConfig(reach=14.0)))
    detector = build_detector(model)
    out = detector(batch)
    assert out.low.shape[2:] == out.heads[0].heatmap.shape[2:] == (40, 60)
    fit(detector, batch, 45)
    with torch.inference_mode():
        found = detector.decode(detector(batch))
    assert_found(found, batch.boxes, distance_m=0.4, yaw_rad=0.5)


@pytest.mark.parametrize("name", ["lidar_pillar", "lidar_voxel"])
def test_a_lone_point_lights_up_its_own_cell(name: str) -> None:
    torch.manual_seed(0)
    model = replace(model_config(name), grid=WideGrid(reach=24.0, cell=0.8))
    detector, batch = build_detector(model).eval(), make_batch(model, frames=1)
    batch.points = torch.tensor([[17.3, -9.1, 0.5, 100.0, 0.0]])  # u = 46.6, v = 6.6
    batch.point_frame = torch.zeros(1, dtype=torch.long)
    empty = replace(batch, points=batch.points[:0], point_frame=batch.point_frame[:0])
    with torch.inference_mode():
        change = (detector(batch).low - detector(empty).low).abs().sum(1)[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert abs(row - 6) <= 1
    assert abs(column - 46) <= 1


@pytest.mark.parametrize("name", ["lidar_pillar", "lidar_voxel"])
def test_frames_without_points_train(name: str) -> None:
    model = model_config(name, "smoke")
    detector, batch = build_detector(model), make_batch(model)
    assert batch.points is not None
    batch.points, batch.point_frame = batch.points[:0], torch.zeros(0, dtype=torch.long)
    loss = detector.loss(detector(batch), batch)["total"]
    loss.backward()
    assert torch.isfinite(loss)


def test_bf16_autocast_trains_and_stays_close() -> None:
    for name in ("lidar_pillar", "lidar_voxel", "camera", "fusion"):
        torch.manual_seed(0)
        model = model_config(name, "smoke")
        detector, batch = build_detector(model).eval(), make_batch(model)
        exact = detector(batch).heatmap_logits()
        with torch.autocast("cpu", torch.bfloat16):
            out = detector(batch)
            loss = detector.loss(out, batch)["total"]
        assert loss.dtype == torch.float32
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
        assert float((out.heatmap_logits().float() - exact).detach().abs().max()) < 0.1


def test_geometry_cache_notices_a_moved_camera() -> None:
    model = model_config("camera", "smoke")
    detector, batch = build_detector(model).eval(), make_batch(model)
    moved = copy.deepcopy(batch)
    assert moved.cameras is not None
    moved.cameras.ego_from_camera[0, 0, 0, 3] += 5.0
    with torch.inference_mode():
        before, after, again = detector(batch).low, detector(moved).low, detector(batch).low
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.equal(before, again)


def test_channel_gate_scales_channels() -> None:
    model = replace(model_config("fusion", "smoke"), fuser=ConcatSettings(gate=True, out_channels=16))
    detector, batch = build_detector(model).eval(), make_batch(model)
    assert detector.fuser is not None
    gate = detector.fuser.gate
    with torch.inference_mode():
        gate.weight.zero_()
        gate.bias.fill_(-100.0)  # closes every channel
        closed = detector(batch).low
        inputs = torch.cat(list(detector(batch).sensors.values()), dim=1)
        expected = detector.fuser.conv(torch.zeros_like(inputs))
    torch.testing.assert_close(closed, expected)


def test_frozen_stem_neither_learns_nor_drifts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    build_detector(model_config("camera", "smoke")).encoders["camera"].backbone.net.save_pretrained(tmp_path)  # type: ignore[union-attr,operator]
    model = model_config("camera", "smoke", camera={"backbone": {"frozen_stem": True, "weights": str(tmp_path)}})
    detector, batch = build_detector(model), make_batch(model)
    stem = detector.encoders["camera"].backbone.stem()  # type: ignore[union-attr,operator]
    before = copy.deepcopy(stem.state_dict())
    fit(detector, batch, 2)
    assert all(torch.equal(before[k], v) for k, v in stem.state_dict().items())


CAMERA = {"sensors": ["camera"]}


def test_registry_lists_every_stage() -> None:
    assert names("lidar_encoder") == ["pillar", "pillar_virtual", "voxel"]
    assert names("camera_encoder") == ["lss", "lss_simulated", "lss_temporal"]
    assert names("image_neck") == ["concat", "fpn", "lss_fpn"]
    assert names("image_backbone") == ["resnet", "swin"]
    assert set(names("radar_encoder")) - {"only_reads"} == {"pillar_mlp"}  # that one is of another test
    assert names("fuser") == ["concat", "gated"]
    assert names("bev_encoder") == ["residual", "second_fpn"]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"lidar": {"kind": "pilar", "cell": 0.4, "channels": [16, 32]}}, "did you mean 'pillar'"),
        ({"lidar": {"kind": "pillar", "cell": 0.3, "channels": [16, 32]}}, "power of two"),
        ({"lidar": {"kind": "pillar", "cell": 0.4, "channels": [16]}}, "2 widths"),
        ({"lidar": {"kind": "voxel", "cell": 0.4, "channels": [16, 32, 64]}}, "2 widths"),
        ({"lidar": {"kind": "voxel", "cell": 0.4, "channels": [16, 32], "z_cell": 0.3}}, "z_cell"),
        ({"head": {"tasks": [["car", "lorry"]]}}, "unknown class 'lorry'"),
        ({"head": {"tasks": [["car"], ["car"]]}}, "'car' is given twice"),
        ({"bev": {"strides": [2, 3], "widths": [8, 8], "depths": [0, 0]}}, "multiples"),
        ({"bev": {"widths": [8], "strides": [1, 2]}}, "one entry per block"),
        ({"sensors": []}, "sensors"),
        ({"sensors": ["radar"]}, "radar"),
        (CAMERA | {"camera": {"backbone": {"options": {"depth": 3}}}}, "no option 'depth'"),
        (CAMERA | {"camera": {"backbone": {"weights": "/nowhere"}}}, "no model.safetensors"),
        (CAMERA | {"camera": {"backbone": {"weights": "hub:"}}}, "hub: names no weights"),
        (CAMERA | {"camera": {"backbone": {"frozen_stem": True}}}, "would freeze random weights"),
        (CAMERA | {"camera": {"backbone": {"kind": "swin", "frozen_stem": True}}}, "would freeze random weights"),
        (CAMERA | {"camera": {"image_size": [250, 704]}}, "multiple of the stride"),
    ],
)
def test_bad_settings_are_named(over: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_detector(model_config("lidar_pillar", **over))


def test_local_weights_are_loaded_and_checked(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model: ModelConfig = model_config("camera", "smoke")
    detector = build_detector(model)
    detector.encoders["camera"].backbone.net.save_pretrained(tmp_path)  # type: ignore[union-attr,operator]
    saved = replace(model.camera.backbone, weights=str(tmp_path))
    loaded = build_detector(replace(model, camera=replace(model.camera, backbone=saved)))
    mine, theirs = (d.encoders["camera"].backbone.state_dict() for d in (detector, loaded))  # type: ignore[union-attr]
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    other = {"embedding_size": 8, "hidden_sizes": [8, 16, 24], "depths": [2, 1, 1], "layer_type": "basic"}
    deeper = replace(model.camera, backbone=replace(saved, options=other))
    with pytest.raises(ConfigError, match="does not fit"):
        build_detector(replace(model, camera=deeper))


def test_features_are_as_the_spec_says() -> None:
    model = model_config("fusion", "smoke")
    detector, batch = build_detector(model).eval(), make_batch(model)
    with torch.inference_mode():
        out = detector(batch)
    spec = detector.spec
    assert spec.stages == ("low", "high", "heads")
    assert spec.low_channels == spec.channels("low") == out.low.shape[1]
    assert spec.image_channels == tuple(level.shape[2] for level in out.image)
    assert [spec.features[name].stage for name in ("lidar", "camera", "low", "B0", "high", "heads")] == [
        "low", "low", "low", "high", "high", "heads"
    ]  # fmt: skip
    for name, info in spec.features.items():
        if name.endswith(".pre"):
            continue
        value = out.feature(name)
        if info.layout == "bev":
            assert value.shape == (2, info.channels, detector.grid.H / info.stride, detector.grid.W / info.stride)
        elif info.layout in ("image", "depth"):
            height, width = model.camera.image_size
            assert value.shape == (2, 6, info.channels, height / info.stride, width / info.stride)
        elif info.layout == "cells":
            assert value.features.shape[1] == info.channels
            assert value.coordinates[:, 1].max() < detector.grid.H / info.stride
        else:
            assert info.layout == "heads"
            assert sum(t.heatmap.shape[1] + t.joined.shape[1] for t in value) == info.channels
    assert spec.last_stage(["image0", "B1"]) == "high"
    assert spec.last_stage([]) is None
    with pytest.raises(FeatureError, match="did you mean 'high'"):
        spec.info("hihg")
    with pytest.raises(FeatureError, match="did you mean 'depth'"):
        out.feature("dept")


@pytest.mark.parametrize("name", ["lidar_pillar", "fusion"])
def test_states_before_an_activation_where_asked_for(name: str) -> None:
    model = model_config(name, "smoke")
    detector, batch = build_detector(model).eval(), make_batch(model)
    before = detector(batch)
    assert not any(feature.endswith(".pre") for feature in before.features)
    wanted = ["low.pre", "B0.pre", "high.pre", "high"]
    detector.expose(wanted)
    out = detector(batch)
    assert {feature for feature in out.features if feature.endswith(".pre")} == set(wanted[:3])
    for feature in wanted[:3]:
        after = out.feature(feature.removesuffix(".pre"))
        assert torch.equal(out.feature(feature).relu(), after)
        assert (out.feature(feature) < 0).any()
        assert detector.spec.info(feature) == detector.spec.info(feature.removesuffix(".pre"))
    assert torch.equal(out.high, before.high)
    out.feature("high.pre").sum().backward()
    assert detector.bev.merge.norm.weight.grad is not None  # type: ignore[union-attr]
    assert "high.pre" not in detector(batch, until="low").features
    detector.expose([])
    assert "low.pre" not in detector(batch).features
    with pytest.raises(FeatureError, match=r"did you mean 'high\.pre'"):
        detector.expose(["hihg.pre"])


def test_an_unknown_kind_of_detector_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model.kind: .*unknown detector.*did you mean 'bev'"):
        load_run("camera_base", "smoke", 0, ["model.kind=bv"])
    assert names("detector") == ["bev", "image2d"]
