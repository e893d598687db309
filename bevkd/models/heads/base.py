"""What a detection head is: from F_high to outputs, the loss on them, and boxes."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Boxes
from bevkd.models.outputs import BEVOutputs, QueryOutput, TaskOutput
from bevkd.models.tasks import class_order


class Head(nn.Module):
    """Base class of heads, built from a `ModelConfig` and the channels of F_high.

    Attributes:
        class_order: class indices of the concatenated heat maps.
        regression_maps: channels of its dense regression maps; 0 where it has none.
    """

    regression_maps: int = 0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.class_order = class_order(config.head.tasks)

    def forward(self, high: Tensor) -> tuple[list[TaskOutput], QueryOutput | None]:
        """F_high (B, C, H, W) to dense outputs, one per task, and to those of queries."""
        raise NotImplementedError

    def criterion(self) -> nn.Module:
        """A module (outputs, batch) -> weighted `total` and its detached, unweighted terms."""
        raise NotImplementedError

    def decode(self, outputs: BEVOutputs) -> Boxes:
        """Boxes with scores, flat, by frame, then by falling score."""
        raise NotImplementedError
