"""The Geometry Compensation Module of SimDistill (AAAI 2024; spec, 3.2): deformable self-attention on one map.

Each cell looks at places around itself that it chooses, so that features which a wrong depth has put elsewhere can
come back. As in the released code, there is no norm and no feed-forward layer. Otherwise than there, each cell looks
from its own centre (with `half_cell_shift` it does not), and maps may have any size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bevkd.errors import ConfigError
from bevkd.models.camera.compensation.attention_settings import AttentionSettings
from bevkd.models.camera.compensation.base import Compensation
from bevkd.models.layers import full_precision
from bevkd.models.ops.deform_attention import cell_places, deform_attention
from bevkd.registry import register


class TablePositions(nn.Module):
    """Learned position embedding of a cell: half of the channels for its column, then half for its row; from U(0, 1).

    A map of the size of the table reads it as it is. One of another size reads it by linear interpolation at relative
    places: the centre of cell i of n at (i + 0.5) / n of the length of the table, no further than to the centres of its
    outermost cells. So the same weights serve every size.

    Args:
        channels: even.
        rows, columns: of the table.
    """

    def __init__(self, channels: int, rows: int, columns: int) -> None:
        super().__init__()
        self.columns = nn.Parameter(torch.rand(channels // 2, columns))
        self.rows = nn.Parameter(torch.rand(channels // 2, rows))

    def forward(self, height: int, width: int) -> Tensor:
        """(C, height, width)."""
        columns, rows = _resized(self.columns, width), _resized(self.rows, height)
        return torch.cat([columns[:, None, :].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)])


def _resized(table: Tensor, length: int) -> Tensor:
    if table.shape[1] == length:
        return table
    return interpolate(table[None], length, mode="linear", align_corners=False)[0]


@register("compensation", "attention")
class AttentionCompensation(Compensation):
    """Map F plus W_out of what its heads gather: with Q = F + position embedding and V = W_v F, head m reads V at K
    places p + W_o Q_p (cells) around each cell p, weighted by softmax over k of W_a Q_p.

    At the start W_o and W_a are zero: each head takes the mean of the places at 1..K steps along a ray of its own, one
    of `heads` around the cell; the longer coordinate of a step is 1 cell. All in float32.

    Projections are 1x1 convolutions, so that their multiplications are counted as those of convolutions.

    Raises:
        ConfigError: channels that are odd, or no multiple of the heads.
    """

    def __init__(self, settings: AttentionSettings, channels: int) -> None:
        super().__init__(settings, channels)
        if channels % settings.heads or channels % 2:
            raise ConfigError(
                f"compensation: {channels} channels must be even and a multiple of {settings.heads} heads"
            )
        self.heads, self.points = settings.heads, settings.points
        self.shift = -0.5 if settings.half_cell_shift else 0.0
        self.positions = TablePositions(channels, *settings.table)
        self.value = nn.Conv2d(channels, channels, 1)
        self.offset = nn.Conv2d(channels, self.heads * self.points * 2, 1)
        self.weight = nn.Conv2d(channels, self.heads * self.points, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self._reset()

    @torch.no_grad()
    def _reset(self) -> None:
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.offset, self.weight):
            nn.init.zeros_(layer.weight)
        for layer in (self.value, self.weight, self.out):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        assert self.offset.bias is not None
        self.offset.bias.copy_(rays(self.heads, self.points).flatten())

    def forward(self, maps: Tensor) -> Tensor:
        """See `Compensation.forward`; float32."""
        with full_precision(maps):
            maps = maps.to(self.value.weight.dtype)
            places, weights = self.sampling(maps)
            gathered = deform_attention(self.value(maps), places, weights)  # (M, h * w, C)
            return maps + self.out(gathered.mT.unflatten(2, maps.shape[2:]))

    def sampling(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Where each cell of maps (M, C, h, w) looks, and with what weights.

        Returns:
            Places (M, h * w, heads, K, 2), x and y in cells, where the centre of cell (iy, ix) is (ix, iy), and weights
            (M, h * w, heads, K), which add up to 1 over K. Cells are in order row by row.
        """
        with full_precision(maps):
            height, width = maps.shape[2:]
            queries = maps.to(self.value.weight.dtype) + self.positions(height, width)
            by_head = (self.heads, self.points)
            offsets = self.offset(queries).flatten(2).unflatten(1, (*by_head, 2))  # (M, heads, K, 2, h * w)
            weights = self.weight(queries).flatten(2).unflatten(1, by_head).softmax(2)  # (M, heads, K, h * w)
            cells = cell_places(height, width, maps.device).to(offsets.dtype) + self.shift
            return cells[:, None, None] + offsets.permute(0, 4, 1, 2, 3), weights.permute(0, 3, 1, 2)


def rays(heads: int, points: int) -> Tensor:
    """Offsets (heads, K, 2) at the start, x and y in cells: point k is k steps along the ray of its head."""
    angle = torch.arange(heads, dtype=torch.float64) * (2 * math.pi / heads)
    ray = torch.stack([angle.cos(), angle.sin()], dim=-1)
    ray = ray / ray.abs().amax(1, keepdim=True)
    return (ray[:, None] * torch.arange(1, points + 1)[:, None]).float()
