"""Image backbones of the transformers library: built from options; weights from a folder, or from its hub if asked."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from bevkd.errors import ConfigError
from bevkd.models.backbone.settings import HUB, LATER

log = logging.getLogger(__name__)


class ImageBackbone(nn.Module):
    """Base class: images (M, 3, H, W) to feature maps of several strides.

    Attributes:
        channels: width of each returned map.
        strides: its stride relative to the image.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, frozen_stem: bool) -> None:
        super().__init__()
        self.frozen_stem = frozen_stem

    def stem(self) -> nn.Module:
        """The part that `frozen_stem` freezes."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Apply `frozen_stem`: no gradients, and batch statistics as loaded (see `train`)."""
        if self.frozen_stem:
            self.stem().requires_grad_(False)
            self.stem().eval()

    def train(self, mode: bool = True) -> ImageBackbone:
        """Switch the mode of everything but a frozen stem."""
        super().train(mode)
        if self.frozen_stem:
            self.stem().eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps from fine to coarse."""
        raise NotImplementedError


def build_transformers(kind: Any, config_kind: Any, options: dict[str, Any], weights: str | None) -> Any:
    """A transformers backbone, random or with the weights of a local folder or of the hub.

    Args:
        kind: class of the backbone.
        config_kind: class of its configuration.
        options: for that.
        weights: None (or `LATER`), a folder with `model.safetensors`, or `hub:<name>[@<revision>]`, which alone may use
            the network.

    Raises:
        ConfigError: options that the library does not know, weights that are missing, out of reach, or do not fit.
    """
    known = config_kind().to_dict()
    for key in options:
        if key not in known and key != "out_features":
            raise ConfigError(f"camera.backbone.options: {config_kind.__name__} has no option {key!r}")
    try:
        config = config_kind(**options)
        if weights is None or weights == LATER:
            return kind(config)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"camera.backbone.options: {error}") from error
    where: dict[str, Any] = {"local_files_only": True}
    source = weights
    if weights.startswith(HUB):
        source, _, revision = weights.removeprefix(HUB).partition("@")
        if not source:
            raise ConfigError(f"camera.backbone.weights: {weights} names no weights, such as hub:microsoft/resnet-50")
        where = {"local_files_only": False, "revision": revision or "main"}
        log.info("image backbone: asking the hub for %s, revision %s", source, where["revision"])
    elif not (Path(weights) / "model.safetensors").is_file():
        raise ConfigError(f"camera.backbone.weights: no model.safetensors in {weights}")
    try:
        model, info = kind.from_pretrained(
            source, config=config, use_safetensors=True, output_loading_info=True, **where
        )
    # The library's words for "no such model", "no such file" and "no network"; for what cannot be a name; for other
    # shapes; and for a damaged file.
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"camera.backbone.weights: {weights}: {error}") from error
    # A backbone adds norms to the tapped stages of a classifier; anything else missing is another architecture.
    missing = [key for key in info["missing_keys"] if "hidden_states_norms" not in key]
    if missing or info.get("mismatched_keys"):
        raise ConfigError(f"camera.backbone.weights: {weights} does not fit {kind.__name__}: {sorted(missing)[:3]} ...")
    log.info("image backbone: weights of %s", weights)
    return model
