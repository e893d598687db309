"""The stream of batches: the same whoever prepares it, and errors that keep their fields."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bevkd.data import Batch, BatchPlan, Sample
from bevkd.data.sample import CameraSample
from bevkd.errors import ConfigError, DataError
from bevkd.train.stream import Phase, StepDataset, timed_batches, worker_count

BAD = 5


class Frames:
    """Twelve frames of points and images, some of which go through shared memory and some through the pipe."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad

    def get(self, i: int, epoch: int) -> Sample:
        if i == self.bad:
            raise DataError("LiDAR file is missing", file="a.bin", token=f"frame {i}", field="filename")
        rng = np.random.default_rng([i, epoch])
        eyes = np.eye(4)[None].repeat(2, axis=0)
        images = rng.integers(0, 256, (2, 96, 160, 3), dtype=np.uint8)
        return Sample(
            token=f"{i} of epoch {epoch}",
            variant=-1,
            labelled=True,
            bev_aug=np.eye(4),
            boxes=rng.normal(size=(i, 9)),
            labels=rng.integers(0, 10, i),
            inputs=("lidar", "camera"),
            points=rng.normal(size=(8000 if i % 2 else 7, 5)).astype(np.float32),
            cameras=CameraSample(images, eyes[:, :3, :3], eyes, eyes[:, :3, :3], None, None, (1, 2, 3), (4, 5, 6)),
        )


def stream(workers: int, *, start: int = 0, rank: int = 0, world: int = 1, bad: int | None = None) -> Any:
    plan = BatchPlan(np.arange(12), np.arange(0), 4, 0, 3)
    return timed_batches(StepDataset([Phase(0, Frames(bad), plan)], start, 5, rank, world), workers)  # type: ignore[arg-type]


def assert_equal(a: Batch, b: Batch) -> None:
    assert a.tokens == b.tokens
    for name in ("points", "point_frame", "bev_aug", "labelled"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert torch.equal(a.boxes.boxes, b.boxes.boxes)
    assert torch.equal(a.boxes.labels, b.boxes.labels)
    assert a.cameras is not None
    assert b.cameras is not None
    assert torch.equal(a.cameras.images, b.cameras.images)
    assert a.cameras.mean == b.cameras.mean == (1, 2, 3)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("start", "rank", "world"), [(0, 0, 1), (2, 1, 2)])
def test_batches_are_the_same_with_workers(workers: int, start: int, rank: int, world: int) -> None:
    alone = list(stream(0, start=start, rank=rank, world=world))
    ahead = list(stream(workers, start=start, rank=rank, world=world))
    assert len(alone) == len(ahead) == 5 - start
    for (a, _), (b, seconds) in zip(alone, ahead, strict=True):
        assert len(a) == 4 // world
        assert_equal(a, b)
        assert seconds >= 0


def test_a_stream_may_begin_at_any_step() -> None:
    whole = [batch for batch, _ in stream(0)]
    for k in (1, 4):
        for a, (b, _) in zip(whole[k:], stream(1, start=k), strict=True):
            assert_equal(a, b)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_bad_data_is_named_when_its_batch_is_due(workers: int) -> None:
    tokens = [batch.tokens for batch, _ in stream(0)]
    due = next(k for k, batch in enumerate(tokens) if any(token.startswith(f"{BAD} ") for token in batch))
    batches = stream(workers, bad=BAD)
    assert [next(batches)[0].tokens for _ in range(due)] == tokens[:due]
    with pytest.raises(DataError, match="LiDAR file is missing") as error:
        next(batches)
    assert (error.value.file, error.value.token, error.value.field) == ("a.bin", f"frame {BAD}", "filename")


def test_a_stream_may_be_left_early() -> None:
    batches = stream(2)
    first = next(batches)[0]
    batches.close()
    assert_equal(first, next(stream(0))[0])


