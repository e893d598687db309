"""Frames of which nothing but images and their 2D labels is known (nuImages)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevkd.classes import LABEL_INDEX
from bevkd.config.schema import DataConfig, ModelConfig
from bevkd.data.dataset import FrameDataset
from bevkd.data.nuimages.objects import ObjectTable
from bevkd.errors import ConfigError, DataError


class ImageFrames(FrameDataset):
    """Images of one split, each a frame with one camera. Arguments and errors as of `FrameDataset`.

    Attributes:
        objects: their 2D labels.

    Raises:
        ConfigError: a network that wants more than images and 2D labels.
    """

    def __init__(self, data: DataConfig, model: ModelConfig, split: str, **options: Any) -> None:
        if model.kind != "image2d":
            raise ConfigError(
                f"data.kind nuimages has 2D labels alone: it wants model.kind image2d, not {model.kind!r}"
            )
        super().__init__(data, model, split, **options)
        table = ObjectTable(self.index.folder, self.tokens, self.categories)
        self._of_class = np.isin(table.labels, [LABEL_INDEX[name] for name in data.classes])
        self.objects = table

    def _check_format(self) -> None:
        if "objects" not in self.index.facts:
            raise ConfigError(f"index {self.data.index} is of {self.index.facts['reader']}, which has no 2D labels")

    def labels_2d(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Boxes (M, 4) in pixels of the image as it is stored, and labels (M,), of the classes that are learnt."""
        rows = self.objects.rows(i)
        rows = rows[self._of_class[rows]]
        return self.objects.boxes[rows], self.objects.labels[rows]

    @property
    def has_annotations(self) -> bool:
        """Whether the split has any object at all: those of the test set are not published."""
        return len(self.objects) > 0

    def learnt_labels(self, i: int) -> NDArray[np.int64]:
        """See `FrameDataset.learnt_labels`."""
        return self.labels_2d(i)[1]

    def require_targets(self, limit: int | None = None) -> None:
        """Refuse to train where there is nothing to learn.

        Raises:
            DataError: no image (of the first `limit`) has an object of a class that is learnt.
        """
        if not any(len(self.learnt_labels(i)) for i in range(min(len(self), limit or len(self)))):
            what = "no image has an object of a class that is learnt"
            raise DataError(what, file=Path(self.data.index), field=self.split)

    def target_counts(self, limit: int | None = None) -> Any:
        """There are no boxes in 3D to count.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"index {self.data.index} is of nuimages, which has no boxes in 3D")


def open_frames(data: DataConfig, model: ModelConfig, split: str, **options: Any) -> FrameDataset:
    """The frames of a split, of the class that suits the kind of data set; arguments as of `FrameDataset`."""
    kind = ImageFrames if data.kind == "nuimages" else FrameDataset
    return kind(data, model, split, **options)
