"""Settings of training as they were stored before optimiser and schedule had settings of their own."""

from __future__ import annotations

from typing import Any

# What a setting meant where it was not given.
_THEN = {
    "epochs": 20,
    "batch_size": 20,
    "lr": 1e-3,
    "grad_clip": 0.1,
    "weight_decay": 0.01,
    "betas": [0.95, 0.99],
    "cycle_momentum": True,
    "warmup_fraction": 0.4,
    "div_factor": 10.0,
    "final_div_factor": 1e4,
}
_OPTIMIZER = ("weight_decay", "betas")
_SCHEDULE = ("warmup_fraction", "div_factor", "final_div_factor")


def upgrade_train(plain: dict[str, Any]) -> dict[str, Any]:
    """The section `train` of a whole stored configuration, as it is written today; a new one stays as it is."""
    if "optimizer" in plain or "schedule" in plain:
        return plain
    old = _THEN | plain
    moved = {name: old.pop(name) for name in (*_OPTIMIZER, *_SCHEDULE, "cycle_momentum")}
    dip = 0.1 if moved["cycle_momentum"] else 0.0
    return old | {
        "optimizer": {"kind": "adamw"} | {name: moved[name] for name in _OPTIMIZER},
        "schedule": {"kind": "one_cycle", "momentum_dip": dip} | {name: moved[name] for name in _SCHEDULE},
    }
