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
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor

from bevkd import __version__
from bevkd.config import RunConfig, differences, to_plain
from bevkd.config.snapshots import FOLDER as SNAPSHOTS
from bevkd.config.weights import check_weights_there
from bevkd.data.batch import Batch
from bevkd.errors import BevkdError, Interrupted, OtherRunError
from bevkd.io import write_json, write_text
from bevkd.train import checkpoint as ckpt
from bevkd.train.accumulate import forward_backward
from bevkd.train.archive import not_finite
from bevkd.train.log import TrainLog
from bevkd.train.optim import set_schedule
from bevkd.train.runtime import (
    StopRequest,
    build_fabric,
    exclusive,
    torch_settings,
    training_conditions,
    training_provenance,
)
from bevkd.train.setup import Training, check_classes, prepare
from bevkd.train.snapshots import drop_others, missing, snapshot_steps
from bevkd.train.start import Start, apply_starts, digest_of, read_starts
from bevkd.train.stream import derive_seed, timed_batches, worker_count
from bevkd.train.teacher import is_digest_of, teacher_digest, teacher_path
from bevkd.train.window import Window

logger = logging.getLogger(__name__)


class TrainingError(BevkdError):
    """The loss or its gradient is not finite; the weights of the last good checkpoint are untouched."""


# Looks at a model in a folder, left after so many steps (None: at whatever is known of the folder's run before), and
# says in a few words what it found.
Watch = Callable[[Path, int | None], str]


def train(
    run: RunConfig, out: Path, *, restart: bool = False, stop_after: int | None = None, watch: Watch | None = None
) -> Path:
    """Train a run into `out`, or go on where an earlier call stopped; does nothing when it is complete.

    Args:
        run: the resolved run.
        out: folder of the run, `<runs>/<scale>/<run>/seed<N>`; a teacher and weights to start from are looked for
            under the same `<runs>`.
        restart: drop what lies in `out` instead of going on.
        stop_after: write a checkpoint and stop after so many steps of this call.
        watch: what to call with each snapshot, for the live line; it changes no result.

    Returns:
        `out/model.pt`.

    Raises:
        ConfigError: `out` holds another configuration, or the configuration cannot be trained.
        CheckpointError: a checkpoint or teacher is unreadable or of another architecture.
        MisfitError: the weights to start from do not fit.
        DataError: bad data.
        TrainingError: the loss is not finite; `out/failed_batch.json` names the batch.
        Interrupted: stopped by SIGINT, SIGTERM or `stop_after`, with a checkpoint to resume from.
    """
    check_classes(run)
    out = Path(out)
    if not (out / ckpt.MODEL).exists():
        check_weights_there(run)
    with torch_settings(run.train), exclusive(out), StopRequest() as stop:
        fabric = build_fabric(run.train)
        if fabric.is_global_zero:
            if restart:
                ckpt.drop_results(out)
            ckpt.drop_leftovers(out)
        fabric.barrier()
        origin = _Origin(teacher_digest(run, out), read_starts(run, out))
        finished = (out / ckpt.MODEL).exists()
        state = ckpt.read_model(out / ckpt.MODEL) if finished else ckpt.load_checkpoint(out)
        if state is not None:
            where = out / (ckpt.MODEL if finished else ckpt.CURRENT)
            if origin.teacher and is_digest_of(state["teacher"], origin.teacher, teacher_path(run, out)):
                state["teacher"] = origin.teacher
            ckpt.check_same_run(state, run, origin.teacher, where, origin.init)
            if finished:
                lost = missing(out, snapshot_steps(run.train.snapshots, state["step"]), state["step"])
                if not lost:
                    if fabric.is_global_zero:  # a kill may have come after the weights and before this
                        ckpt.drop_checkpoints(out)
                    logger.info("%s is complete (step %d): nothing to do", out, state["step"])
                    return out / ckpt.MODEL
                _anew(fabric, out, lost)
                state = None
        return _fit(prepare(fabric, run, out, origin.teacher), run, out, state, origin, stop, stop_after, watch)


