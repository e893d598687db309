"""What a paper may bring: inputs, an encoder, a fuser, a head with its own output, a method on voxels, a detector.

Nothing in bevkd knows of them: they are registered here, and only `registered`, so that other tests do not meet them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as settings_class
from torch import Tensor, nn

from bevkd import registry
from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data.batch import Batch, Boxes, Target
from bevkd.data.inputs.base import Change, InputReader
from bevkd.data.load import RawFrame
from bevkd.data.radar import read_pcd
from bevkd.data.reads import Camera, Input, Reads
from bevkd.data.sample import Sample, flat
from bevkd.distill.base import DistillContext, DistillMethod, Targets
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap, register_tap
from bevkd.models.base import Detector
from bevkd.models.features import FeatureInfo, FeatureSpec
from bevkd.models.fuser.base import Fused, Fuser
from bevkd.models.heads.base import Head
from bevkd.models.heads.settings import HeadSettings
from bevkd.models.lidar.points import to_dense
from bevkd.models.outputs import BEVOutputs, HeadOutput, PointFeatures
from bevkd.models.stage import SensorEncoder, SensorFeatures
from bevkd.models.tasks import class_order
from bevkd.registry import register

_STRICT = ConfigDict(extra="forbid")
_TABLES = (registry._REGISTRY, registry._SETTINGS)


# Inputs: radar points with their states, and the images of the moment before.


@dataclass(frozen=True)
class RadarStates(Input):
    name = "radar_states"
    sensors = ("radar",)
    sweeps: int = 0
    states: int = 8


@register("input", "radar_states")
class RadarStatesReader(InputReader[RadarStates]):
    def load(self, frame: int, raw: RawFrame) -> None:
        sensors, parts = self.loader.index.sensors, []
        at = self.loader.radar_records(frame, self.declared.sweeps)
        for i, pose in zip(at, self.loader.ego_from_sensor(frame, at), strict=True):
            cloud = read_pcd(self.loader.root / sensors.filename[i], sensors.token[i])
            xyz = np.stack([cloud[name] for name in ("x", "y", "z")], axis=1).astype(np.float64)
            state = np.eye(self.declared.states)[cloud["dyn_prop"].astype(np.int64) % self.declared.states]
            parts.append(np.concatenate([xyz @ pose[:3, :3].T + pose[:3, 3], state], axis=1))
        points = np.concatenate(parts).astype(np.float32)
        raw.extra["radar_states"] = points[np.isfinite(points).all(1)]

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        sample.extra["radar_states"] = change.points(raw.extra["radar_states"])

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        points, frame = flat([s.extra["radar_states"] for s in samples])
        batch.extra["radar_states"] = {"points": points, "frame": frame}


@dataclass(frozen=True)
class ImagesBefore(Input):
    name = "images_before"
    sensors = ("camera",)
    needs = ("camera",)
    camera_sweeps = True


@dataclass
class Before:
    """Mean colour (B, N, 3) and age (B, N) in seconds of the images before."""

    colour: Tensor
    age: Tensor


@register("input", "images_before")
class ImagesBeforeReader(InputReader[ImagesBefore]):
    def load(self, frame: int, raw: RawFrame) -> None:
        sensors, colours, found = self.loader.index.sensors, [], []
        for i in self.loader.records(frame, "camera"):
            earlier = [
                k
                for k, channel in enumerate(sensors.channel)
                if channel == sensors.channel[i] and sensors.timestamp[k] < sensors.timestamp[i]
            ]
            found.append(max(earlier, key=lambda k: sensors.timestamp[k], default=i))
            image = self.loader.files.image(sensors.filename[found[-1]], sensors.token[found[-1]])
            colours.append(np.asarray(image).mean((0, 1)) / 255)
        raw.extra["images_before"] = (np.stack(colours), self.loader.ages(frame, found))

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        sample.extra["images_before"] = raw.extra["images_before"]

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        colour, age = (np.stack(c) for c in zip(*(s.extra["images_before"] for s in samples), strict=True))
        batch.extra["images_before"] = Before(torch.from_numpy(colour).float(), torch.from_numpy(age).float())


# A radar encoder with two maps that are fused, and a loss of its own.


@settings_class(frozen=True, kw_only=True, config=_STRICT)
class RadarSettings:
    kind: str = "stub"
    out_channels: int = 6
    states: int = 8
    quiet: float = 0.1

    def reads(self, model: ModelConfig, data: DataConfig) -> Reads:
        size = model.camera.image_size
        camera = Camera(size, data.image_mean, data.image_std, data.crop_in_resize)
        return Reads.of(RadarStates(data.radar_sweeps, self.states), ImagesBefore(), camera)


@register("radar_encoder", "stub")
class RadarEncoder(SensorEncoder):
    Settings = RadarSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        radar = config.radar
        self.grid = config.grid.build()
        self.linear = nn.Linear(3 + radar.states, radar.out_channels)
        self.features = {"radar": FeatureInfo(radar.out_channels), "radar.count": FeatureInfo(1)}

    @property
    def fused(self) -> tuple[str, ...]:
        return ("radar", "radar.count")

    def forward(self, batch: Batch) -> SensorFeatures:
        radar, before = batch.extra["radar_states"], batch.extra["images_before"]
        grid = self.grid
        plane, inside = grid.indices(radar["points"][:, :2])
        cell = radar["frame"][inside] * grid.H * grid.W + plane[inside]
        hidden = torch.relu(self.linear(radar["points"][inside])) + before.colour.mean()
        cells, where = torch.unique(cell, return_inverse=True)
        pooled = hidden.new_zeros(len(cells), hidden.shape[1]).index_add_(0, where, hidden)
        count = hidden.new_zeros(len(cells), 1).index_add_(0, where, hidden.new_ones(len(hidden), 1))
        maps = {"radar": to_dense(pooled, cells, len(batch), grid.H, grid.W)}
        return SensorFeatures(maps | {"radar.count": to_dense(count, cells, len(batch), grid.H, grid.W)})

    def loss_weights(self) -> dict[str, float]:
        return {"quiet": self.config.radar.quiet}

    def losses(self, features: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        return {"quiet": features["radar"].square().mean()}


# A fuser that gates every map.


@settings_class(frozen=True, kw_only=True, config=_STRICT)
class GatedSettings:
    kind: str = "stub_gated"
    out_channels: int = 12


@register("fuser", "stub_gated")
class Gated(Fuser):
    Settings = GatedSettings

    def __init__(self, config: ModelConfig, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        total, width = sum(channels.values()), config.fuser.out_channels
        self.gates = nn.ModuleDict({name.replace(".", "_"): nn.Conv2d(total, c, 1) for name, c in channels.items()})
        self.conv = nn.Conv2d(total, width, 1)
        self.features = {"low": FeatureInfo(width)} | {f"gated.{name}": FeatureInfo(c) for name, c in channels.items()}

    def forward(self, maps: Mapping[str, Tensor]) -> Fused:
        together = torch.cat(list(maps.values()), dim=1)
        gated = {
            f"gated.{name}": value * self.gates[name.replace(".", "_")](together).sigmoid()
            for name, value in maps.items()
        }
        return Fused(self.conv(torch.cat(list(gated.values()), dim=1)), gated)


# A head that says one box per frame and has no dense maps.


@dataclass
class OneBox(HeadOutput):
    """Per frame a centre (B, 2) and logits (B, K)."""

    centre: Tensor
    logits: Tensor
    order: tuple[int, ...]

    def boxes(self) -> Boxes:
        score, slot = self.logits.sigmoid().max(dim=1)
        boxes = torch.zeros(len(self.centre), 9, device=score.device)
        boxes[:, :2], boxes[:, 3:6] = self.centre, 1.0
        labels = torch.tensor(self.order, device=score.device)[slot]
        return Boxes(boxes, labels, torch.arange(len(boxes), device=score.device), score)

    def features(self) -> dict[str, Any]:
        return {"one": self.centre}


@settings_class(frozen=True, kw_only=True, config=_STRICT)
class OneBoxSettings(HeadSettings):
    kind: str = "one_box"


class OneBoxLoss(nn.Module):
    def forward(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        said = outputs.head
        assert isinstance(said, OneBox)
        first = torch.searchsorted(batch.boxes.frame, torch.arange(len(batch)))
        there = torch.bincount(batch.boxes.frame, minlength=len(batch)) > 0
        truth = torch.zeros_like(said.centre)
        truth[there] = batch.boxes.boxes[first[there], :2]
        centre = (said.centre - truth).abs().mean()
        return {"total": centre + said.logits.square().mean(), "centre": centre.detach()}


@register("head", "one_box")
class OneBoxHead(Head):
    Settings = OneBoxSettings

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config)
        self.linear = nn.Linear(in_channels, 2 + len(self.class_order))
        self.features = {"one": FeatureInfo(2, layout="points", stage="heads")}

    def forward(self, high: Tensor) -> OneBox:
        said = self.linear(high.mean((2, 3)))
        return OneBox(said[:, :2], said[:, 2:], self.class_order)

    def criterion(self) -> nn.Module:
        return OneBoxLoss()


# A method on voxels: the mean feature of the teacher's occupied cells, which the student's F_low should know.


@register_tap("mean cell")
@dataclass(frozen=True)
class MeanCell(Tap):
    feature: str = "cells"

    def read(self, reading: Any) -> Target:
        cells, frames = reading.feature(self.feature), reading.context.batch_size
        frame = cells.coordinates[:, 0]
        total = cells.features.new_zeros(frames, cells.features.shape[1]).index_add_(0, frame, cells.features)
        return reading.per_frame(total / torch.bincount(frame, minlength=frames).clamp(min=1)[:, None])

    def entry_bytes(self, sizes: Any) -> float:
        return 2 * 8


@settings_class(frozen=True, config=_STRICT)
class OnVoxelsSettings(MethodSettings):
    weight: float = 2.0
    feature: str = "low"

    def taps(self) -> dict[str, Tap]:
        return {"cells": MeanCell()}

    @property
    def needs_boxes(self) -> bool:
        return False


@register("method", "on_voxels")
class OnVoxels(DistillMethod):
    Settings = OnVoxelsSettings
    config: OnVoxelsSettings

    def __init__(self, config: OnVoxelsSettings, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        self.linear = nn.Linear(student.channels(config.feature), teacher.channels("cells"))

    def weights(self) -> dict[str, float]:
        return {"mean_cell": self.config.weight}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        found = student.feature(self.config.feature)
        if isinstance(found, PointFeatures):
            weight = nn.functional.one_hot(found.frame, context.batch_size).T.float()
            own = weight @ found.features / weight.sum(1, keepdim=True).clamp(min=1)
        else:
            own = found.float().mean((2, 3))
        return {"mean_cell": (self.linear(own) - targets["cells"].values).square().mean()}


# A detector in two stages on points, with no BEV map at all.


@dataclass
class Refined(HeadOutput):
    """Boxes (n, 9) of frames (n,), and the logit of each."""

    code: Tensor
    frame: Tensor
    logits: Tensor
    label: int

    def boxes(self) -> Boxes:
        label = torch.full_like(self.frame, self.label)
        return Boxes(self.code, label, self.frame, self.logits.sigmoid())


@register("detector", "two_stage_points")
class TwoStagePoints(Detector):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.point_net = nn.Sequential(nn.Linear(config.lidar.point_features, 8), nn.ReLU(inplace=True))
        self.foreground, self.refine = nn.Linear(8, 1), nn.Linear(8, 10)
        self.labels = class_order(config.head.tasks)
        self.spec = FeatureSpec(
            {"points": FeatureInfo(8, layout="points", stage="points"), "rois": FeatureInfo(1, stage="proposals")},
            stages=("points", "proposals", "boxes"),
            classes=0,
            regression_maps=0,
            sensors=("lidar",),
        )

    def forward(self, batch: Batch, until: str | None = None) -> BEVOutputs:
        assert batch.points is not None
        assert batch.point_frame is not None
        points = PointFeatures(self.point_net(batch.points / 50), batch.points[:, :3], batch.point_frame)
        outputs = BEVOutputs({"points": points})
        if until == "points":
            return outputs
        logits = self.foreground(points.features)[:, 0]
        best = [
            (points.frame == b).nonzero().squeeze(1)[logits[points.frame == b].argmax()]
            for b in range(len(batch))
            if (points.frame == b).any()
        ]
        outputs.features |= {"logits": logits, "rois": torch.stack(best)}
        if until == "proposals":
            return outputs
        index = outputs.features["rois"]
        said = self.refine(points.features[index])
        place = torch.cat([points.xyz[index], said.new_ones(len(index), 3), said.new_zeros(len(index), 3)], dim=1)
        outputs.head_output = Refined(place + said[:, :9], points.frame[index], said[:, 9], self.labels[0])
        return outputs

    def loss(self, outputs: BEVOutputs, batch: Batch) -> dict[str, Tensor]:
        points, logits, said = outputs.feature("points"), outputs.feature("logits"), outputs.head
        assert isinstance(said, Refined)
        boxes = batch.boxes
        apart = torch.cdist(points.xyz[:, :2], boxes.boxes[:, :2])
        apart = torch.where(points.frame[:, None] == boxes.frame[None], apart, torch.inf)
        near = (apart < 2.0).any(dim=1).float()
        wanted = nn.functional.binary_cross_entropy_with_logits(logits, near)
        box = (said.code[:, 3:6] - 2.0).abs().mean() + said.logits.square().mean()
        return {"total": wanted + box, "foreground": wanted.detach(), "box": box.detach()}


def _take_out() -> list[tuple[dict[str, Any], str, Any]]:
    """Remove what stands in this module from the registry; table, name and class of each."""
    own = [
        (table, name, cls)
        for tables in _TABLES
        for table in tables.values()
        for name, cls in table.items()
        if cls.__module__ == __name__
    ]
    for table, name, _ in own:
        del table[name]
    return own


_STUBS = _take_out()


@contextmanager
def registered() -> Iterator[None]:
    """The stubs are known inside of the with-block."""
    for table, name, cls in _STUBS:
        table[name] = cls
    try:
        yield
    finally:
        _take_out()
