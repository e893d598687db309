"""Images of an earlier moment, `Batch.extra["camera_past"]`: what detectors with two sets of images read."""

from __future__ import annotations

from bevkd.data.batch import Batch, PastCameras
from bevkd.data.reads import CameraPast


def past_of(batch: Batch) -> PastCameras:
    """The earlier images of a batch.

    Raises:
        ValueError: it has none.
    """
    past = batch.extra.get(CameraPast.name)
    if not isinstance(past, PastCameras):
        raise ValueError("the batch has no earlier images")
    return past
