"""Timing that survives a busy machine: contestants take turns, and medians of paired ratios are compared."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bevkd.processor import processor


@dataclass(frozen=True)
class Timings:
    """Seconds of every round by contestant, in the order they were given."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one contestant."""
        return float(np.median(self.seconds[name]))

    def ratio(self, name: str, reference: str) -> float:
        """Median over rounds of the time of `name` divided by that of `reference` in the same round."""
        return float(np.median(np.divide(self.seconds[name], self.seconds[reference])))

    def summary(self, reference: str) -> dict[str, dict[str, float]]:
        """Median, quartiles and ratio to the reference, for JSON."""
        out = {}
        for name, values in self.seconds.items():
            low, middle, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
            out[name] = {"median_s": middle, "q25_s": low, "q75_s": high, "ratio": self.ratio(name, reference)}
        return out


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = 20,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Call every contestant once per round, in an order that alternates from round to round.

    Args:
        contestants: name -> what is timed.
        rounds: timed rounds.
        warmup: rounds before them.
        clock: `time.process_time` measures CPU time, which other jobs disturb less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(-warmup, rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            began = clock()
            contestants[name]()
            spent = clock() - began
            if turn >= 0:
                seconds[name].append(spent)
    return Timings(seconds)


def machine() -> dict[str, Any]:
    """What numbers were measured on: processor, cores, memory, load, versions, GPU."""
    import torch

    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