def helpers() -> list[Any]:
    """Processes and threads that prepare batches."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("collate")]
    return [*multiprocessing.active_children(), *threads]


def test_nothing_is_left_when_a_stream_is_closed() -> None:
    batches = stream(2)
    next(batches)
    assert len(helpers()) == 3
    batches.close()
    assert helpers() == []


def test_nothing_is_left_after_bad_data() -> None:
    batches = stream(2, bad=BAD)
    with pytest.raises(DataError) as error:
        list(batches)
    assert error.value.__traceback__ is not None  # which holds all that was in use
    assert helpers() == []


def test_workers_leave_signals_to_the_process_that_trains() -> None:
    batches, before = stream(2), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    next(batches)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    for number in (signal.SIGTERM, signal.SIGINT):
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, number)
    assert [len(batch) for batch, _ in batches] == [4] * 4
    assert helpers() == []


def test_batches_are_pinned_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[str] = []

    def pin(batch: Batch) -> Batch:
        pinned.append(batch.tokens[0])
        return batch

    monkeypatch.setattr(Batch, "pin_memory", pin)
    list(stream(1))
    assert pinned == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [batch.tokens[0] for batch, _ in stream(1)] == pinned
    assert len(pinned) == 5


def test_pinning_reaches_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    batch = next(stream(0))[0]
    other = batch.pin_memory()
    assert torch.equal(other.bev_aug, batch.bev_aug + 1)
    assert torch.equal(other.boxes.labels, batch.boxes.labels + 1)
    assert batch.cameras is not None
    assert other.cameras is not None
    assert torch.equal(other.cameras.images, batch.cameras.images + 1)
    assert (other.tokens, other.cameras.mean, other.radar) == (batch.tokens, (1, 2, 3), None)
    assert other.labelled_flags == batch.labelled_flags


class Pair(NamedTuple):
    one: torch.Tensor
    other: str


@dataclass
class Part:
    values: torch.Tensor
    parts: list[torch.Tensor]


def extra() -> dict[str, Any]:
    """Parts of new kinds of input in all shapes that they may have."""
    return {
        "plain": torch.ones(2),
        "by_name": {"deep": {"deeper": torch.ones(3)}, "word": "kept"},
        "listed": [torch.ones(1), Part(torch.ones(4), [torch.ones(5)])],
        "paired": (Pair(torch.ones(6), "kept"), 7),
    }


def tensors_within(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Part):
        return tensors_within([value.values, value.parts])
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in inner for tensor in tensors_within(part)]


def test_new_kinds_of_input_are_moved_and_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = next(stream(0))[0]
    batch.extra = extra()
    moved = batch.to("meta").extra
    assert [(t.device.type, len(t)) for t in tensors_within(moved)] == [("meta", n) for n in (2, 3, 1, 4, 5, 6)]
    assert isinstance(moved["listed"][1], Part)
    assert isinstance(moved["paired"][0], Pair)
    assert (moved["by_name"]["word"], moved["paired"][0].other, moved["paired"][1]) == ("kept", "kept", 7)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = tensors_within(batch.pin_memory().extra)
    assert [t.tolist() for t in pinned] == [[2.0] * n for n in (2, 3, 1, 4, 5, 6)]


def test_a_batch_must_be_divisible() -> None:
    with pytest.raises(ConfigError, match="divided among 3"):
        next(stream(0, world=3))


@pytest.mark.parametrize(
    ("cores", "environment", "expected"),
    [(16, {}, 15), (16, {"LOCAL_WORLD_SIZE": "4"}, 3), (2, {}, 1), (1, {}, 1), (2, {"LOCAL_WORLD_SIZE": "8"}, 1),
     (64, {"SLURM_CPUS_PER_TASK": "8"}, 7), (4, {"SLURM_CPUS_PER_TASK": "8"}, 3), (64, {"BEVKD_CORES": "16"}, 15)],
)  # fmt: skip
def test_workers_by_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, environment: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    for name in ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE", "BEVKD_CORES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert worker_count("auto") == expected
    assert worker_count(0) == 0
