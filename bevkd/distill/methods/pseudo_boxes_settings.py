"""Options of hard pseudo-boxes."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Few, Share, Weight
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap
from bevkd.registry import register_settings


@register_settings("method", "pseudo_boxes")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PseudoBoxesConfig(MethodSettings):
    """Options: weight of the focal loss, and the Gaussians' overlap and smallest radius (CenterPoint's).

    Attributes:
        weight: of the focal loss.
        min_overlap: IoU that a box within the radius of a Gaussian still has.
        min_radius: of a Gaussian (cells).
    """

    weight: Weight = 5.0
    min_overlap: Share = 0.1
    min_radius: Few = 2

    def taps(self) -> dict[str, Tap]:
        """None: the boxes are the target."""
        return {}
