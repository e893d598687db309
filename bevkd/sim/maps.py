"""Map masks: the driveable surface and pavements of all scenes of a location, as the png that nuScenes ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bevkd.sim.world import Street, World

METRES_PER_PIXEL = 0.1  # fixed by the format
TILE_M = 100.0  # scenes of a location lie on a square grid of tiles ...
MARGIN_M = 60.0  # ... with a margin, so that a crop around any ego pose stays inside


def tile_centre(slot: int, columns: int) -> tuple[float, float]:
    """World position of the centre of tile number `slot` on a grid of `columns`."""
    row, column = divmod(slot, columns)
    return MARGIN_M + (column + 0.5) * TILE_M, MARGIN_M + (row + 0.5) * TILE_M


def _band(street: Street, reach: float) -> list[tuple[float, float]]:
    """Outline of road and pavements."""
    s = np.linspace(-reach, reach, 41)
    right = street.axis.to_world(s, -(street.kerb(False) + street.pavement))
    left = street.axis.to_world(s[::-1], street.kerb(True) + street.pavement)
    return [(float(x), float(y)) for x, y in np.concatenate([right, left])[:, :2]]


def write_mask(worlds: list[tuple[int, World]], columns: int, path: Path) -> None:
    """Draw the streets of all (slot, world) of a location."""
    rows = max(slot for slot, _ in worlds) // columns + 1
    width = round((columns * TILE_M + 2 * MARGIN_M) / METRES_PER_PIXEL)
    height = round((rows * TILE_M + 2 * MARGIN_M) / METRES_PER_PIXEL)
    mask = Image.new("L", (width, height), 0)
    side = round(TILE_M / METRES_PER_PIXEL)
    for slot, world in worlds:
        x, y = tile_centre(slot, columns)
        left, bottom = x - TILE_M / 2, y - TILE_M / 2
        tile = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(tile)
        for street in (world.main, world.cross):
            if street is None:
                continue
            outline = [
                ((px - left) / METRES_PER_PIXEL, side - (py - bottom) / METRES_PER_PIXEL)
                for px, py in _band(street, TILE_M)
            ]
            draw.polygon(outline, fill=255)
        # Image rows run down from the north, world y up from the south.
        mask.paste(tile, (round(left / METRES_PER_PIXEL), height - round(bottom / METRES_PER_PIXEL) - side))
    mask.save(path, "PNG", compress_level=1)
