"""Weights that an image backbone starts from: whether a run must say some, and whether those that it says are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bevkd.config.schema import ModelConfig, RunConfig
from bevkd.errors import ConfigError

if TYPE_CHECKING:
    from bevkd.models.backbone.settings import BackboneSettings

FILE = "model.safetensors"
_KEY = "model.camera.backbone.weights"
_OTHERS = f"others with --set {_KEY}=FOLDER (or hub:NAME, which downloads them), or a line in config/scales"


def image_backbone(model: ModelConfig) -> BackboneSettings | None:
    """Settings of the image backbone; None for a network without one, or with one of another family."""
    from bevkd.models.backbone.settings import BackboneSettings

    backbone = getattr(model.camera, "backbone", None) if "camera" in model.sensors else None
    return backbone if isinstance(backbone, BackboneSettings) else None


def check_weights_said(run: RunConfig, required: bool) -> None:
    """What is frozen must have been taught before; and some scales want every image backbone to start from weights.

    Args:
        run: the run.
        required: whether its scale does.

    Raises:
        ConfigError: weights must be said and are not.
    """
    backbone = image_backbone(run.model)
    if backbone is None:
        return
    where = f"run {run.run!r} at scale {run.scale!r}"
    try:
        backbone.check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if required and backbone.weights is None:
        raise ConfigError(
            f"{where}: every image backbone starts from weights there: name some as {_KEY} (a folder, or hub:NAME)"
        )


def weights_folder(model: ModelConfig) -> Path | None:
    """The folder that the image backbone starts from; None where it starts at random or asks the hub."""
    from bevkd.models.backbone.settings import HUB

    backbone = image_backbone(model)
    if backbone is None or backbone.weights is None or backbone.random or backbone.weights.startswith(HUB):
        return None
    return Path(backbone.weights)


def check_weights_there(run: RunConfig) -> None:
    """Look for the weights of a run before anything else is done for it; nothing is downloaded here.

    Raises:
        ConfigError: they are not there; the message says how to get them.
    """
    folder = weights_folder(run.model)
    if folder is None or (folder / FILE).is_file():
        return
    backbone = image_backbone(run.model)
    known = "" if backbone is None or backbone.options else backbone.hub_name
    fetch = f"; `{fetch_command(known, folder)}` gets those of the paper's network" if known else ""
    raise ConfigError(
        f"run {run.run!r} at scale {run.scale!r}: {_KEY}: there is no {FILE} in {folder}{fetch}, {_OTHERS}"
    )


def fetch_command(name: str, folder: Path) -> str:
    """The command of the library's own client that downloads weights."""
    return f"hf download {name} {FILE} --local-dir {folder}"
