"""The training loop: read it from top to bottom.

Everything random derives from the run's seed and the step: initial weights from (seed), batches from (seed, step),
randomness inside a step from (seed, step, process). So two runs of one seed differ by nothing but their losses, and
a training that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor, nn

from bevkd import __version__
from bevkd.config import RunConfig, to_plain
from bevkd.data.batch import Batch
from bevkd.errors import BevkdError, CheckpointError, ConfigError, Interrupted
from bevkd.io import write_json, write_text
from bevkd.models.detector import Detector, build_detector
from bevkd.train import checkpoint as ckpt
from bevkd.train.log import TrainLog
from bevkd.train.optim import build_optimizer, set_schedule
from bevkd.train.resolve import resolve
from bevkd.train.runtime import StopRequest, build_fabric, exclusive, torch_settings, training_provenance
from bevkd.train.stream import StepDataset, derive_seed, timed_batches, total_steps, worker_count
from bevkd.train.syncbn import synchronise_batch_norm
from bevkd.train.teacher import teacher_digest

logger = logging.getLogger(__name__)


class TrainingError(BevkdError):
    """The loss or its gradient is not finite; the weights of the last good checkpoint are untouched."""


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


def train(run: RunConfig, out: Path, *, restart: bool = False, stop_after: int | None = None) -> Path:
    """Train a run into `out`, or go on where an earlier call stopped; does nothing when it is complete.

    Args:
        run: the resolved run.
        out: folder of the run, `<runs>/<scale>/<run>/seed<N>`; a teacher is looked for under the same `<runs>`.
        restart: drop what lies in `out` instead of going on.
        stop_after: write a checkpoint and stop after so many steps of this call.

    Returns:
        `out/model.pt`.

    Raises:
        ConfigError: `out` holds another configuration, or the configuration cannot be trained.
        CheckpointError: a checkpoint or teacher is unreadable or of another architecture.
        DataError: bad data.
        TrainingError: the loss is not finite; `out/failed_batch.json` names the batch.
        Interrupted: stopped by SIGINT, SIGTERM or `stop_after`, with a checkpoint to resume from.
    """
    check_classes(run)
    out = Path(out)
    with torch_settings(run.train), exclusive(out), StopRequest() as stop:
        fabric = build_fabric(run.train)
        if fabric.is_global_zero:
            if restart:
                ckpt.drop_results(out)
            ckpt.drop_leftovers(out)
        fabric.barrier()
        teacher = teacher_digest(run, out)
        if (out / ckpt.MODEL).exists():
            done = ckpt.read_model(out / ckpt.MODEL)
            ckpt.check_same_run(done, run, teacher, out / ckpt.MODEL)
            logger.info("%s is complete (step %d): nothing to do", out, done["step"])
            return out / ckpt.MODEL
        state = ckpt.load_checkpoint(out)
        if state is not None:
            ckpt.check_same_run(state, run, teacher, out / ckpt.CURRENT)
        return _fit(fabric, run, out, state, teacher, stop, stop_after)


def check_classes(run: RunConfig) -> None:
    """The head must know every class of the data: objects of others would be background without a word.

    Raises:
        ConfigError: it does not.
    """
    unknown = set(run.data.classes) - {name for task in run.model.head.tasks for name in task}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"run {run.run!r} at scale {run.scale!r}: model.head.tasks lacks {names} of data.classes")


def build_student(run: RunConfig) -> Detector:
    """A fresh detector; its weights depend on nothing but the model and the seed."""
    torch.manual_seed(derive_seed(run.seed, "student"))
    return build_detector(run.model)


def _fit(
    fabric: Fabric,
    run: RunConfig,
    out: Path,
    state: dict[str, Any] | None,
    teacher: str,
    stop: StopRequest,
    stop_after: int | None,
) -> Path:
    config = run.train
    lesson = resolve(run, out, teacher)
    steps = lesson.steps
    detector = build_student(run)
    engine = lesson.engine(detector)
    if fabric.world_size > 1 and config.sync_bn:
        synchronise_batch_norm(detector, fabric.device.type)
        if engine is not None:
            synchronise_batch_norm(engine, fabric.device.type)
    step_module = TrainStep(detector, engine)
    bare_optimizer = build_optimizer(step_module.parameters(), config)
    module, optimizer = fabric.setup(step_module, bare_optimizer)
    module.train()

    start, window = 0, _Window()
    if state is not None:
        start = int(state["step"])
        ckpt.load_weights(detector, state["model"], str(out / ckpt.CURRENT))
        if engine is not None:
            ckpt.load_weights(engine, state["adapters"], f"{out / ckpt.CURRENT}: adapters")
        bare_optimizer.load_state_dict(state["optimizer"])
        fabric.strategy.precision.load_state_dict(state["precision"])
        window = _Window(state["window"])
        logger.info("resuming %s at step %d of %d", out, start, steps)
    if fabric.is_global_zero:
        write_text(out / "config.yaml", yaml.safe_dump(to_plain(run), sort_keys=False))
        write_json(out / "provenance.json", training_provenance(config, fabric))
    fabric.barrier()  # nobody changes the folder before everybody has read it

    def save(step: int) -> None:
        """Every process reaches this at the same step; the first one writes."""
        window.reduce(fabric)
        if not fabric.is_global_zero:
            return
        log.sync()
        ckpt.save_checkpoint(
            out,
            {
                "version": __version__,
                "torch": str(torch.__version__),
                "config": json.dumps(to_plain(run)),
                "teacher": teacher,
                "step": step,
                "model": detector.state_dict(),
                "adapters": engine.state_dict() if engine is not None else {},
                "optimizer": bare_optimizer.state_dict(),
                "precision": fabric.strategy.precision.state_dict(),
                "window": window.state(),
            },
        )

    stream = timed_batches(
        StepDataset(lesson.frames, lesson.plan, start, steps, fabric.global_rank, fabric.world_size),
        worker_count(config.workers),
    )
    with TrainLog(out, start, steps, f"{run.run} seed {run.seed}", fabric.is_global_zero) as log:
        for step, (batch, data_s) in enumerate(stream, start):
            began = time.perf_counter()
            batch = batch.to(fabric.device)
            torch.manual_seed(derive_seed(run.seed, "step", step, fabric.global_rank))  # drop-path and its like
            lr = set_schedule(bare_optimizer, step, steps, config)
            losses = module(batch)
            fabric.backward(losses["total"])
            # Also the norm is needed, so that a bad loss of any process stops all of them: gradients are shared.
            grad_norm = fabric.clip_gradients(
                module, optimizer, max_norm=config.grad_clip or math.inf, error_if_nonfinite=False
            )
            assert grad_norm is not None
            _check_finite(fabric, config.precision, out, step, batch, losses, grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            done = step + 1
            window.add(losses, grad_norm, len(batch), data_s, time.perf_counter() - began)
            if done % config.log_every == 0 or done == steps:
                window.reduce(fabric)
                window.write(log, done, lr)
            log.advance(done)
            if done == steps:
                break
            stopping = stop.agreed(fabric) or (stop_after is not None and done - start >= stop_after)
            if stopping or done % config.checkpoint_every == 0:
                save(done)
            if stopping:
                raise Interrupted(f"{out}: stopped at step {done} of {steps}; run the same command to go on")

    if fabric.is_global_zero:
        ckpt.save_model(out, detector.state_dict(), run, steps, teacher)
        ckpt.drop_checkpoints(out)
    fabric.barrier()
    return out / ckpt.MODEL


class _Window:
    """Sums since the last line of the log; part of the checkpoint, so that a resumed log has the same lines."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.steps, self.frames, self.data_s, self.compute_s = 0, 0, 0.0, 0.0
        self.sums: dict[str, Tensor] = {}
        if state is not None:  # times and frames are those of this process
            self.steps, self.sums = state["steps"], dict(state["sums"])

    def add(self, losses: dict[str, Tensor], grad_norm: Tensor, frames: int, data_s: float, compute_s: float) -> None:
        for name, value in (*losses.items(), ("grad_norm", grad_norm)):
            term = value.detach().double()  # stays on its device: no synchronisation
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
        norm = means.pop("grad_norm")
        data_s, compute_s = self.data_s, self.compute_s
        log.write(step, means, lr=lr, grad_norm=norm, data_s=data_s, compute_s=compute_s, frames=self.frames)
        self.steps, self.frames, self.data_s, self.compute_s = 0, 0, 0.0, 0.0
        self.sums = {}

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "sums": {name: value.cpu() for name, value in self.sums.items()}}


def _check_finite(
    fabric: Fabric, precision: str, out: Path, step: int, batch: Batch, losses: dict[str, Tensor], grad_norm: Tensor
) -> None:
    finite = torch.isfinite(losses["total"].detach())
    if precision != "fp16":  # there, the loss scaler skips steps whose gradients overflow
        finite = finite & torch.isfinite(grad_norm)
    if bool(finite):  # the one value that the loop itself waits for
        return
    terms = {name: float(value.detach()) for name, value in losses.items()} | {"grad_norm": float(grad_norm)}
    rank = fabric.global_rank
    path = out / ("failed_batch.json" if rank == 0 else f"failed_batch.{rank}.json")
    write_json(path, {"step": step, "tokens": batch.tokens, "variants": batch.variants, "losses": terms})
    bad = ", ".join(f"{name}={value:.4g}" for name, value in terms.items() if not math.isfinite(value))
    raise TrainingError(f"not finite at step {step}: {bad}; samples {', '.join(batch.tokens)} (see {path})")


__all__ = ["CheckpointError", "TrainStep", "TrainingError", "build_student", "total_steps", "train"]
