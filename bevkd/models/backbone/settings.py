"""What the settings of all image backbones have in common."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class BackboneSettings:
    """A backbone of the transformers library.

    Attributes:
        options: passed to the library's own configuration (layer type, widths, depths); empty: its defaults.
        weights: where training starts from: a local folder, or `hub:<name>[@<revision>]`, which alone asks the
            library's hub; none: random.
        frozen_stem: no gradients for the first layer, and batch statistics as loaded.
    """

    options: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    frozen_stem: bool = True
