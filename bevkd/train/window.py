"""Means of losses and times between two lines of the training log."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bevkd.train.log import TrainLog


class Window:
    """Sums since the last line of the log; part of the checkpoint, so that a resumed log has the same lines."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.steps, self.frames, self.data_s, self.compute_s = 0, 0, 0.0, 0.0
        self.sums: dict[str, Tensor] = {}
        if state is not None:  # times and frames are those of this process
            self.steps, self.sums = state["steps"], dict(state["sums"])

    def add(
        self, losses: dict[str, Tensor], grad_norm: Tensor, limit: float, frames: int, data_s: float, compute_s: float
    ) -> None:
        """Add a step: its losses, the norm of its gradient and the limit of that, frames of this process, seconds."""
        norm = grad_norm.detach().double()  # stays on its device: no synchronisation
        clipping = {"grad_norm": norm, "clipped": (norm > limit).double(), "clip_scale": (limit / norm).clamp(max=1.0)}
        for name, value in (losses | clipping).items():
            term = value.detach().double()
            self.sums[name] = self.sums[name].to(term.device) + term if name in self.sums else term
        self.steps += 1
        self.frames += frames
        self.data_s += data_s
        self.compute_s += compute_s

    def reduce(self, fabric: Fabric) -> None:
        """Make the sums those of the global batch: mean over processes."""
        if fabric.world_size > 1 and self.sums:
            names = sorted(self.sums)
            stacked = torch.stack([self.sums[name] for name in names])
            mean = fabric.all_reduce(stacked, reduce_op="mean")
            assert isinstance(mean, Tensor)
            self.sums.update(zip(names, mean.unbind(), strict=True))

    def write(self, log: TrainLog, step: int, lr: float) -> None:
        """Log the means of the window and begin a new one."""
        means = {name: float(value) / self.steps for name, value in self.sums.items()}
        gradient = {name: means.pop(name) for name in ("grad_norm", "clipped", "clip_scale")}
        data_s, compute_s = self.data_s, self.compute_s
        log.write(step, means, lr=lr, **gradient, data_s=data_s, compute_s=compute_s, frames=self.frames)
        self.steps, self.frames, self.data_s, self.compute_s = 0, 0, 0.0, 0.0
        self.sums = {}

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"steps": self.steps, "sums": {name: value.cpu() for name, value in self.sums.items()}}
