"""A teacher's fuser that learns together with the student, as in the released code of SimDistill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

from torch import Tensor, nn

from bevkd.errors import ConfigError
from bevkd.models.detectors.bev import BEVDetector
from bevkd.models.outputs import BEVOutputs


class TrainedFuser(nn.Module):
    """A copy of what follows a teacher's sensor maps: its fuser, which learns, its BEV encoder and head, which do not.

    The teacher itself stays as it is, so that its sensor maps, its boxes on unlabelled frames and its cache do, too.

    Args:
        teacher: the network.
        maps: the sensor maps that it has to fuse.

    Raises:
        ConfigError: it fuses others, or none.
    """

    def __init__(self, teacher: nn.Module, maps: Sequence[str]) -> None:
        super().__init__()
        if not isinstance(teacher, BEVDetector) or set(teacher.fused) != set(maps):
            raise ConfigError(f"a teacher fuser that is trained has to fuse {' and '.join(maps)}")
        if teacher.head.reads_batch:
            raise ConfigError("a teacher fuser that is trained wants a head that needs its map alone")
        self.names = teacher.fused
        self.fuser = deepcopy(teacher.fuser).requires_grad_(True)
        self.frozen = deepcopy(nn.ModuleDict({"bev": teacher.bev, "head": teacher.head})).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> TrainedFuser:
        """The fuser's batch norm is in the mode of the training, those behind it keep the teacher's statistics."""
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, maps: Mapping[str, Tensor], heads: bool) -> BEVOutputs:
        """Sensor maps (B, C_i, H, W) to the fused map and, if asked for, what the head says, with a graph."""
        fused = self.fuser({name: maps[name] for name in self.names})
        outputs = BEVOutputs({"low": fused.low})
        if heads:
            outputs.features |= self.frozen["bev"](fused.low)
            outputs.head_output = self.frozen["head"](outputs.high)
        return outputs