@dataclass(frozen=True)
class _Origin:
    """What a run rests on beside its configuration.

    Attributes:
        teacher: digest of its teacher, "" without one.
        starts: weights that it starts from, if not fresh ones.
    """

    teacher: str
    starts: tuple[Start, ...]

    @property
    def init(self) -> str:
        """Digest of the weights that it starts from, "" for fresh ones."""
        return digest_of(self.starts)


def _fit(
    training: Training,
    run: RunConfig,
    out: Path,
    state: dict[str, Any] | None,
    origin: _Origin,
    stop: StopRequest,
    stop_after: int | None,
    watch: Watch | None,
) -> Path:
    config, fabric, steps = run.train, training.fabric, training.line.steps
    due = snapshot_steps(config.snapshots, steps)
    limit = config.grad_clip or math.inf
    start, window, made_with = _begin(training, run, out, state, origin, due)

    def save(step: int) -> None:
        """Every process reaches this at the same step; the first one writes."""
        window.reduce(fabric)
        if not fabric.is_global_zero:
            return
        log.sync()
        about: dict[str, Any] = {
            "version": __version__,
            "torch": str(torch.__version__),
            "config": json.dumps(to_plain(run)),
        }
        about |= {"teacher": origin.teacher, "init": origin.init, "step": step, "window": window.state()}
        about |= {"made_with": made_with}
        ckpt.save_checkpoint(out, about | training.state())

    def keep(folder: Path, step: int) -> None:
        """Keep the weights as a model; one that cannot be read again is none."""
        if fabric.is_global_zero:
            if bad := not_finite(training.detector.state_dict()):
                raise TrainingError(f"{folder}: weights are not finite after step {step}: {ckpt.shortened(bad)}")
            ckpt.save_model(folder, training.detector.state_dict(), run, step, origin.teacher, origin.init)

    def seed(step: int, part: int) -> None:
        """Of drop-path and its like."""
        torch.manual_seed(derive_seed(run.seed, "step", step, fabric.global_rank + fabric.world_size * part))

    samples, title = training.batches(start, config.accumulate), f"{run.run} seed {run.seed}"
    seen = "" if watch is None or not fabric.is_global_zero else watch(out, None)
    with (
        closing(timed_batches(samples, worker_count(config.workers))) as stream,
        TrainLog(out, start, steps, title, fabric.is_global_zero, seen) as log,
    ):
        for step in range(start, steps):
            batches, data_s = _next_parts(stream, config.accumulate)
            began = time.perf_counter()
            batches = [batch.to(fabric.device) for batch in batches]
            lr = set_schedule(training.bare_optimizer, step, training.line, config)
            losses = forward_backward(fabric, training.module, batches, partial(seed, step))
            # Also the norm is needed, so that a bad loss of any process stops all of them: gradients are shared.
            grad_norm = fabric.clip_gradients(
                training.module, training.optimizer, max_norm=limit, error_if_nonfinite=False
            )
            assert grad_norm is not None
            _check_finite(fabric, config.precision, out, step, batches, losses, grad_norm)
            training.optimizer.step()
            training.optimizer.zero_grad(set_to_none=True)

            done = step + 1
            window.add(losses, grad_norm, limit, sum(map(len, batches)), data_s, time.perf_counter() - began)
            if done % config.log_every == 0 or done == steps:
                window.reduce(fabric)
                window.write(log, done, lr)
            log.advance(done)
            if done == steps:
                break
            if done in due:  # before the checkpoint, so that going on from one never lacks a snapshot
                keep(out / SNAPSHOTS / due[done], done)
                if watch is not None and fabric.is_global_zero:
                    with torch.random.fork_rng():  # building a network to look at draws numbers
                        log.saw(watch(out / SNAPSHOTS / due[done], done))
            stopping = stop.agreed(fabric) or (stop_after is not None and done - start >= stop_after)
            if stopping or done % config.checkpoint_every == 0:
                save(done)
            if stopping:
                raise Interrupted(f"{out}: stopped at step {done} of {steps}; run the same command to go on")

    keep(out, steps)
    if fabric.is_global_zero:
        ckpt.drop_checkpoints(out)
    fabric.barrier()
    return out / ckpt.MODEL


