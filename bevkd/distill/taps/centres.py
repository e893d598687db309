"""What a dense head says at the cells of box centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bevkd.distill.tap import Tap, register_tap

if TYPE_CHECKING:
    from bevkd.data.batch import Target
    from bevkd.distill.reading import Reading
    from bevkd.distill.sizes import Sizes


@register_tap("centre regression")
@dataclass(frozen=True)
class CentreRegression(Tap):
    """Regression (N, R / tasks) of the task of each box in the cell of its centre; anything where a box is not on the
    map, or of a class that the head does not have.
    """

    needs_boxes: ClassVar[bool] = True
    feature: str = "heads"

    def read(self, reading: Reading) -> Target:
        """One row per box."""
        from bevkd.distill.centres import centre_regression, find_centres

        outputs, boxes = reading.outputs, reading.context.boxes
        return reading.rows(centre_regression(outputs, find_centres(outputs, boxes, reading.context.grid)), boxes.frame)

    def entry_bytes(self, sizes: Sizes) -> float:
        """A vector per box."""
        return 2 * sizes.boxes * sizes.regression_maps / sizes.tasks


@register_tap("first cell")
@dataclass(frozen=True)
class FirstCell(Tap):
    """Regression (B, R) of all tasks in the first cell of the map: what boxes of zeros read that pad a batch."""

    feature: str = "heads"

    def read(self, reading: Reading) -> Target:
        """One row per frame."""
        from bevkd.distill.centres import first_cell

        return reading.per_frame(first_cell(reading.outputs))

    def entry_bytes(self, sizes: Sizes) -> float:
        """A vector."""
        return 2 * sizes.regression_maps
