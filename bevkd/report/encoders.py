"""What a diagram of two BEV encoders says: every map with its size, the layers before it, and the adapters between
levels (DistillBEV, Figure 4 of the supplement). All of it is read from networks as they are built, on no values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from bevkd.config import RunConfig
from bevkd.data.reads import reads_of
from bevkd.distill.adapters import MapAdapter
from bevkd.distill.build import build_method
from bevkd.errors import ConfigError
from bevkd.models.base import Detector
from bevkd.models.bev.base import BEVEncoder, Step
from bevkd.models.detector import outline
from bevkd.models.layers import ResidualBlock

INPUTS = {"lidar": "LiDAR points", "camera": "images", "camera_past": "earlier images", "radar": "radar points"}
INPUTS |= {"lidar_virtual": "virtual points", "radar_features": "radar points", "lidar_image": "LiDAR depths"}


@dataclass(frozen=True)
class Map:
    """A map of a BEV encoder.

    Attributes:
        name: `low`, a feature, or `neck`.
        layers: what makes it, a line each.
        shape: (C, H, W).
        cell: side of a cell (m).
        reads: the maps that it is made of.
    """

    name: str
    layers: tuple[str, ...]
    shape: tuple[int, int, int]
    cell: float
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """A level that is compared.

    Attributes:
        level: its name in both networks.
        layers: of the adapter, a line each.
        widths: channels before, between and behind its convolutions.
        parameters: how many it has.
    """

    level: str
    layers: tuple[str, ...]
    widths: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Encoders:
    """Maps of teacher and student in the order in which they are made, and the levels that are compared."""

    teacher: list[Map]
    student: list[Map]
    links: list[Link]


def read_encoders(teacher: RunConfig, student: RunConfig, distilled: RunConfig) -> Encoders:
    """Build the networks of the three runs, without values, and look at them.

    Raises:
        ConfigError: one cannot be built, or has a BEV encoder that does not say its steps; a method without map
            adapters, or with one for a map outside of the BEV encoders.
    """
    taught, own = outline(teacher.model), outline(student.model)
    maps = _maps(taught, teacher), _maps(own, student)
    assert distilled.row.method is not None  # BEVEncoders.settings
    spec = own.spec if distilled.model == student.model else outline(distilled.model).spec
    with torch.device("meta"):
        method = build_method(distilled.row.method, spec, taught.spec)
    adapters = method.map_adapters()
    if not adapters:
        raise ConfigError(f"run {distilled.run!r}: method {distilled.row.method.kind!r} adapts no whole maps")
    shapes = [{one.name: one.shape for one in found} for found in maps]
    if elsewhere := [name for name in adapters if any(name not in known for known in shapes)]:
        raise ConfigError(f"run {distilled.run!r}: level {elsewhere[0]!r} is in no BEV encoder")
    links = [_link(name, one, *(known[name] for known in shapes)) for name, one in adapters.items()]
    return Encoders(maps[0], maps[1], links)


def _maps(detector: Detector, run: RunConfig) -> list[Map]:
    """The maps of a BEV encoder, after a pass without values."""
    encoder, grid = getattr(detector, "bev", None), detector.grid
    steps = encoder.steps() if isinstance(encoder, BEVEncoder) else []
    if not steps:
        raise ConfigError(f"run {run.run!r}: its network has no BEV encoder that says its steps")
    assert isinstance(encoder, BEVEncoder)
    low = detector.spec.info("low")
    height, width = (round(cells / low.stride) for cells in (grid.H, grid.W))
    shapes = _pass(encoder, steps, torch.zeros(1, low.channels, height, width, device="meta"))
    looked_at = [one.name for one in reads_of(run.model, run.data).inputs if not one.target]
    inputs = " and ".join(INPUTS.get(name, name.replace("_", " ")) for name in looked_at)
    out = [Map("low", (f"of {inputs}",), shapes["low"], grid.cell * low.stride)]
    for step in steps:
        shape = shapes[step.name]
        side = grid.cell * grid.W / shape[2]
        out.append(Map(step.name, tuple(_said(step, shapes)), shape, side, tuple(name for name, _ in step.reads)))
    return out


@torch.no_grad()
def _pass(encoder: BEVEncoder, steps: list[Step], low: Tensor) -> dict[str, tuple[int, int, int]]:
    """Sizes (C, H, W) of the maps in a pass; `<map> to <step>` where one has layers of its own before a step."""
    seen: dict[str, tuple[int, int, int]] = {"low": _size(low)}

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen[name] = _size(output)

    hooks = []
    for step in steps:
        watched = {step.name: step.layers} | {f"{name} to {step.name}": module for name, module in step.reads}
        hooks += [m.register_forward_hook(partial(keep, name)) for name, m in watched.items() if m is not None]
    made = encoder(low)
    for hook in hooks:
        hook.remove()
    for step in steps:
        if step.layers is None:
            parts = [seen.get(f"{name} to {step.name}", seen[name]) for name, _ in step.reads]
            seen[step.name] = (sum(part[0] for part in parts), *parts[0][1:])
    return seen | {name: _size(value) for name, value in made.items()}


def _size(maps: Tensor) -> tuple[int, int, int]:
    channels, height, width = maps.shape[1:]
    return channels, height, width


def _said(step: Step, shapes: dict[str, tuple[int, int, int]]) -> Iterator[str]:
    """The layers of a step, a line each."""
    several = len(step.reads) > 1
    for name, module in step.reads:
        said = list(layers_said(module)) if module is not None else []
        if step.like and shapes[step.like][1] != shapes[name][1]:
            said.append(f"×{shapes[step.like][1] / shapes[name][1]:g} bilinear")
        if said or several:
            yield f"{name}: {', '.join(said)}" if said and several else ", ".join(said) or name
    if several:
        channels = sum(shapes.get(f"{name} to {step.name}", shapes[name])[0] for name, _ in step.reads)
        yield f"concatenated, {channels} channels"
    if step.layers is not None:
        yield from layers_said(step.layers)


def layers_said(module: nn.Module) -> Iterator[str]:
    """Layers in words, equal ones counted: `2 residual blocks, stride 2`; `6 × (conv 3 × 3, BN, ReLU), stride 2`."""
    units: list[tuple[str, int]] = []
    for layer in _flat(module):
        if isinstance(layer, nn.BatchNorm2d | nn.ReLU) and units:
            said, stride = units[-1]
            units[-1] = (f"{said}, {_word(layer)}", stride)
        else:
            units.append((_word(layer), _stride(layer)))
    for said, group in groupby(units, key=lambda unit: unit[0]):
        strides = [stride for _, stride in group]
        count, total = len(strides), torch.Size(strides).numel()
        counted = f"{count} × ({said})" if "," in said else f"{count} {said}{'s' if said.endswith('block') else ''}"
        yield (counted if count > 1 else said) + (f", stride {total}" if total > 1 else "")


def _flat(module: nn.Module) -> Iterable[nn.Module]:
    """The layers of nested sequences, but those that do nothing."""
    if isinstance(module, nn.Sequential):
        return [layer for part in module for layer in _flat(part)]
    return [] if isinstance(module, nn.Identity) else [module]


def _word(layer: nn.Module) -> str:
    match layer:
        case ResidualBlock():
            return "residual block"
        case nn.ConvTranspose2d():
            return f"deconv {layer.kernel_size[0]} × {layer.kernel_size[1]}"
        case nn.Conv2d():
            return f"conv {layer.kernel_size[0]} × {layer.kernel_size[1]}"
        case nn.BatchNorm2d():
            return "BN"
        case nn.ReLU():
            return "ReLU"
    raise ConfigError(f"a diagram has no word for a layer {type(layer).__name__}")


def _stride(layer: nn.Module) -> int:
    if isinstance(layer, ResidualBlock):
        first = next(part for part in layer.modules() if isinstance(part, nn.Conv2d))
        return int(first.stride[0])
    return int(layer.stride[0]) if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else 1


def _link(level: str, adapter: MapAdapter, taught: tuple[int, int, int], own: tuple[int, int, int]) -> Link:
    layers = [layer for layer in adapter.layers if isinstance(layer, nn.Linear)]  # 1x1 convolutions, channels last
    said = [f"×{taught[1] / own[1]:g} bilinear"] if taught[1:] != own[1:] else []
    one = "conv 1 × 1" + (", BN, ReLU" if adapter.rectified else "")
    said.append(f"{len(layers)} × ({one})" if len(layers) > 1 else one)
    widths = (layers[0].in_features, *(layer.out_features for layer in layers))
    return Link(level, tuple(said), widths, sum(p.numel() for p in adapter.parameters()))
