"""Modulated deformable convolution (DCNv2, arXiv 1811.11168) by bilinear sampling: no compiled kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from bevkd.models.layers import full_precision

_TAPS = 9  # of a 3x3 kernel, row by row


def deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """3x3 convolution (stride 1, same size) whose taps are moved and weighted, cell by cell.

    out[o, y, x] = bias[o] + sum over taps k and channels c of
    weight[o, c, k] * mask[k, y, x] * in[c, y + dy_k + offset_y[k, y, x], x + dx_k + offset_x[k, y, x]],
    read bilinearly, zero beyond the map. All in float32.

    Args:
        x: (M, C, H, W).
        offset: (M, 18, H, W) cells: dy and dx of the first tap, dy and dx of the second, ...
        mask: (M, 9, H, W).
        weight: (O, C, 3, 3).
        bias: (O,).

    Returns:
        (M, O, H, W).
    """
    with full_precision(x):
        x, offset, mask = x.float(), offset.float(), mask.float()
        height, width = x.shape[-2:]
        v, u = torch.meshgrid(
            torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij"
        )
        tap = torch.arange(_TAPS, device=x.device)
        dy, dx = torch.div(tap, 3, rounding_mode="floor") - 1, tap % 3 - 1
        moved = offset.unflatten(1, (_TAPS, 2))  # (M, 9, 2, H, W)
        rows, columns = moved[:, :, 0] + (v + dy[:, None, None]), moved[:, :, 1] + (u + dx[:, None, None])
        # Places of the centres of cells in [-1, 1], from edge to edge.
        place = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)  # (M, 9, H, W, 2)
        read = grid_sample(x, place.flatten(1, 2), padding_mode="zeros", align_corners=False)  # (M, C, 9 * H, W)
        taps = (read.unflatten(2, (_TAPS, height)) * mask[:, None]).flatten(1, 2).flatten(2)  # (M, C * 9, H * W)
        out = (weight.float().flatten(1) @ taps).unflatten(2, (height, width))
        return out if bias is None else out + bias.float()[:, None, None]


class DeformConv(nn.Conv2d):
    """3x3 `deform_conv` whose offsets and masks (a sigmoid) come from a 3x3 convolution of its input, which starts at
    zero: no offsets, all masks one half.

    Is a convolution, so that its multiplications are counted as those of one.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)
        self.where = nn.Conv2d(c_in, 3 * _TAPS, 3, padding=1)
        nn.init.zeros_(self.where.weight)
        assert self.where.bias is not None
        nn.init.zeros_(self.where.bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Maps (M, c_in, H, W) to (M, c_out, H, W) in float32."""
        offset, mask = self.where(x).split([2 * _TAPS, _TAPS], dim=1)
        return deform_conv(x, offset, mask.sigmoid(), self.weight, self.bias)
