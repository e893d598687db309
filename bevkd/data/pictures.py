"""Pictures of unknown origin: JPEG and PNG alone, 8 bits a colour, of a bounded number of pixels.

Pillow would recognise some forty formats by their first bytes, whatever a file is called, and hands one of them (EPS)
to another program.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from bevkd.data.valid import PIXELS
from bevkd.errors import DataError

FORMATS = ("JPEG", "PNG")
# What Pillow raises for files that are not what they say.
_BAD = (
    *(OSError, ValueError, SyntaxError, TypeError, EOFError, LookupError, ArithmeticError, AttributeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


@contextmanager
def picture(
    stream: IO[bytes], path: str | Path, token: str | None = None, field: str | None = None, most: int = PIXELS
) -> Iterator[Image.Image]:
    """An opened picture, not decoded yet; around code that decodes it.

    Args:
        stream: of a file that was opened.
        path, token, field: for messages.
        most: pixels that it may have.

    Raises:
        DataError: it is neither JPEG nor PNG, damaged or cut short, has too many pixels, or other than 8 bits a colour.
    """
    try:
        with _pillow_takes(most), Image.open(stream, formats=FORMATS) as image:
            width, height = image.size
            if width * height > most:
                raise ValueError(f"{width} x {height} pixels are more than {most}")
            check_mode(image)
            yield image
    except UnidentifiedImageError as error:
        raise DataError("unreadable image: it is neither JPEG nor PNG", file=path, token=token, field=field) from error
    except _BAD as error:
        raise DataError(f"unreadable image: {error}", file=path, token=token, field=field) from error


@contextmanager
def _pillow_takes(most: int) -> Iterator[None]:
    """Around code for which Pillow's own limit, one for the whole process, is no lower than ours."""
    before = Image.MAX_IMAGE_PIXELS
    if before is None or most <= before:
        yield
        return
    Image.MAX_IMAGE_PIXELS = most
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def check_mode(image: Image.Image) -> None:
    """Whether an image has 8 bits a colour, for Pillow makes white of what is brighter.

    Raises:
        ValueError: it has not.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"8 bits a colour are wanted, not mode {image.mode!r}")


def as_rgb(image: Image.Image) -> Image.Image:
    """Decode; `convert` alone would copy what is RGB already."""
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")
