"""The published settings: every detector builds from the defaults and takes one training step on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models_batch import make_batch, model_config

from bevkd.config.schema import ModelConfig, NormConfig
from bevkd.models.backbone.resnet import ResNet
from bevkd.models.backbone.resnet_settings import ResNetSettings
from bevkd.models.backbone.swin import Swin
from bevkd.models.backbone.swin_settings import SwinSettings
from bevkd.models.detector import Detector, build_detector, weights_come_later
from bevkd.models.fuser.concat_settings import ConcatSettings
from bevkd.models.heads.center import TaskHead
from bevkd.models.heads.center_settings import CenterLossSettings, CenterSettings


def parameters(module: torch.nn.Module) -> float:
    """Millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_backbone_sizes() -> None:
    resnet = ResNet(ResNetSettings(frozen_stem=False))
    assert parameters(resnet) == pytest.approx(23.51, abs=0.01)
    assert resnet.channels == (256, 512, 1024, 2048)
    assert resnet.strides == (4, 8, 16, 32)
    swin = Swin(SwinSettings(frozen_stem=False))
    assert parameters(swin) == pytest.approx(27.52, abs=0.01)
    assert swin.channels == (192, 384, 768)
    assert swin.strides == (8, 16, 32)


def test_parameter_counts_by_hand() -> None:
    """Counts that follow from the published layer tables, without looking at the code."""
    detector = build_detector(ModelConfig(sensors=("lidar",)))

    def conv(c_in: int, c_out: int, k: int, bias: bool = False, norm: bool = True) -> int:
        return c_in * c_out * k + c_out * bias + 2 * c_out * norm

    sparse = conv(5, 16, 27) + 4 * conv(16, 16, 27)
    for a, b in ((16, 32), (32, 64), (64, 128)):
        sparse += conv(a, b, 27) + 4 * conv(b, b, 27)
    sparse += conv(128, 128, 3)
    assert sum(p.numel() for p in detector.encoders["lidar"].parameters()) == sparse
    bev = conv(256, 128, 9) + 5 * conv(128, 128, 9) + conv(128, 256, 9) + 5 * conv(256, 256, 9)
    bev += conv(128, 256, 1) + conv(256, 256, 4)
    assert sum(p.numel() for p in detector.bev.parameters()) == bev
    head = conv(512, 64, 9)
    for classes in (1, 2, 2, 1, 2, 2):
        for width in (classes, 2, 1, 3, 2, 2, 1):
            head += conv(64, 64, 9) + conv(64, width, 9, bias=True, norm=False)
    assert sum(p.numel() for p in detector.head.parameters()) == head
    assert sum(p.numel() for p in detector.criterion.parameters()) == 3


def one_step(model: ModelConfig) -> tuple[Detector, object]:
    torch.manual_seed(0)
    detector, batch = build_detector(weights_come_later(model)), make_batch(model, frames=1)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=1e-4)
    before = [p.detach().clone() for p in detector.head.parameters()]
    out = detector(batch)
    loss = detector.loss(out, batch)["total"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters() if p.requires_grad)
    optimiser.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, detector.head.parameters(), strict=True))
    return detector, out


def test_norms_are_the_authors() -> None:
    """Those of head and fuser have the library's defaults there, the others SECOND's."""
    detector = build_detector(weights_come_later(model_config("fusion_voxel", "paper")))
    norms = {
        name: (module.eps, module.momentum)
        for name, module in detector.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    }
    own = {name: found for name, found in norms.items() if name.startswith(("head.", "fuser."))}
    assert len(own) == 1 + 1 + 6 * 7
    assert set(own.values()) == {(1e-5, 0.1)}
    rest = {name: found for name, found in norms.items() if name not in own and ".backbone." not in name}
    assert set(rest.values()) == {(1e-3, 0.01)}
    queries = build_detector(model_config("lidar_transfusion", "paper")).head
    found = {(m.eps, m.momentum) for m in queries.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    assert found == {(1e-5, 0.1)}


@pytest.mark.parametrize("hidden", [0, 64])
def test_regression_branches_start_as_the_authors(hidden: int) -> None:
    """Variance 2 / (9 * outputs), biases zero; heat maps as the library's convolutions, but for the prior."""
    torch.manual_seed(0)
    head = TaskHead(256, 2, hidden, True, NormConfig())
    head.init_regression()
    start = 2
    for name, width in head.branches[1:]:
        last = head.merged if hidden == 0 else head.separate[name][-1]
        part = slice(start, start + width) if hidden == 0 else slice(None)
        start += width
        assert float(last.weight[part].std()) == pytest.approx((2 / (9 * width)) ** 0.5, rel=0.1)
        assert float(last.bias[part].abs().max()) == 0
        if hidden:
            assert float(head.separate[name][0][0].weight.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    heat = head.merged if hidden == 0 else head.separate["hm"][-1]
    inputs = 9 * (hidden or 256)
    assert float(heat.weight[:2].abs().max()) <= inputs**-0.5
    assert heat.bias[:2].tolist() == pytest.approx([-2.19] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lidar_pillar", "camera_swin"])
def test_low_level_map_of_the_other_models(name: str) -> None:
    model = model_config(name, "paper")
    detector = build_detector(weights_come_later(model))
    low = detector(make_batch(model, frames=1), until="low").low
    assert low.shape == (1, 256, 180, 180)
    low.square().mean().backward()
    grads = [p.grad for p in detector.encoders.parameters() if p.requires_grad]
    assert all(torch.isfinite(g).all() for g in grads if g is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lidar_voxel", "camera", "fusion_voxel"])
def test_one_training_step(name: str) -> None:
    model = model_config(name, "paper")
    assert model == replace(
        ModelConfig(),
        sensors=model.sensors,
        lidar=model.lidar,
        camera=model.camera,
        fuser=None if model.fuser is None else ConcatSettings(norm_eps=1e-5, norm_momentum=0.1),
        head=CenterSettings(regression_init="kaiming", norm_eps=1e-5, norm_momentum=0.1),
        loss=CenterLossSettings(iou_weight=5.0),  # gated, UniDistill spec 4.7
    )
    detector, out = one_step(model)
    assert out.low.shape == (1, 256, 180, 180)  # type: ignore[attr-defined]
    assert out.high.shape == (1, 512, 180, 180)  # type: ignore[attr-defined]
    assert out.heatmap_logits().shape == (1, 10, 180, 180)  # type: ignore[attr-defined]
    assert out.regression_maps().shape == (1, 66, 180, 180)  # type: ignore[attr-defined]
    assert detector.spec.regression_maps == 66
    if "camera" in model.sensors:
        assert out.depth.shape == (1, 6, 112, 16, 44)  # type: ignore[attr-defined]
        stem = detector.encoders["camera"].backbone.stem()  # type: ignore[union-attr,operator]
        assert all(p.requires_grad != model.camera.backbone.frozen_stem for p in stem.parameters())
    if name == "camera":  # the splat is signed; everything behind a ReLU is not
        assert float(out.low.detach().min()) < 0  # type: ignore[attr-defined]
    else:
        assert float(out.low.detach().min()) >= 0  # type: ignore[attr-defined]
    assert float(out.high.detach().min()) >= 0  # type: ignore[attr-defined]
