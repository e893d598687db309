"""Processes that prepare samples ahead of the training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bevkd.data import Sample
from bevkd.errors import DataError

_STOPS = (signal.SIGINT, signal.SIGTERM)
_SHARED_BYTES = 2**16  # smaller arrays go through the pipe: a shared one costs a file handle


class Samples(Protocol):
    """Samples in the order of the training.

    Attributes:
        frames_per_batch: how many of them are worked on at once.
    """

    frames_per_batch: int

    def __len__(self) -> int: ...

    def __getitem__(self, item: int) -> Sample: ...


def samples_ahead(samples: Samples, workers: int) -> SamplesAhead:
    """The samples in their order, prepared by `workers` processes, about a step's batch of them ahead.

    Raises:
        DataError: a worker met bad data.
    """
    loader = DataLoader(
        _Carried(samples),
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_ignore_stops,
        prefetch_factor=max(2, -(-samples.frames_per_batch // workers)),
        generator=torch.Generator(),  # its own, so that the global generator is not touched
    )
    with _stops_held_back():  # a new process inherits that they wait
        return SamplesAhead(iter(loader))  # the processes start here, not in the thread that reads


class SamplesAhead(Iterator[Sample]):
    """Samples as the processes of a loader send them; whoever reads them ends the processes by `close`."""

    def __init__(self, received: Any) -> None:
        self._received = received

    def __next__(self) -> Sample:
        item = next(self._received)
        if isinstance(item, DataError):
            raise item
        sample: Sample = _unpacked(item)
        return sample

    def close(self) -> None:
        """End the processes, and wait for that."""
        self._received._shutdown_workers()  # else done when the last reference goes, which a traceback may hold


class _Carried(Dataset[Any]):
    """Samples as they go to another process, and errors as items: a worker would turn them into a text without their
    fields.
    """

    def __init__(self, inner: Samples) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, item: int) -> Any:
        try:
            return _packed(self.inner[item])
        except DataError as error:
            return error


@dataclass(frozen=True)
class _Shared:
    """An array as a tensor: those lie in shared memory, where an array is copied into a pipe and out of it."""

    tensor: Tensor


def _packed(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.nbytes >= _SHARED_BYTES:
        return _Shared(torch.from_numpy(value))
    return _within(value, _packed)


def _unpacked(value: Any) -> Any:
    return value.tensor.numpy() if isinstance(value, _Shared) else _within(value, _unpacked)


def _within(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {name: change(part) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: change(getattr(value, f.name)) for f in fields(value) if f.init})
    return value


@contextmanager
def _stops_held_back() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_stops(_worker: int) -> None:
    # The main process decides what a signal to the whole group means, and may have a checkpoint to write first. Workers
    # end when it says so, or when it is gone.
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    torch.set_num_threads(1)


def _as_it_is(item: Any) -> Any:
    return item
