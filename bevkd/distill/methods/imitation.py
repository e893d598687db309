"""Plain feature imitation: FitNets (Romero et al., ICLR 2015) in its one-stage form on BEV maps.

    L = sum over features of mean (r(F_S) - F_T)^2,   r = 1x1 convolution from the student's to the teacher's width

`mask: fg` takes the mean over cells inside boxes only (cells whose centre lies in a box, and the cell of its centre).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from bevkd.distill.adapters import module_key
from bevkd.distill.base import DistillContext, DistillMethod, FeatureSpec, Targets
from bevkd.distill.methods.imitation_settings import CELL, ImitationConfig
from bevkd.distill.pairwise import EPS
from bevkd.distill.sampling import gather_cells
from bevkd.errors import ConfigError
from bevkd.models.outputs import BEVOutputs
from bevkd.ranks import rank_mean
from bevkd.registry import register


@register("method", "imitation")
class Imitation(DistillMethod):
    """Mean squared error between teacher maps and regressed student maps."""

    Settings = ImitationConfig
    config: ImitationConfig

    def __init__(self, config: ImitationConfig, student: FeatureSpec, teacher: FeatureSpec) -> None:
        super().__init__(config, student, teacher)
        if not config.features or len(set(config.features)) != len(config.features):
            raise ConfigError("imitation needs at least one feature, each once")
        # Linear layers, because a 1x1 convolution can then be applied to whole maps and to gathered cells alike.
        self.regressors = nn.ModuleDict(
            {module_key(name): nn.Linear(student.channels(name), teacher.channels(name)) for name in config.features}
        )

    def weights(self) -> dict[str, float]:
        """One weight for all features."""
        return {f"imitation_{name}": self.config.weight for name in self.config.features}

    def losses(self, student: BEVOutputs, targets: Targets, context: DistillContext) -> dict[str, Tensor]:
        """`imitation_<feature>` for every feature."""
        out: dict[str, Tensor] = {}
        for name in self.config.features:
            maps, linear = student.feature(name), self.regressors[module_key(name)]
            assert isinstance(linear, nn.Linear)
            if self.config.mask == "all":
                mapped = linear(maps.permute(0, 2, 3, 1).float())  # channels last, as the map lies in memory
                out[f"imitation_{name}"] = F.mse_loss(mapped, targets[name].values.permute(0, 2, 3, 1))
            else:
                cells = targets[CELL]
                difference = linear(gather_cells(maps, cells.values, cells.frame)) - targets[name].values
                count = rank_mean(len(difference), maps.device)
                out[f"imitation_{name}"] = difference.square().sum() / linear.out_features / (count + EPS)
        return out
