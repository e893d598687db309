"""What the settings of all image backbones have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import PathText, Words
from bevkd.errors import ConfigError

HUB = "hub:"
# As `weights`: built at random, because those of the whole network are loaded later, or do not matter.
LATER = "later:"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class BackboneSettings:
    """A backbone of the transformers library.

    Attributes:
        hub_name: where the library's hub has weights for the default options, trained on ImageNet-1k.
        options: passed to the library's own configuration (layer type, widths, depths); empty: its defaults.
        weights: where training starts from: a local folder, or `hub:<name>[@<revision>]`, which alone asks the
            library's hub; none: random.
        frozen_stem: no gradients for the first layer, and batch statistics as loaded; only with `weights`.
    """

    hub_name: ClassVar[str] = ""

    options: dict[Words, Any] = Field(default_factory=dict)
    weights: PathText | None = None
    frozen_stem: bool = True

    @property
    def random(self) -> bool:
        """Whether the backbone is built without reading weights."""
        return self.weights is None or self.weights == LATER

    def check(self) -> None:
        """What is never taught must have been taught before.

        Raises:
            ConfigError: a frozen layer without weights.
        """
        if self.frozen_stem and self.weights is None:
            raise ConfigError(
                "model.camera.backbone.frozen_stem would freeze random weights: name some as"
                " model.camera.backbone.weights (a folder, or hub:NAME), or set frozen_stem to false"
            )
