"""Blocks that several stages share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import BEVConfig


def conv_bn_relu(c_in: int, c_out: int, bev: BEVConfig, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias (same padding), batch norm, ReLU."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=bev.bn_eps, momentum=bev.bn_momentum), nn.ReLU(inplace=True))


def up_bn_relu(c_in: int, c_out: int, factor: int, bev: BEVConfig) -> nn.Sequential:
    """Transposed convolution with kernel = stride = `factor` (a 1x1 convolution for 1), batch norm, ReLU."""
    conv = nn.ConvTranspose2d(c_in, c_out, factor, stride=factor, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=bev.bn_eps, momentum=bev.bn_momentum), nn.ReLU(inplace=True))


def batch_norm_rows(norm: nn.Module, rows: Tensor) -> Tensor:
    """Batch norm over rows (V, C) that also takes fewer than two of them (an empty sweep) while training.

    Batch statistics do not exist there, so the running ones stand in.
    """
    if norm.training and len(rows) < 2 and isinstance(norm, nn.BatchNorm1d):
        mean, var = norm.running_mean, norm.running_var
        return nn.functional.batch_norm(rows, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)
    return norm(rows)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which operations on the device of `tensor` run in float32 even under mixed precision."""
    return torch.autocast(tensor.device.type, enabled=False)


def downsampling(coarse: float, fine: float, what: str) -> int:
    """The power-of-two stride from cells of `fine` metres to cells of `coarse` metres.

    Raises:
        ConfigError: the ratio is not a power of two.
    """
    from bevkd.errors import ConfigError

    stride = round(coarse / fine)
    if stride < 1 or abs(stride * fine - coarse) > 1e-6 * coarse or stride & (stride - 1):
        raise ConfigError(f"{what}: grid.cell {coarse} m over {fine} m is not a power of two")
    return stride
