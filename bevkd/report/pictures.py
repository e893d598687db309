"""Figures as the page holds them: inside its one file, at full size, in the smallest lossy form that stays sharp."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from bevkd.errors import DataError
from bevkd.report.figure_kinds import FigureConfig

_QUALITY = 85  # lines and small print stay sharp; photographs shrink to a sixth of their PNG


@dataclass(frozen=True)
class Picture:
    """A figure with its image as a data URI and its size in pixels."""

    spec: FigureConfig
    uri: str
    width: int
    height: int


def picture(spec: FigureConfig, path: Path) -> Picture:
    """Read a figure's image.

    Raises:
        DataError: it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=4)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"figure cannot be read: {error}", file=path) from error
    text = base64.b64encode(buffer.getvalue()).decode()
    return Picture(spec, f"data:image/webp;base64,{text}", width, height)
