"""Numbers as users have them: arrays, lists, tensors of any device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bevkd.errors import ConfigError


def plain(value: Any) -> Any:
    """Tensors, also those in a list, as NumPy arrays; all else as it is."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value] if value and hasattr(value[0], "detach") else value
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def depth(value: Any) -> int:
    """How many indices a number in it has; of nested lists the first one tells."""
    if hasattr(value, "ndim"):
        return int(value.ndim)
    if isinstance(value, list | tuple):
        return 1 + (depth(value[0]) if value else 0)
    return 0


def numbers(name: str, value: Any, dtype: DTypeLike, wanted: str = "numbers") -> NDArray[Any]:
    """Real numbers as an array of a type.

    Args:
        name: begins the message.
        value: numbers in any form.
        dtype: of the array; numbers that an integer type cannot hold as they are are refused.
        wanted: what the message says should have been there.

    Raises:
        ConfigError: text, complex numbers, nothing, lists of unequal lengths, or fractions for integers.
    """
    try:
        given = np.asarray(plain(value))
        if given.dtype.kind not in "fiubO":
            raise TypeError
        with np.errstate(over="ignore", invalid="ignore"):
            out = given.astype(dtype, copy=False)
        if out.dtype.kind in "iu" and given.size and not np.array_equal(out, given):
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: wants {wanted}") from None
    return out
