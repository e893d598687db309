"""BEV maps seen from elsewhere: the map of one moment in the ego frame of another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from bevkd.geometry import BEVGrid
from bevkd.models.layers import full_precision


def warp_bev(maps: Tensor, grid: BEVGrid, target_from_source: Tensor) -> Tensor:
    """Each cell reads the map at the place, in the source frame, of its centre on the plane z = 0 (BEVDet4D).

    Bilinear between the centres of cells; beyond the map there are zeros. Both maps lie on the same grid, each in its
    own frame.

    Args:
        maps: (B, C, H, W) in the source frame.
        grid: of both maps.
        target_from_source: (B, 4, 4), metres; invertible.

    Returns:
        (B, C, H, W) float32 in the target frame.
    """
    with full_precision(maps):
        # In float64: a shift of kilometres between frames would leave float32 no centimetres.
        source = torch.linalg.inv(target_from_source.double())
        centres = grid.cell_centres(maps.device).double().flatten(0, 1)  # (H * W, 2)
        places = centres @ source[:, :2, :2].mT + source[:, None, :2, 3]
        where = grid.normalised(places).float().unflatten(1, (grid.H, grid.W))
        return grid_sample(maps.float(), where, mode="bilinear", padding_mode="zeros", align_corners=False)
