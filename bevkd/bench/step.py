"""What a training step of a run costs: seconds and memory, without a teacher, with a live and with a cached one.

UniDistill's Table S8 (spec, section 10) times the computation of the loss: copy to the device, forward passes of
student and teacher (or the look-up of its targets), all losses. A whole step adds the backward pass, clipping and the
optimiser.
"""

from __future__ import annotations

import math
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bevkd.bench.timing import machine
from bevkd.config import RunConfig, TrainConfig
from bevkd.config.weights import check_weights_there
from bevkd.data import collate
from bevkd.data.batch import Batch
from bevkd.errors import BevkdError, ConfigError
from bevkd.io import write_json
from bevkd.train.optim import build_optimizer, mixed
from bevkd.train.resolve import resolve
from bevkd.train.setup import TrainStep, build_student

BATCHES = 8  # distinct batches that the steps go round
_GIB = 2**30


class TimedStep:
    """A training step of a student, with or without a distillation engine, and how long its halves take.

    Args:
        module: detector and losses; takes the mode of training.
        train: optimiser, clipping and precision.
        device: where it runs.
        clock: seconds, on a CPU; on CUDA the wall clock, synchronised.
    """

    def __init__(
        self, module: TrainStep, train: TrainConfig, device: torch.device, clock: Callable[[], float] | None = None
    ) -> None:
        self.module = module.to(device).train()
        self.optimiser = build_optimizer(self.module.named_parameters(), train)
        self.clip, self.device = train.grad_clip, device
        self.clock = clock if clock is not None and device.type != "cuda" else time.perf_counter
        self.cast = mixed(train.precision, device.type)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock()

    def step(self, batch: Batch) -> tuple[float, float]:
        """Seconds until the loss is there, and until the weights are updated."""
        start = self._now()
        with self.cast:
            total = self.module(batch.to(self.device))["total"]
        loss = self._now()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), self.clip or math.inf)
        self.optimiser.step()
        return loss - start, self._now() - start


@dataclass(frozen=True)
class Cost:
    """Cost of one way to train.

    Attributes:
        loss_s, step_s: median seconds of the loss and of the whole step.
        loss_mean_s, loss_p90_s, step_mean_s, step_p90_s: their means and 90th percentiles.
        memory_gib: peak over whole steps: allocated memory on CUDA, resident memory of the process on a CPU.
        reserved_gib: what the allocator reserved, CUDA only.
    """

    loss_s: float
    step_s: float
    loss_mean_s: float
    loss_p90_s: float
    step_mean_s: float
    step_p90_s: float
    memory_gib: float
    reserved_gib: float | None = None


def measure(run: RunConfig, out: Path, warmup: int, steps: int, cache: Path | None = None) -> Cost:
    """Train for some steps on fixed batches, in this process.

    Args:
        run: the run.
        out: its folder, from which the teacher is found.
        warmup, steps: steps before the timed ones, and these.
        cache: what `make_cache` wrote, for a run with a cached teacher.

    Raises:
        ConfigError, CheckpointError, DataError: the run cannot be trained.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(run.train.threads)
    lesson = resolve(run, out, steps=BATCHES, cache=cache)
    plan = lesson.stretches[0].plan
    batches = [collate([lesson.frames.get(i, epoch) for i, epoch in plan.batch(k)]) for k in range(BATCHES)]
    student = build_student(run)
    return _time(TimedStep(TrainStep(student, lesson.engine(student)), run.train, device), batches, warmup, steps)


def make_cache(run: RunConfig, out: Path, folder: Path) -> None:
    """Write the targets of a run's teacher for the frames that `measure` looks at.

    Not where they are read: building them takes the memory of the teacher.

    Raises:
        ConfigError, CheckpointError, DataError: the teacher cannot be used.
    """
    resolve(run, out, steps=BATCHES, cache=folder)


def _time(timed: TimedStep, batches: list[Batch], warmup: int, steps: int) -> Cost:
    device = timed.device
    for k in range(warmup):
        timed.step(batches[k % BATCHES])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = np.array([timed.step(batches[k % BATCHES]) for k in range(steps)])
    if device.type == "cuda":
        memory: float = torch.cuda.max_memory_allocated()
        reserved: float | None = torch.cuda.max_memory_reserved() / _GIB
    else:
        memory, reserved = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, None
    of_loss, of_step = seconds.T
    return Cost(
        loss_s=float(np.median(of_loss)),
        step_s=float(np.median(of_step)),
        loss_mean_s=float(of_loss.mean()),
        loss_p90_s=float(np.quantile(of_loss, 0.9)),
        step_mean_s=float(of_step.mean()),
        step_p90_s=float(np.quantile(of_step, 0.9)),
        memory_gib=memory / _GIB,
        reserved_gib=reserved,
    )


def ways(run: RunConfig) -> dict[str, RunConfig]:
    """The run without its teacher, and with it live and cached."""
    row = run.row
    out = {"plain": replace(run, row=replace(row, teacher=None, method=None))}
    if row.teacher is not None:
        # One fixed augmentation per frame is enough to time the look-up of its targets.
        data = replace(run.data, augment=replace(run.data.augment, variants=1))
        out["live"] = replace(run, row=replace(row, teacher_mode="live"))
        out["cached"] = replace(run, row=replace(row, teacher_mode="cached"), data=data)
    return out


def _in_child(task: Callable[..., Any], arguments: tuple[Any, ...], answer: Connection) -> None:
    try:
        answer.send(task(*arguments))
    except BevkdError as error:
        answer.send(error)
    except Exception as error:
        answer.send(BevkdError(f"{type(error).__name__}: {error}"))


def _context() -> ForkContext | SpawnContext:
    """How a measuring process starts: forked, with the libraries in it, where a fork can compute.

    It cannot once a library has threads, which a fork lacks, nor where CUDA may have been touched. The memory of this
    process counts for every fork alike, so that differences between them are those of what they do.
    """
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    threads = len(names) - names.count("jemalloc_bg_thd")  # of pyarrow; it survives a fork
    single = threads == threading.active_count()  # none where there is no such folder
    return get_context("fork") if single and not torch.cuda.is_available() else get_context("spawn")


def _alone(task: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, so that its peak memory is its own.

    Raises:
        BevkdError: what it raised, or that its process was killed.
    """
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(task, arguments, sender))
    child.start()
    sender.close()  # the child's is now the only one: when it dies, the pipe ends
    try:
        found = receiver.recv()
    except EOFError:
        child.join()  # for its exit code
        found = BevkdError(f"the measuring process ended with exit code {child.exitcode}")
    finally:
        child.join()
    if isinstance(found, BevkdError):
        raise found
    return found


