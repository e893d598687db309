"""Blocks that several stages share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevkd.config.schema import NormConfig


def conv_bn_relu(
    c_in: int, c_out: int, norm: NormConfig, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution without bias (same padding), batch norm, ReLU."""
    padding = kernel // 2 * dilation
    conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=norm.eps, momentum=norm.momentum), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """ReLU(BN(conv3x3(ReLU(BN(conv3x3(x))))) + shortcut(x)); the first convolution has the stride.

    The shortcut is the identity, or with `project` a convolution: 3x3 with a bias and without a norm, as BEVDet has it,
    or `pointwise`, 1x1 without a bias and with a norm, as ResNet has it.

    Raises:
        ValueError: the identity cannot change the number of channels, or of cells.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        norm: NormConfig,
        stride: int = 1,
        project: bool = False,
        pointwise: bool = False,
    ) -> None:
        super().__init__()
        if not project and (c_in != c_out or stride != 1):
            raise ValueError("a residual block that changes the size of its map needs `project`")
        self.net = nn.Sequential(
            conv_bn_relu(c_in, c_out, norm, stride=stride),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out, eps=norm.eps, momentum=norm.momentum),
        )
        self.shortcut: nn.Module = nn.Identity()
        if project and pointwise:
            last = nn.BatchNorm2d(c_out, eps=norm.eps, momentum=norm.momentum)
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), last)
        elif project:
            self.shortcut = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, H, W) to (B, c_out, H / stride, W / stride), non-negative."""
        out: Tensor = self.relu(self.net(x) + self.shortcut(x))
        return out


def residual_blocks(
    c_in: int, c_out: int, count: int, norm: NormConfig, stride: int = 1, pointwise: bool = False
) -> nn.Sequential:
    """A stage of a residual network: so many blocks, of which the first has stride and projection."""
    first = [ResidualBlock(c_in, c_out, norm, stride, project=True, pointwise=pointwise)] if count else []
    return nn.Sequential(*first, *(ResidualBlock(c_out, c_out, norm) for _ in range(count - 1)))


def last_layer(module: nn.Module) -> nn.Module:
    """The last layer of nested sequences."""
    while isinstance(module, nn.Sequential):
        module = module[-1]
    return module


class MergedLevels(nn.Module):
    """Maps of several strides to one: a convolution each, concatenated, then batch norm and ReLU over all channels.

    Batch norm works channel by channel, so this is what norm and ReLU per level would give (but for cells that are cut,
    which do not enter its statistics), with a third of the kernels and without gradients of channel slices.

    Args:
        convolutions: one per level, to the common stride.
        channels: channels of their outputs together.
        norm: settings of the norm.
    """

    def __init__(self, convolutions: list[nn.Module], channels: int, norm: NormConfig) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.norm = nn.BatchNorm2d(channels, eps=norm.eps, momentum=norm.momentum)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels = channels

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels to (B, out_channels, *size); one that rounding made larger is cut."""
        maps = [conv(x)[..., : size[0], : size[1]] for conv, x in zip(self.convolutions, levels, strict=True)]
        return self.relu(self.norm(torch.cat(maps, dim=1)))


def up_conv(c_in: int, c_out: int, factor: int) -> nn.Module:
    """Transposed convolution without bias, kernel = stride = `factor`."""
    return nn.ConvTranspose2d(c_in, c_out, factor, stride=factor, bias=False)


def batch_norm_rows(norm: nn.Module, rows: Tensor) -> Tensor:
    """Batch norm over rows (V, C) that also takes fewer than two of them (an empty sweep) while training.

    Batch statistics do not exist there, so the running ones stand in.
    """
    if norm.training and len(rows) < 2 and isinstance(norm, nn.BatchNorm1d):
        mean, var = norm.running_mean, norm.running_var
        return nn.functional.batch_norm(rows, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)
    return norm(rows)


def reads_are_free(device: torch.device) -> bool:
    """Whether sizes that depend on values cost nothing to know: on the CPU; an accelerator has to be waited for."""
    return device.type == "cpu"


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
