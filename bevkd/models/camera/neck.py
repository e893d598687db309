"""Image neck: every backbone level to one stride, concatenated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import BEVConfig
from bevkd.errors import ConfigError
from bevkd.models.layers import up_bn_relu


class Neck(nn.Module):
    """Finer levels by a convolution with kernel = stride, coarser ones by a transposed one; BN, ReLU, concatenate.

    Raises:
        ConfigError: a level's stride neither divides nor is divided by the target stride.
    """

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], stride: int, width: int, bev: BEVConfig
    ) -> None:
        super().__init__()
        branches: list[nn.Module] = []
        for c_in, level in zip(channels, strides, strict=True):
            if stride % level and level % stride:
                raise ConfigError(f"camera.stride {stride} does not fit a backbone level of stride {level}")
            if level < stride:
                k = stride // level
                conv = nn.Conv2d(c_in, width, k, stride=k, bias=False)
                norm = nn.BatchNorm2d(width, eps=bev.bn_eps, momentum=bev.bn_momentum)
                branches.append(nn.Sequential(conv, norm, nn.ReLU(inplace=True)))
            else:
                branches.append(up_bn_relu(c_in, width, level // stride, bev))
        self.branches = nn.ModuleList(branches)
        self.out_channels = width * len(branches)

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels to (M, out_channels, h, w); a level that rounding made larger than `size` is cut."""
        maps = [branch(x)[..., : size[0], : size[1]] for branch, x in zip(self.branches, levels, strict=True)]
        return torch.cat(maps, dim=1)