def cost_of(
    run: RunConfig,
    out: Path,
    results: Path,
    warmup: int = 50,
    steps: int = 200,
    repeats: int = 3,
    batch: int | None = None,
) -> dict[str, Any]:
    """Measure a run in every way, each in its own process, one after the other, all of it several times; write it.

    Args:
        run: the run; with a teacher, which must be trained.
        out: its folder, from which the teacher is found.
        results: file to write.
        warmup, steps: of each way; the steps after the warm-up are timed.
        repeats: how often; machines have moods, and one measurement has no spread.
        batch: labelled frames per step; None: as in training.

    Returns:
        `{"plain": {...}, "live": {...}, "cached": {...}}` with the fields of `Cost`, medians over the repeats; for the
        last two also `loss_increase`, `step_increase` (relative to the plain way of the same repeat, in %) and
        `memory_increase_gib`. The same for every repeat under `repeats`. And the machine. A run without a teacher has
        no increase (null), and costs what it costs.

    Raises:
        ConfigError: fewer than one step, repeat or frame.
        ConfigError, CheckpointError, DataError: the run cannot be trained.
    """
    check_weights_there(run)
    if steps < 1 or warmup < 0 or repeats < 1 or (batch is not None and batch < 1):
        wanted = f"{steps} after {warmup}, {repeats} times, {'some' if batch is None else batch} frames each"
        raise ConfigError(f"a benchmark needs at least one step, repeat and frame, not {wanted}")
    if batch is not None:
        run = replace(run, train=replace(run.train, batch_size=batch))
    with tempfile.TemporaryDirectory(prefix="bevkd-bench-") as folder:
        known, cache = ways(run), Path(folder) / "cache"
        if "cached" in known:
            _alone(make_cache, known["cached"], out, cache)
        found = [
            _increases(
                {
                    way: _alone(measure, one, out, warmup, steps, cache if way == "cached" else None)
                    for way, one in known.items()
                }
            )
            for _ in range(repeats)
        ]
    content: dict[str, Any] = {
        way: {name: _median([one[way][name] for one in found]) for name in fields} for way, fields in found[0].items()
    }
    content["repeats"] = found
    content |= {"run": run.run, "scale": run.scale, "warmup": warmup, "steps": steps, "machine": machine()}
    content["frames_per_step"] = run.train.frames_per_batch
    write_json(results, content, indent=2)
    return content


def _increases(costs: dict[str, Cost]) -> dict[str, dict[str, float | None]]:
    """Costs of one repeat, with what a teacher adds to them."""
    plain = costs["plain"]
    out: dict[str, dict[str, float | None]] = {"plain": dict(vars(plain))}
    for way in ("live", "cached"):
        cost = costs.get(way)
        out[way] = dict(vars(cost or plain)) | {
            "loss_increase": 100 * (cost.loss_s / plain.loss_s - 1) if cost else None,
            "step_increase": 100 * (cost.step_s / plain.step_s - 1) if cost else None,
            "memory_increase_gib": cost.memory_gib - plain.memory_gib if cost else None,
        }
    return out


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
