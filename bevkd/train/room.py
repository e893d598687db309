"""Whether a batch can be held in memory at all: the system ends a process that cannot, without a word."""

from __future__ import annotations

import os

import torch

from bevkd.config import RunConfig
from bevkd.errors import ConfigError
from bevkd.models.base import Detector

_HALF, _SINGLE = 2, 4  # bytes of a number


def least_bytes(detector: Detector, frames: int) -> int:
    """Bytes that a step takes at least, whatever else it takes.

    Args:
        detector: its maps on the BEV grid are kept for the backward pass, at half precision or more; its weights have
            gradients.
        frames: that a process works on at once.
    """
    maps = [info for info in detector.spec.features.values() if info.layout == "bev"]
    held = sum(info.channels * detector.grid.W * detector.grid.H / info.stride**2 for info in maps)
    weights = sum(one.numel() for one in detector.parameters() if one.requires_grad)
    return int(_HALF * held * frames + 2 * _SINGLE * weights)


def memory_bytes(device: torch.device) -> int:
    """Memory of a GPU, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_room(detector: Detector, run: RunConfig, processes: int, device: torch.device) -> None:
    """Whether a step may fit.

    Raises:
        ConfigError: it cannot; the message says what would take less.
    """
    parts = processes * run.train.accumulate
    frames = -(-(run.train.batch_size + run.train.unlabelled_per_batch) // parts)
    least, most = least_bytes(detector, frames), memory_bytes(device)
    if least > most:
        raise ConfigError(
            f"run {run.run!r}: train.batch_size: {frames} frames at once take more than {least / 1e9:.0f} GB, and there"
            f" are {most / 1e9:.0f} GB; train.accumulate works through a batch in parts"
        )
