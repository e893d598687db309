"""What a reader of one kind of input is: it loads its part of a frame, augments it, and puts it into the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bevkd.config.schema import ImageAugmentConfig
from bevkd.data.batch import Batch
from bevkd.data.load import FrameLoader, RawFrame
from bevkd.data.points import Points, multiply
from bevkd.data.reads import Input
from bevkd.data.sample import Sample
from bevkd.geometry import Area

D = TypeVar("D", bound=Input)
T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """How a frame is augmented.

    Attributes:
        matrix: (4, 4) augmented ego from ego.
        area: what the grid covers; points outside are dropped.
        images: how images are drawn; None: as at test time.
        rng: source of what is drawn; None where nothing is.
        keep: images are always the same, and what is made of them may be kept for the next time.
    """

    matrix: NDArray[np.float64]
    area: Area
    images: ImageAugmentConfig | None = None
    rng: np.random.Generator | None = None
    keep: bool = False

    def points(self, points: Points) -> Points:
        """Augmented points (P, 3+) inside the area, by x and y only: z is cut by the encoders."""
        place = multiply(points, self.matrix[:3, :3].T.astype(np.float32))
        if self.matrix[:3, 3].any():
            place += self.matrix[:3, 3].astype(np.float32)
        inside = np.flatnonzero(self.area.holds(place))
        out = points.take(inside, axis=0)
        out[:, :3] = place.take(inside, axis=0)
        return out


class InputReader(Generic[D]):
    """Base class; a subclass is registered as `input` under the name of its declarations.

    Args:
        declared: what is wanted.
        loader: finds the records of a frame.

    Attributes:
        pastes: objects may be pasted into frames that it reads.

    Raises:
        ConfigError: the index does not hold that much.
    """

    pastes: ClassVar[bool] = False

    def __init__(self, declared: D, loader: FrameLoader) -> None:
        self.declared, self.loader = declared, loader
        self._kept: dict[int, Any] = {}

    def load(self, frame: int, raw: RawFrame) -> None:
        """Put its part of a frame of the index, as it lies on disk, into `raw`: new kinds of input into `raw.extra`.

        Raises:
            DataError: a file is missing, truncated or unreadable.
        """
        raise NotImplementedError

    def augment(self, frame: int, raw: RawFrame, sample: Sample, change: Change) -> None:
        """Put its augmented part into `sample`: new kinds of input into `sample.extra`. `raw` stays as it is."""
        raise NotImplementedError

    def require(self, frames: Sequence[int]) -> None:
        """Refuse to learn from these frames of the index.

        Raises:
            DataError: what is wanted is in none of them, and what stands in its place teaches nothing.
        """

    def cleared(self, raw: RawFrame, boxes: NDArray[np.float64]) -> RawFrame:
        """The frame without what lies inside of boxes (M, 9) that are pasted into it; `raw` stays as it is.

        `RawFrame.points` is seen to where objects are pasted.
        """
        return raw

    def files(self) -> Any:
        """What it reads beside the files that an index was made of, as JSON-like data; None: nothing else."""
        return None

    def forget(self) -> None:
        """Drop what was kept of frames."""
        self._kept.clear()

    def _once(self, frame: int, change: Change, make: Callable[[], T]) -> T:
        # What is made of a frame's images; of the first time where it is always the same.
        made: T = self._kept[frame] if frame in self._kept else make()
        if change.keep:
            self._kept[frame] = made
        return made

    @staticmethod
    def collate(samples: Sequence[Sample], batch: Batch) -> None:
        """Put its part of some samples into `batch`: new kinds of input into `batch.extra`, as tensors, or dictionaries
        and dataclasses of tensors.
        """
        raise NotImplementedError

    @staticmethod
    def example(declared: Any, batch: Batch, reach: float, returns: int) -> None:
        """Put a made-up part of one frame into `batch`, to measure what a network costs.

        Args:
            declared: what is wanted.
            batch: of one frame.
            reach: half side of the area that is looked at (m).
            returns: of one LiDAR sweep.
        """
        raise NotImplementedError
