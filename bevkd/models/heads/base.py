"""What a detection head is: from F_high to an output of its own type, and the loss on it."""

from __future__ import annotations

from torch import Tensor, nn

from bevkd.config.schema import ModelConfig
from bevkd.data.batch import Batch
from bevkd.models.features import FeatureInfo
from bevkd.models.head_outputs import HeadOutput
from bevkd.models.stage import Stage
from bevkd.models.tasks import class_order


class Head(Stage):
    """Base class of heads, built from a `ModelConfig` and the channels of F_high.

    Attributes:
        class_order: class indices of what it detects.
        classes: heat maps; 0 where it has none.
        regression_maps: channels of its dense regression maps; 0 where it has none.
        reads_batch: whether `in_units` looks at the batch.
    """

    classes: int = 0
    regression_maps: int = 0
    reads_batch: bool = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.class_order = class_order(config.head.tasks)

    def forward(self, high: Tensor) -> HeadOutput:
        """F_high (B, C, H, W) to what the head says."""
        raise NotImplementedError

    def in_units(self, output: HeadOutput, batch: Batch) -> HeadOutput:
        """What the head says in the units of its output type, where it takes more than the map to know them."""
        return output

    def criterion(self) -> nn.Module:
        """A module (outputs, batch) -> weighted `total` and its detached, unweighted terms."""
        raise NotImplementedError

    def _dense(self, regression_maps: int) -> None:
        """Note a heat map per class and so many regression maps."""
        self.classes, self.regression_maps = len(self.class_order), regression_maps
        self.features["heads"] = FeatureInfo(self.classes + regression_maps, layout="heads", stage="heads")
