"""Settings of adapters, for the settings of methods."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AdapterConfig:
    """Form of an adapter.

    Attributes:
        enabled: `auto` switches it on only where the teacher is weaker: camera teacher, LiDAR student.
        kernel: size of the convolution. The paper says one convolution layer; a draft in the public code, which is
            never called there, has 3x3 kernels.
        norm: batch normalisation or none.
        act: ReLU or none.
        where: `read` evaluates the layer only at the points or cells that the losses read, at a fraction of the cost,
            so that the batch statistics are those of what is read; `map` evaluates the whole map.
    """

    enabled: bool | Literal["auto"] = "auto"
    kernel: Literal[1, 3, 5, 7] = 1
    norm: Literal["bn", "none"] = "bn"
    act: Literal["relu", "none"] = "relu"
    where: Literal["read", "map"] = "read"
