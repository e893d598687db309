"""The table `objects` of an index: 2D boxes and masks of the objects in images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bevkd.classes import LABELS
from bevkd.data import valid
from bevkd.data.index import labels_of, matrices
from bevkd.data.parquet import read_parquet, require_no_null
from bevkd.errors import DataError
from bevkd.geometry.rle import decode_counts

FILE = "objects.parquet"
_WORD = pa.dictionary(pa.int32(), pa.string())
OBJECTS = pa.schema(
    [
        ("token", pa.string()),
        ("image", pa.string()),  # token of its frame
        ("category", _WORD),
        ("label", pa.int8()),  # class index, -1: not a detection class
        ("bbox", pa.list_(pa.float64(), 4)),  # xmin, ymin, xmax, ymax (pixels; pixel i covers i to i + 1)
        ("mask_height", pa.int32()),  # of the image; null where there is no mask
        ("mask_width", pa.int32()),
        ("mask", pa.string()),  # see `bevkd.geometry.rle`
    ]
)


@dataclass(frozen=True)
class Objects:
    """Objects of one image.

    Attributes:
        boxes: (M, 4) xmin, ymin, xmax, ymax (pixels).
        labels: (M,) class index, -1 for what is no detection class.
        masks: M masks (H, W); None where there is none.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    masks: list[NDArray[np.bool_] | None]


class ObjectTable:
    """Objects by the token of their image.

    Args:
        folder: the index.
        tokens: of the images that are wanted.
        categories: own category names and the classes they count as.

    Raises:
        DataError: the table is missing or unreadable.
    """

    def __init__(self, folder: Path, tokens: list[str], categories: Mapping[str, str | None]) -> None:
        self.file = Path(folder) / FILE
        if not self.file.exists():
            raise DataError("index has no 2D labels, as that of nuImages has", file=self.file)
        table = read_parquet(self.file, OBJECTS)
        require_no_null(table, self.file, ("token", "image", "category", "label", "bbox"))
        category = table["category"].cast(pa.string()).to_pylist()
        self.labels = labels_of(category, table["label"].to_numpy().astype(np.int64), categories)
        self.boxes = matrices(table["bbox"], 4)
        self._tokens = table["token"].to_pylist()
        good = valid.within(self.boxes, valid.PLACE_PX) & (self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1)
        for bad, field in ((~good, "bbox"), (~valid.within(self.labels, len(LABELS) - 1, -1), "label")):
            if bad.any():
                token = self._tokens[int(np.argmax(bad))]
                raise DataError("not a box of a class in an image", file=self.file, token=token, field=field)
        self._size = list(zip(table["mask_height"].to_pylist(), table["mask_width"].to_pylist(), strict=True))
        self._mask = table["mask"].to_pylist()
        place = {token: i for i, token in enumerate(tokens)}
        frame = np.array([place.get(token, len(tokens)) for token in table["image"].to_pylist()], dtype=np.int64)
        self._order = np.argsort(frame, kind="stable")
        self._start = np.searchsorted(frame[self._order], np.arange(len(tokens) + 1))

    def rows(self, i: int) -> NDArray[np.int64]:
        """Rows of image `i` of those asked for."""
        return self._order[self._start[i] : self._start[i + 1]]

    def __len__(self) -> int:
        """How many objects the images have."""
        return int(self._start[-1])

    def get(self, i: int, masks: bool = True) -> Objects:
        """Objects of image `i`; `masks` says whether they are wanted.

        Raises:
            DataError: a mask is damaged.
        """
        rows = self.rows(i)
        decoded = [self._decode(row) if masks else None for row in rows.tolist()]
        return Objects(self.boxes[rows], self.labels[rows], decoded)

    def _decode(self, row: int) -> NDArray[np.bool_] | None:
        if self._mask[row] is None:
            return None
        height, width = self._size[row]
        if height is None or width is None or not valid.good_image_sizes([width], [height])[0]:
            raise DataError("not a size of a mask", file=self.file, token=self._tokens[row], field="mask_width")
        try:
            return decode_counts((height, width), self._mask[row])
        except ValueError as error:
            raise DataError(str(error), file=self.file, token=self._tokens[row], field="mask") from None
