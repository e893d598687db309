"""What a training consists of, made once from the configuration: data, networks, optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from bevkd.config import RunConfig
from bevkd.config.training import Timeline
from bevkd.data.batch import Batch
from bevkd.errors import ConfigError
from bevkd.models.detector import Detector, build_detector
from bevkd.train import checkpoint as ckpt
from bevkd.train.optim import build_optimizer, check_state
from bevkd.train.resolve import resolve
from bevkd.train.room import check_room
from bevkd.train.stream import Phase, StepDataset, derive_seed
from bevkd.train.syncbn import synchronise_batch_norm


class TrainStep(nn.Module):
    """Forward pass and every loss in one module: what DDP, autocast and the optimiser see.

    Args:
        detector: the student.
        engine: distillation losses with their adapters, or None.
    """

    def __init__(self, detector: Detector, engine: nn.Module | None) -> None:
        super().__init__()
        self.detector, self.engine = detector, engine

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name.

        Returns:
            "total" with its graph; detached: "det", the detection loss as it would be without a teacher; its
            unweighted terms; the unweighted distillation terms as "kd_<name>", their weighted sum as "kd_total".
        """
        outputs = self.detector(batch)
        losses: dict[str, Tensor] = dict(self.detector.loss(outputs, batch))
        losses["det"] = losses["total"].detach()
        if self.engine is not None:
            distilled = self.engine(outputs, batch)
            losses |= {f"kd_{name}": value.detach() for name, value in distilled.items()}
            losses["total"] = losses["total"] + distilled["total"]
        return losses


def build_student(run: RunConfig) -> Detector:
    """A fresh detector; its weights depend on nothing but the model and the seed."""
    torch.manual_seed(derive_seed(run.seed, "student"))
    return build_detector(run.model)


def check_classes(run: RunConfig) -> None:
    """The head must know every class of the data: objects of others would be background without a word.

    Raises:
        ConfigError: it does not.
    """
    unknown = set(run.data.classes) - {name for task in run.model.head.tasks for name in task}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"run {run.run!r} at scale {run.scale!r}: model.head.tasks lacks {names} of data.classes")


@dataclass
class Training:
    """A training that is ready for its first step.

    Attributes:
        fabric: device, precision and processes.
        line: its length.
        stretches: where its batches come from.
        detector, engine: the student, and the losses of its teacher.
        module: both, as processes and precision want them.
        optimizer: as `module` wants it.
        bare_optimizer: whose state is kept and whose rates are set.
    """

    fabric: Fabric
    line: Timeline
    stretches: Sequence[Phase]
    detector: Detector
    engine: nn.Module | None
    module: Any
    optimizer: Any
    bare_optimizer: Optimizer

    def batches(self, start: int, parts: int) -> StepDataset:
        """What this process works on from step `start`."""
        fabric = self.fabric
        return StepDataset(self.stretches, start, self.line.steps, fabric.global_rank, fabric.world_size, parts)

    def state(self) -> dict[str, Any]:
        """Everything that steps change, for a checkpoint."""
        return {
            "model": self.detector.state_dict(),
            "adapters": self.engine.state_dict() if self.engine is not None else {},
            "optimizer": self.bare_optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def load_state(self, state: dict[str, Any], where: Path) -> None:
        """Go on from the state in a checkpoint.

        Raises:
            OtherRunError: it is of another architecture.
        """
        ckpt.load_weights(self.detector, state["model"], str(where))
        if self.engine is not None:
            ckpt.load_weights(self.engine, state["adapters"], f"{where}: adapters")
        check_state(self.bare_optimizer, state["optimizer"], str(where))
        self.bare_optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])


def prepare(fabric: Fabric, run: RunConfig, out: Path, teacher: str) -> Training:
    """Data, networks with fresh weights, optimiser; `teacher` is the digest of its file, if there is one.

    Raises:
        ConfigError: the configuration cannot be trained.
        CheckpointError: the teacher is unreadable or of another architecture.
        DataError: bad data.
    """
    lesson = resolve(run, out, teacher)
    detector = build_student(run)
    check_room(detector, run, fabric.world_size, fabric.device)
    engine = lesson.engine(detector)
    if fabric.world_size > 1 and run.train.sync_bn:
        synchronise_batch_norm(detector, fabric.device.type)
        if engine is not None:
            synchronise_batch_norm(engine, fabric.device.type)
    step = TrainStep(detector, engine)
    bare_optimizer = build_optimizer(step.named_parameters(), run.train)
    module, optimizer = fabric.setup(step, bare_optimizer)
    module.train()
    return Training(fabric, lesson.line, lesson.stretches, detector, engine, module, optimizer, bare_optimizer)
