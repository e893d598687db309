"""Weights that image backbones start from: required at the published scale and looked for before anything else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_batch import model_config

from bevkd.cli import main
from bevkd.config import load_rows, load_run, load_scale
from bevkd.config.weights import check_weights_there, image_backbone, weights_folder
from bevkd.errors import ConfigError
from bevkd.models.backbone.resnet import ResNet
from bevkd.models.backbone.resnet_settings import ResNetSettings
from bevkd.models.backbone.settings import LATER
from bevkd.models.backbone.swin import Swin
from bevkd.models.backbone.swin_settings import SwinSettings
from bevkd.models.detector import build_detector, weights_come_later
from bevkd.registry import names, settings
from bevkd.train import train

KEY = "model.camera.backbone.weights"
CAMERA_ROWS = [
    run for run, row in load_rows().items() if "camera" in load_run(run, "paper", row.seeds[0]).model.sensors
]


def test_every_camera_row_of_the_published_scale_says_where_it_starts() -> None:
    assert len(CAMERA_ROWS) > 70
    assert load_scale("paper").image_weights_required
    for run in CAMERA_ROWS:
        backbone = image_backbone(load_run(run, "paper", 0).model)
        assert backbone is not None
        assert backbone.weights, run
        with pytest.raises(ConfigError, match=f"run '{run}' at scale 'paper'.*weights there: name some as {KEY}"):
            load_run(run, "paper", 0, [f"{KEY}=null", "model.camera.backbone.frozen_stem=false"])


@pytest.mark.parametrize("kind", names("image_backbone"))
def test_every_kind_has_weights_at_the_published_scale(kind: str) -> None:
    run = load_run("camera_base", "paper", 0, [f"model.camera.backbone.kind={kind}"])
    assert weights_folder(run.model) is not None
    assert settings("image_backbone", kind).hub_name


@pytest.mark.parametrize("scale", ["smoke", "sim", "paper"])
def test_what_is_frozen_needs_weights_at_every_scale(scale: str) -> None:
    for run in ("camera_base", "s5_camera", "fusion_base"):
        with pytest.raises(ConfigError, match=r"frozen_stem would freeze random weights"):
            load_run(run, scale, 0, [f"{KEY}=null", "model.camera.backbone.frozen_stem=true"])
    assert load_run("lidar_base", scale, 0)  # has no image backbone


@pytest.mark.parametrize("run", ["camera_base", "fusion_base", "s5_camera", "unidistill_p2", "lidar_image"])
def test_training_without_them_refuses_before_any_work(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the data set is looked for; one line says how to get them."""
    config = load_run(run, "paper", 0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path / "runs" / "paper" / run / "seed0")
    (message,) = str(caught.value).splitlines()
    assert f"run {run!r} at scale 'paper'" in message
    assert re.search(r"`hf download microsoft/\S+ model.safetensors --local-dir data/weights/\S+`", message)
    assert f"--set {KEY}=FOLDER (or hub:NAME" in message
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--run", "camera_base", "--scale", "paper", "--runs", str(tmp_path), "--set", f"{KEY}=/nowhere"]
    assert main(command) == 2
    assert "there is no model.safetensors in /nowhere" in capsys.readouterr().err


def test_the_hub_is_no_folder() -> None:
    run = load_run("camera_base", "paper", 0, [f"{KEY}=hub:some/backbone"])
    check_weights_there(run)  # what is asked for by name is downloaded when it is needed
    assert weights_folder(run.model) is None
    other = load_run("camera_base", "paper", 0, [f"{KEY}=/nowhere", "model.camera.backbone.options={depths: [1, 1]}"])
    with pytest.raises(ConfigError, match="in /nowhere, others with --set"):  # the published ones would not fit
        check_weights_there(other)


CLASSIFIERS: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "resnet": ("ResNet", ResNet, ResNetSettings, {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}),
    "swin": ("Swin", Swin, SwinSettings, {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}),
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_weights_of_a_classifier_fit_as_the_hub_has_them(kind: str, tmp_path: Path) -> None:
    import transformers

    name, network, own, options = CLASSIFIERS[kind]
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**options)
    classifier = getattr(transformers, f"{name}ForImageClassification")(config)
    classifier.save_pretrained(tmp_path)
    found = network(own(options=options, weights=str(tmp_path)))
    body = getattr(classifier, kind)
    first = next(iter(dict(body.named_parameters()).items()))
    prefix = "net.swin." if kind == "swin" else "net."
    assert torch.equal(dict(found.named_parameters())[prefix + first[0]], first[1])
    assert not any(p.requires_grad for p in found.stem().parameters())
    wider = options | {"hidden_sizes": [8, 32]} if kind == "resnet" else options | {"embed_dim": 16}
    with pytest.raises(ConfigError, match=r"camera\.backbone\.weights"):
        network(own(options=wider, weights=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"camera\.backbone\.weights"):
        network(own(options=options, weights=str(tmp_path)))


def test_a_network_whose_weights_come_later_reads_none() -> None:
    model = model_config("camera", "smoke")
    backbone = replace(model.camera.backbone, weights="/nowhere", frozen_stem=True)
    model = replace(model, camera=replace(model.camera, backbone=backbone))
    later = weights_come_later(model)
    assert later.camera.backbone == replace(backbone, weights=LATER)
    assert all(not p.requires_grad for p in build_detector(later).encoders["camera"].backbone.stem().parameters())  # type: ignore[union-attr,operator]
    lidar = model_config("lidar_pillar", "smoke")
    assert weights_come_later(lidar) is lidar
