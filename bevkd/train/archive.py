"""Files of tensors: equal content gives equal bytes, and damage is noticed before anything is made of the content.

A file is an archive of torch whose outermost dictionary also holds, as `sums`, a CRC-32 per tensor. The archive has
sums of its own, also of the pickle, which torch does not look at: they are compared first, so that what is damaged
never reaches the unpickler. Files from before there were `sums` have those alone.
"""

from __future__ import annotations

import io
import logging
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SUMS = "sums"


class DamagedError(Exception):
    """Content that is not what was written, in a few words."""


def pack(state: dict[str, Any]) -> memoryview:
    """The bytes of a file: they depend on names, types and values alone, not on devices, nor on how tensors share."""
    plain = _canonical(state)
    out = io.BytesIO()  # a file of a name would have the name inside; and here errors are those of the system
    torch.save(plain | {SUMS: _canonical(_sums(plain))}, out)
    return out.getbuffer()


def unpack(content: bytes, where: object = "a file") -> dict[str, Any]:
    """The dictionary that `pack` was given, on the CPU.

    Args:
        content: of the file.
        where: its name, for messages.

    Raises:
        DamagedError: that is not what was written, or something else was.
    """
    _check_archive(content)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a file of another kind makes the unpickler stumble in any way
        # Of what torch says only what is no advice to read the file without precautions.
        raise DamagedError("it is damaged, or of another program") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise DamagedError("it is not a file of bevkd")
    told = state.pop(SUMS, None)
    for path, value in _tensors(state, ""):
        if not _is_plain(value):
            raise DamagedError(f"it is not a file of bevkd: {path} is no plain array")
    if told is None:
        _say_older(where)
        return state
    _check_sums(told, _sums(state))
    return state


def not_finite(weights: dict[str, Tensor]) -> list[str]:
    """Names of those tensors that hold a NaN or an infinite value."""
    return [
        name
        for name, value in weights.items()
        if (value.is_floating_point() or value.is_complex()) and not bool(torch.isfinite(value).all())
    ]


def _check_archive(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            held = archive.infolist()
            if len({entry.filename for entry in held}) < len(held):
                raise DamagedError("it is damaged: a part is there twice")
            # Torch compresses nothing; what is compressed may be any size.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in held):
                raise DamagedError("it is not a file of bevkd")
            bad = archive.testzip()
    except DamagedError:
        raise
    except Exception as error:  # the module has no base of what it raises
        raise DamagedError(f"it is damaged, or no archive of tensors ({error})") from error
    if bad is not None:
        raise DamagedError(f"it is damaged: the sum of {bad.partition('/')[2] or bad} is another")


def _canonical(value: Any) -> Any:
    """The same with tensors that own what they hold, on the CPU; with equal strings that are the same object.

    A pickle says of an object that comes again that it is the one from before.
    """
    if isinstance(value, Tensor):
        held = value.detach().cpu().contiguous()
        return held.clone() if held.data_ptr() == value.data_ptr() else held
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, OrderedDict):
        out = OrderedDict((_canonical(name), _canonical(part)) for name, part in value.items())
        if (metadata := getattr(value, "_metadata", None)) is not None:  # versions of modules
            out._metadata = _canonical(metadata)  # type: ignore[attr-defined]
        return out
    if isinstance(value, dict):
        return {_canonical(name): _canonical(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(_canonical(part) for part in value)
    return value


def _sums(state: dict[str, Any]) -> dict[str, int]:
    """CRC-32 of content, type and shape of every tensor, by its path."""
    sums = {}
    for path, value in _tensors(state, ""):
        content = zlib.crc32(value.detach().reshape(-1).view(torch.uint8).numpy().data)
        sums[path] = zlib.crc32(f"{value.dtype} {tuple(value.shape)}".encode(), content)
    return sums


def _tensors(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict | list | tuple):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(part, f"{path}/{name}" if path else str(name))


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor is as large as it says, and of a kind that can be looked at."""
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _check_sums(told: Any, found: dict[str, int]) -> None:
    if not isinstance(told, dict):
        raise DamagedError("it is damaged: it has no sums")
    for name in [*told, *found]:
        if name not in found or told.get(name) != found[name]:
            raise DamagedError(f"it is damaged: {name} is {'another' if name in found else 'missing'}")


@cache
def _say_once() -> None:
    logger.warning("files from before there were sums of arrays are compared with those of their archives alone")


def _say_older(where: object) -> None:
    logger.info("%s is from before there were sums of arrays", where)
    _say_once()