def _begin(
    training: Training, run: RunConfig, out: Path, state: dict[str, Any] | None, origin: _Origin, due: dict[int, str]
) -> tuple[int, Window, list[dict[str, Any]]]:
    """Bring a training to its first step.

    Returns:
        number of that step; what the log has not seen yet; under which conditions the steps were made, those of the
        steps to come last.

    Raises:
        OtherRunError: the checkpoint is of another training.
    """
    fabric = training.fabric
    if state is not None and (lost := missing(out, due, int(state["step"]))):
        _anew(fabric, out, lost)
        state = None
    fabric.barrier()  # nobody changes the folder before everybody has read it
    taken = None
    if state is not None:
        if not 0 <= int(state["step"]) < training.line.steps:
            raise OtherRunError(f"{out / ckpt.CURRENT} is of step {state['step']} of {training.line.steps}")
        training.load_state(state, out / ckpt.CURRENT)
        logger.info("resuming %s at step %d of %d", out, int(state["step"]), training.line.steps)
    elif origin.starts:
        taken = apply_starts(training.detector, origin.starts, run.row.inits)
    conditions = _conditions(fabric, run, state, out)
    if fabric.is_global_zero:
        drop_others(out, due)
        if taken is not None:
            write_json(out / ckpt.STARTED, taken, indent=1)
        write_text(out / "config.yaml", yaml.safe_dump(to_plain(run), sort_keys=False))
        made = training_provenance(run.train, fabric)
        write_json(out / "provenance.json", made | ({"before": conditions[:-1]} if len(conditions) > 1 else {}))
    fabric.barrier()
    return (int(state["step"]), Window(state["window"]), conditions) if state is not None else (0, Window(), conditions)


def _conditions(fabric: Fabric, run: RunConfig, state: dict[str, Any] | None, out: Path) -> list[dict[str, Any]]:
    """On what a training ran so far and runs now, each kind once; a change of it is said."""
    now = training_conditions(run.train, fabric)
    before: list[dict[str, Any]] = [] if state is None else list(state.get("made_with", ()))
    if state is not None and not before:  # from before this was written down
        threads = json.loads(state["config"]).get("train", {}).get("threads", now["threads"])
        before = [now | {"threads": threads, "torch": state["torch"]}]
    if before and (changed := differences(before[-1], now)):
        logger.warning(
            "%s: %s since step %d: the last bits are not those of an uninterrupted training",
            *(out, "; ".join(changed), int(state["step"]) if state is not None else 0),
        )
        return [*before, now]
    return before or [now]


def _anew(fabric: Fabric, out: Path, lost: list[str]) -> None:
    """Drop what was trained, where snapshots of it are asked for that nobody kept."""
    logger.warning("%s lacks the snapshots %s: training anew, with the same result", out, ", ".join(lost))
    fabric.barrier()
    if fabric.is_global_zero:
        ckpt.drop_results(out)


def _next_parts(stream: Iterator[tuple[Batch, float]], count: int) -> tuple[list[Batch], float]:
    """The parts of a batch, and the seconds that they kept the training waiting."""
    parts = [next(stream) for _ in range(count)]
    return [batch for batch, _ in parts], sum(waited for _, waited in parts)


def _check_finite(
    fabric: Fabric,
    precision: str,
    out: Path,
    step: int,
    batches: list[Batch],
    losses: dict[str, Tensor],
    grad_norm: Tensor,
) -> None:
    finite = torch.isfinite(losses["total"].detach())
    if precision != "fp16":  # there, the loss scaler skips steps whose gradients overflow
        finite = finite & torch.isfinite(grad_norm)
    if bool(finite):  # the one value that the loop itself waits for
        return
    terms = {name: float(value.detach()) for name, value in losses.items()} | {"grad_norm": float(grad_norm)}
    rank = fabric.global_rank
    path = out / ("failed_batch.json" if rank == 0 else f"failed_batch.{rank}.json")
    tokens = [token for batch in batches for token in batch.tokens]
    variants = [variant for batch in batches for variant in batch.variants]
    write_json(path, {"step": step, "tokens": tokens, "variants": variants, "losses": terms})
    bad = ", ".join(f"{name}={value:.4g}" for name, value in terms.items() if not math.isfinite(value))
    raise TrainingError(f"not finite at step {step}: {bad}; samples {', '.join(tokens)} (see {path})")
