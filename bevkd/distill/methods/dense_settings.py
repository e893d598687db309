"""Options of `dense`, and what it taps."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Share, Weight
from bevkd.distill.settings import MethodSettings
from bevkd.distill.tap import Tap
from bevkd.distill.taps.cells import CellIndex, CellWeight
from bevkd.distill.taps.heads import ClassScores, ConfidentCells, TaskRegression
from bevkd.registry import register_settings


@register_settings("method", "dense")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DenseConfig(MethodSettings):
    """Options of `dense`; the weights go with a supervised heat-map loss weighted by 5.

    Attributes:
        dense_weight: of the class scores of every cell.
        regression_weight: of the boxes in cells where the teacher is confident.
        per_task: confident by the best score of the task's own classes; otherwise of all classes.
    """

    dense_weight: Weight = 20.0
    regression_weight: Weight = 2.0
    threshold: Share = 0.2  # teacher scores above it weight the regression
    per_task: bool = True

    def taps(self) -> dict[str, Tap]:
        """Scores (B, K, H, W); regression (n, R) with weight and index `(task * H + iy) * W + ix` of each row."""
        cells = ConfidentCells(self.threshold, self.per_task)
        return {
            "scores": ClassScores(),
            "regression": TaskRegression(cells=cells),
            "regression_weight": CellWeight(cells=cells),
            "regression_index": CellIndex(cells=cells),
        }
