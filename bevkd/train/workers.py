"""Processes that prepare samples ahead of the training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bevkd.data import Sample
from bevkd.errors import DataError

_SHARED_BYTES = 2**16  # smaller arrays go through the pipe: a shared one costs a file handle


class Samples(Protocol):
    """Samples in the order of the training.

    Attributes:
        frames_per_batch: how many of them are worked on at once.
    """

    frames_per_batch: int

    def __len__(self) -> int: ...

    def __getitem__(self, item: int) -> Sample: ...


def samples_ahead(samples: Samples, workers: int) -> Iterator[Sample]:
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
        worker_init_fn=_ignore_interrupts,
        prefetch_factor=max(2, -(-samples.frames_per_batch // workers)),
        generator=torch.Generator(),  # its own, so that the global generator is not touched
    )
    return (_received(item) for item in iter(loader))  # the processes start here, not in the thread that reads


def _received(item: Any) -> Sample:
    if isinstance(item, DataError):
        raise item
    sample: Sample = _unpacked(item)
    return sample


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


def _ignore_interrupts(_worker: int) -> None:
    # The main process decides what an interrupt means; workers end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _as_it_is(item: Any) -> Any:
    return item
