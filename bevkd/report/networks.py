"""What a diagram of whole networks says: the parts of each from its sensors to its head, with the sizes of their maps,
and what a method compares (SimDistill, Figures 1, 2 and 4). All of it is read from networks as they are built, on no
values: sizes are those of the feature contract.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from bevkd.config import RunConfig
from bevkd.distill.build import build_method
from bevkd.errors import ConfigError, nearest
from bevkd.models.camera.compensation.base import Compensation
from bevkd.models.camera.trunk import ImageTrunk
from bevkd.models.detector import outline
from bevkd.models.detectors.bev import BEVDetector
from bevkd.models.features import BEFORE, FeatureSpec, numbered
from bevkd.models.stage import SensorEncoder
from bevkd.report.encoders import INPUTS

Size: TypeAlias = Callable[[str], str]  # of a feature
Row: TypeAlias = tuple[int, int]
# Kinds of rows of a diagram, from above; a second number orders those of one kind. Maps of one network have a row each,
# so that no arrow between networks meets a box on its way.
INPUT, IMAGE, COMPENSATED, CAMERA, LIFTED, LIDAR, RADAR, GATED, FUSED, STAGES, ENCODED, HEAD = range(12)
_MAPS = {"camera": "camera map", "lidar": "LiDAR map", "radar": "radar map", "simulated": "simulated LiDAR map"}
_ROWS = {"camera": CAMERA, "radar": RADAR}
_WORDS = {
    **{"swin": "Swin", "resnet": "ResNet", "fpn": "FPN", "lss_fpn": "FPN", "lift_splat": "lift and splat"},
    **{"voxel": "sparse voxels", "pillar": "pillars", "pillar_virtual": "pillars", "pillar_mlp": "pillars"},
    **{"concat": "concatenated\nconv 3 × 3", "gated": "gates, concatenated\nconv 3 × 3", "center": "CenterPoint"},
    **{"transfusion": "TransFusion", "residual": "residual blocks", "second_fpn": "convolutions"},
    **{"attention": "deformable attention", "conv": "conv 3 × 3", "deform_conv": "deformable convolution"},
}


@dataclass(frozen=True)
class Block:
    """A part of a network.

    Attributes:
        name: of the feature that it makes, or of what it is.
        title: in words.
        lines: more words; last the size of what it makes.
        row: see above.
        lane: lanes that it stands over, first and last.
        reads: blocks before it.
    """

    name: str
    title: str
    lines: tuple[str, ...]
    row: Row
    lane: tuple[int, int]
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """A network as a diagram shows it.

    Attributes:
        run: whose it is.
        blocks: its parts by name, in the order in which they are run.
        lanes: how many maps stand beside each other before they are fused.
        spec: its features.
    """

    run: str
    blocks: dict[str, Block]
    lanes: int
    spec: FeatureSpec

    def block_of(self, feature: str) -> str:
        """The block that stands for a feature.

        Raises:
            ConfigError: none does.
        """
        name = feature.removesuffix(BEFORE)
        if name == "low" and name not in self.blocks:  # the map of the only sensor
            return next(block.name for block in self.blocks.values() if block.row == (LIDAR, 0))
        name = {"queries": "heads", "depth": "camera", "cells": "lidar"}.get(name, name)
        name = "image" if name in numbered("image", self.spec.features) else name
        if name not in self.blocks:
            raise ConfigError(f"run {self.run!r}: no part of a diagram shows {feature!r}{nearest(name, self.blocks)}")
        return name


@dataclass(frozen=True)
class Lesson:
    """What a student learns of its teacher at one place: losses by name, and the blocks that they compare."""

    losses: tuple[str, ...]
    teacher: str
    student: str


@dataclass
class _Built:
    blocks: dict[str, Block] = field(default_factory=dict)

    def add(self, block: Block) -> str:
        self.blocks[block.name] = block
        return block.name


def read_network(config: RunConfig, stages: Collection[str] = ()) -> Network:
    """Build the network of a run, without values, and look at it.

    Args:
        config: of the run.
        stages: maps inside the BEV encoder, `B0`..`Bn`, that are shown as well.

    Raises:
        ConfigError: it cannot be built, or is no pipeline from sensors to a BEV map and a head.
    """
    detector = outline(config.model)
    if not isinstance(detector, BEVDetector):
        raise ConfigError(f"run {config.run!r}: a diagram shows BEV detectors, not a {config.model.kind!r} one")
    spec, model, built = detector.spec, config.model, _Built()
    grid = detector.grid

    def size(name: str) -> str:
        info = spec.info(name)
        return f"{info.channels} × {round(grid.H / info.stride)} × {round(grid.W / info.stride)}"

    encoders = {name: one for name, one in detector.encoders.items() if isinstance(one, SensorEncoder)}
    fused = [name for encoder in encoders.values() for name in encoder.fused]
    single, before = len(fused) == 1, list[str]()
    for sensor, encoder in encoders.items():
        lanes = [fused.index(name) for name in encoder.fused]
        across = (min(lanes), max(lanes))
        read = [_said(one.name) for one in model.encoder(sensor).reads(model, config.data).inputs if not one.target]
        shape = [" × ".join(map(str, (3, *model.camera.image_size)))] if isinstance(encoder, ImageTrunk) else []
        lines = (*(f"+ {more}" for more in read[1:]), *shape)
        source = built.add(Block(f"input.{sensor}", read[0], lines, (INPUT, 0), across))
        if isinstance(encoder, ImageTrunk):
            source = built.add(_image(encoder, across, source))
        for name, lane in zip(encoder.fused, lanes, strict=True):
            kind = LIDAR if single else _ROWS.get(name, LIDAR)
            before.append(_lane(built, encoder, model.encoder(sensor), name, lane, kind, source, size))
    everywhere = (0, len(fused) - 1)
    last = before[0]
    if not single:
        what = _kind(model.fuser).split("\n")
        gated = [f"gated.{name}" for name in fused if f"gated.{name}" in detector.fuser.features]
        for name in gated:  # gates depend on all maps, so that their results stand below all of them
            own = name.removeprefix("gated.")
            row, lane = (GATED, _ROWS.get(own, LIDAR)), fused.index(own)
            built.add(Block(name, f"{_title(own)}, gated", (size(name),), row, (lane, lane), (own,)))
        lines, parts = (*what, size("low")), tuple(gated or before)
        last = built.add(Block("low", "fused map", lines, (FUSED, 0), everywhere, parts))
    known = numbered("B", spec.features)
    for k, name in enumerate(known):
        if name not in stages:
            continue
        last = built.add(Block(name, f"stage {name}", (size(name),), (STAGES, k), everywhere, (last,)))
    widths = ", ".join(str(spec.channels(name)) for name in known)
    how = (_kind(model.bev), *([f"stages of {widths}"] if widths else []))
    last = built.add(Block("high", "BEV encoder", (*how, size("high")), (ENCODED, 0), everywhere, (last,)))
    built.add(Block("heads", "head", _head(config, spec, size), (HEAD, 0), everywhere, (last,)))
    return Network(config.run, built.blocks, len(fused), spec)


def lessons(student: RunConfig, own: Network, teacher: RunConfig, taught: Network) -> list[Lesson]:
    """What the method of the student's row compares with this teacher, place by place; nothing if it is not its own.

    Raises:
        ConfigError: the method cannot connect the two networks, or compares what no block shows.
    """
    row = student.row
    if row.method is None or row.teacher != teacher.run:
        return []
    with torch.device("meta"):
        method = build_method(row.method, own.spec, taught.spec)
    if not method.uses_teacher:
        return []
    found: dict[tuple[str, str], list[str]] = {}
    for one in method.compared():
        place = taught.block_of(one.teacher), own.block_of(one.student)
        found.setdefault(place, []).append(one.loss)
    return [Lesson(tuple(losses), *place) for place, losses in found.items()]


def stages_compared(student: RunConfig, teacher: RunConfig) -> set[str]:
    """Maps inside the BEV encoders that a method compares, so that both networks show them."""
    if student.row.method is None or student.row.teacher != teacher.run:
        return set()
    specs = [outline(config.model).spec for config in (student, teacher)]
    with torch.device("meta"):
        compared = build_method(student.row.method, *specs).compared()
    return {name for one in compared for name in (one.student, one.teacher)}


def _said(name: str) -> str:
    return INPUTS.get(name, name.replace("_", " "))


def _title(name: str) -> str:
    return _MAPS.get(name, _said(name))


def _image(encoder: ImageTrunk, lane: tuple[int, int], source: str) -> Block:
    camera = encoder.config.camera
    kinds = (camera.backbone.kind, camera.neck)
    how = ", ".join(_WORDS.get(kind, _said(kind)) for kind in kinds if kind != "concat")
    return Block("image", "image encoder", (how, _image_size(encoder)), (IMAGE, 0), lane, (source,))


def _image_size(encoder: ImageTrunk) -> str:
    camera = encoder.config.camera
    height, width = (side // camera.stride for side in camera.image_size)
    return f"{encoder.neck.out_channels} × {height} × {width}"


def _lane(
    built: _Built, encoder: SensorEncoder, settings: Any, name: str, lane: int, kind: int, source: str, size: Size
) -> str:
    """The blocks from what a sensor's encoder has to one of its fused maps; the name of the last."""
    before, after = (_compensation(encoder, name, where) for where in ("gcm_image", "gcm_bev"))
    if before is not None:
        assert isinstance(encoder, ImageTrunk)
        lines = (_kind(settings.gcm_image), _image_size(encoder))
        source = built.add(Block(f"{name}.image", "compensation", lines, (COMPENSATED, 0), (lane, lane), (source,)))
    how = tuple(_lift(encoder)) if isinstance(encoder, ImageTrunk) else (_kind(settings),)
    raw = f"{name}.raw"
    if after is not None:
        source = built.add(Block(raw, "lifted map", (*how, size(raw)), (LIFTED, 0), (lane, lane), (source,)))
        how = ("compensation:", _kind(settings.gcm_bev))
    elif raw in encoder.features and not isinstance(encoder, ImageTrunk):
        source = built.add(Block(raw, f"{_title(name)}, raw", (*how, size(raw)), (LIFTED, 0), (lane, lane), (source,)))
        how = ()
    return built.add(Block(name, _title(name), (*how, size(name)), (kind, 0), (lane, lane), (source,)))


def _compensation(encoder: SensorEncoder, name: str, where: str) -> Compensation | None:
    """The compensation module of the simulated branch, in images or in the BEV map."""
    module = getattr(encoder, where, None) if name == "simulated" else None
    return module if isinstance(module, Compensation) else None


def _kind(settings: Any) -> str:
    return _WORDS.get(settings.kind, _said(settings.kind))


def _lift(encoder: ImageTrunk) -> Iterator[str]:
    view = encoder.config.camera.view
    yield _kind(view)
    if "depth" in encoder.features:
        yield f"{encoder.features['depth'].channels} depth bins"


def _head(config: RunConfig, spec: FeatureSpec, size: Size) -> tuple[str, ...]:
    kind = _kind(config.model.head)
    tasks = len(config.model.head.tasks)
    words = [f"{kind}, {tasks} task{'s' if tasks > 1 else ''}"]
    return (*words, size("heads")) if "heads" in spec.features else tuple(words)
