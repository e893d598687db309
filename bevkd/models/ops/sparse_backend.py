"""Which implementation sparse convolutions use: spconv where it is installed, plain torch otherwise.

`BEVKD_SPARSE=torch` (or `spconv`) forces one. Both give the same numbers to float32 rounding.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bevkd.errors import ConfigError
from bevkd.models.ops.sparse_map import KernelPairs, Size3, SparseMap

log = logging.getLogger(__name__)
_forced: list[str] = []


class SpconvBackend:
    """spconv's native algorithm, driven through its functional interface so that parameters stay ours."""

    def __init__(self) -> None:
        from spconv.core import ConvAlgo
        from spconv.pytorch import functional, ops

        if not torch.cuda.is_available():
            # The backward pass asks for the CUDA stream even when all tensors are on the CPU.
            ops.get_current_stream = lambda: 0
        self._ops, self._functional, self._native = ops, functional, ConvAlgo.Native

    def find_pairs(self, x: SparseMap, kernel: Size3, stride: Size3, padding: Size3, submanifold: bool) -> KernelPairs:
        """Kernel pairs as spconv keeps them (`foreign`)."""
        indices = x.coordinates.int().contiguous()
        out, pairs, counts = self._ops.get_indice_pairs(
            indices,
            x.frames,
            list(x.shape),
            self._native,
            list(kernel),
            list(stride),
            list(padding),
            [1, 1, 1],
            [0, 0, 0],
            submanifold,
        )
        coordinates = x.coordinates if submanifold else out.long()
        nothing = coordinates.new_zeros(0)
        return KernelPairs(nothing, nothing, [], coordinates, foreign=(pairs, counts))

    def convolve(self, features: Tensor, weight: Tensor, pairs: KernelPairs, submanifold: bool) -> Tensor:
        """Features of the output voxels."""
        function: Any = self._functional.indice_subm_conv if submanifold else self._functional.indice_conv
        index, counts = pairs.foreign
        if not len(pairs.coordinates):
            return features.new_zeros(0, weight.shape[0])
        return function(features.contiguous(), weight, index, counts, len(pairs.coordinates), self._native)


@cache
def _spconv() -> SpconvBackend | None:
    try:
        return SpconvBackend()
    except (ImportError, OSError, AttributeError) as error:
        log.info("sparse convolution in plain torch (spconv: %s)", error)
        return None


def backend(features: Tensor) -> SpconvBackend | None:
    """The accelerated implementation for these features, or None for plain torch.

    On a CPU with several threads spconv adds up in no fixed order, and a run would not repeat bit for bit: there
    plain torch is the default.

    Raises:
        ConfigError: $BEVKD_SPARSE is unknown, or asks for spconv where it is not installed.
    """
    choice = _forced[-1] if _forced else os.environ.get("BEVKD_SPARSE", "auto")
    if choice == "torch":
        return None
    if choice not in ("auto", "spconv"):
        raise ConfigError(f"BEVKD_SPARSE is {choice!r}; known: auto, spconv, torch")
    if choice == "auto" and not features.is_cuda and torch.get_num_threads() > 1:
        return None
    found = _spconv()
    if found is None and choice == "spconv":
        raise ConfigError("BEVKD_SPARSE=spconv, but spconv cannot be imported")
    return found


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend ("torch", "spconv") inside a with-block."""
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()
