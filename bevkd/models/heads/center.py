"""CenterPoint head: one heat map per class and regression branches per task, on a shared convolution."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from bevkd.config.schema import DataConfig, ModelConfig, NormConfig
from bevkd.data.batch import Batch, Boxes
from bevkd.data.past_cameras import past_of
from bevkd.data.reads import CameraPast, reads_of
from bevkd.errors import ConfigError
from bevkd.models.decode import decode
from bevkd.models.head_outputs import REGRESSION, CenterOutput, HeadOutput, TaskOutput
from bevkd.models.heads.base import Head
from bevkd.models.layers import conv_bn_relu
from bevkd.models.losses import DetectionLoss
from bevkd.registry import register

# sigmoid(-2.19) = 0.1: the prior that keeps the focal loss of untrained heat maps small.
HEATMAP_BIAS = -2.19


class TaskHead(nn.Module):
    """The branches of one task: `hm` plus those of `REGRESSION`.

    With `branch_channels` > 0 each branch is 3x3 conv + BN + ReLU and a 3x3 conv; with 0 all branches are slices of
    one 3x3 convolution, which is what a CPU wants.
    """

    def __init__(self, shared: int, classes: int, branch_channels: int, iou: bool, norm: NormConfig) -> None:
        super().__init__()
        regression = [(name, width) for name, width in REGRESSION if iou or name != "iou"]
        self.classes, self.branches = classes, [("hm", classes), *regression]
        self.merged: nn.Conv2d | None = None
        self.separate = nn.ModuleDict()
        bias: Tensor | None = None
        if branch_channels == 0:
            self.merged = nn.Conv2d(shared, sum(width for _, width in self.branches), 3, padding=1)
            bias = self.merged.bias
        else:
            for name, width in self.branches:
                first = conv_bn_relu(shared, branch_channels, norm)
                last = nn.Conv2d(branch_channels, width, 3, padding=1)
                self.separate[name] = nn.Sequential(first, last)
                bias = last.bias if name == "hm" else bias
        assert bias is not None
        nn.init.constant_(bias[:classes], HEATMAP_BIAS)

    def init_regression(self) -> None:
        """Start the branches but `hm` from Kaiming's normal distribution (mode `fan_out`), without biases."""
        start = self.classes
        for name, width in self.branches:
            if name == "hm":
                continue
            if self.merged is not None:
                part = slice(start, start + width)
                convolutions = [
                    (self.merged.weight[part], self.merged.bias[part] if self.merged.bias is not None else None)
                ]
                start += width
            else:
                found = (m for m in self.separate[name].modules() if isinstance(m, nn.Conv2d))
                convolutions = [(m.weight, m.bias) for m in found]
            for weight, bias in convolutions:
                nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
                if bias is not None:
                    nn.init.zeros_(bias)

    def forward(self, shared: Tensor) -> TaskOutput:
        """Shared features (B, C, H, W) to the maps of the task."""
        if self.merged is not None:
            maps = self.merged(shared)
            heatmap, regression = torch.split(maps, [self.classes, maps.shape[1] - self.classes], dim=1)
            return TaskOutput.split(heatmap, regression)
        named = {name: self.separate[name](shared) for name, _ in self.branches}
        return TaskOutput(heatmap=named.pop("hm"), regression=named)


@register("head", "center")
class CenterHead(Head):
    """Shared 3x3 convolution and one `TaskHead` per task.

    Raises:
        ConfigError: displacements are to be learnt by a detector that reads no earlier images.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config)
        head, norm = config.head, config.norm.of(config.head)
        if head.velocity == "displacement" and CameraPast.name not in reads_of(config, DataConfig()).names:
            raise ConfigError("model.head.velocity: displacement wants a detector that reads earlier images")
        self.shared = conv_bn_relu(in_channels, head.shared_channels, norm)
        self.tasks = nn.ModuleList(
            TaskHead(head.shared_channels, len(task), head.branch_channels, head.iou_branch, norm)
            for task in head.tasks
        )
        if head.regression_init == "kaiming":
            for task in self.tasks:
                assert isinstance(task, TaskHead)
                task.init_regression()
        per_task = sum(width for name, width in REGRESSION if name != "iou" or head.iou_branch)
        self._dense(per_task * len(head.tasks))
        self.reads_batch = head.velocity == "displacement"

    def forward(self, high: Tensor) -> CenterOutput:
        """F_high (B, C, H, W) to one `TaskOutput` per task."""
        shared = self.shared(high)
        return CenterOutput([task(shared) for task in self.tasks], self.class_order, self.decode)

    def in_units(self, output: HeadOutput, batch: Batch) -> HeadOutput:
        """Displacements divided by the seconds that they took: all that reads the head's maps finds m/s there.

        Raises:
            ValueError: the batch has no earlier images.
        """
        if not self.reads_batch or not isinstance(output, CenterOutput):
            return output
        per_second = 1 / past_of(batch).seconds
        return replace(output, tasks=[task.with_velocity(per_second) for task in output.tasks])

    def criterion(self) -> nn.Module:
        """Heat-map and regression losses; see `DetectionLoss`."""
        return DetectionLoss(self.config)

    def decode(self, output: CenterOutput) -> Boxes:
        """Boxes with scores; see `bevkd.models.decode.decode`."""
        return decode(output, self.config)
