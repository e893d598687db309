"""BEV encoders: from F_low to the map that the head reads, by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.errors import ConfigError
from bevkd.models.stage import Stage


@dataclass(frozen=True)
class Step:
    """The layers from named maps of a BEV encoder to the next one, for pictures of it.

    Attributes:
        name: of the map that they make: a feature, or `neck` for the one between the last stage and `high`.
        reads: maps that are concatenated, `low` being the input, with what each goes through before.
        layers: what the concatenated maps go through; None: nothing.
        like: map to whose size those read are enlarged bilinearly; "": they are of one size.
    """

    name: str
    reads: tuple[tuple[str, nn.Module | None], ...]
    layers: nn.Module | None
    like: str = ""


def chained(stages: nn.ModuleList) -> list[Step]:
    """The steps to `B0`..`Bn`, each of the map before it."""
    names = ["low", *(f"B{k}" for k in range(len(stages)))]
    return [Step(name, ((names[k], None),), stages[k]) for k, name in enumerate(names[1:])]


class BEVEncoder(Stage):
    """Base class. A subclass takes its settings from `ModelConfig` and is registered as `bev_encoder`; its `features`
    name the maps inside of it, `B0`..`Bn`, and `high`.

    Args:
        config: model.
        in_channels: of F_low.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()

    def forward(self, low: Tensor) -> dict[str, Tensor]:
        """F_low (B, C, H, W) to the maps of `features`."""
        raise NotImplementedError

    def steps(self) -> list[Step]:
        """What `forward` does, map by map; none where there is no picture of it."""
        return []


def block_strides(config: ModelConfig) -> tuple[int, ...]:
    """Stride of each block on the map of the one before, where `bev.strides` counts them from the input.

    Raises:
        ConfigError: not one width, depth and stride per block, or a stride that the one before, or the input, does not
            fit.
    """
    bev, grid = config.bev, config.grid.build().refined(config.finer)
    if not len(bev.widths) == len(bev.depths) == len(bev.strides) > 0:
        raise ConfigError("bev: widths, depths and strides must have one entry per block")
    before = (1, *bev.strides[:-1])
    if any(s < 1 or s % b for s, b in zip(bev.strides, before, strict=True)):
        raise ConfigError(f"bev.strides {bev.strides} are not multiples of each other")
    if grid.H % bev.strides[-1] or grid.W % bev.strides[-1]:
        raise ConfigError(f"bev.strides: {bev.strides[-1]} does not divide the {grid.W} x {grid.H} input")
    return tuple(s // b for s, b in zip(bev.strides, before, strict=True))
