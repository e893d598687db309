"""Checkpoints (complete, resumable) and models (what later stages read): plain tensors, atomic, never unpickled freely.

`checkpoint.pt` and `checkpoint.prev.pt` lie beside the result while a run is in progress and go when it is done.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bevkd import __version__
from bevkd.config import RunConfig, parse, to_plain
from bevkd.errors import CheckpointError, ConfigError, OtherRunError
from bevkd.io import atomic_path, digest
from bevkd.models.detector import Detector, build_detector

logger = logging.getLogger(__name__)

CURRENT, PREVIOUS, MODEL = "checkpoint.pt", "checkpoint.prev.pt", "model.pt"
# Settings that do not change the result, or only describe the row: they may differ when a run is resumed.
VOLATILE = {
    "train": {"checkpoint_every", "log_every", "workers", "threads"},
    "data": {"memory_cache"},
    "row": {"doc", "target", "seeds", "set"},  # `set` is already merged into the rest
}
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, OSError, zipfile.BadZipFile, KeyError, ValueError)
_CHECKPOINT_KEYS = {"version", "torch", "config", "teacher", "step", "model", "adapters", "optimizer", "precision"}
_MODEL_KEYS = {"model", "config", "digest", "step", "teacher", "version"}


def identity(run: RunConfig) -> dict[str, Any]:
    """The settings that determine the result, as plain data."""
    return {section: _stable(section, value) for section, value in to_plain(run).items()}


def _stable(section: str, value: Any) -> Any:
    volatile = VOLATILE.get(section, set())
    return {k: v for k, v in value.items() if k not in volatile} if volatile else value


def identity_digest(run: RunConfig) -> str:
    """Short digest of `identity`."""
    return digest(identity(run))


def differences(before: Any, now: Any, at: str = "") -> list[str]:
    """Human-readable differences of two plain values, such as "train.lr: 0.001 -> 0.003"."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in sorted(before.keys() | now.keys()):
            where = f"{at}.{key}" if at else key
            lines += differences(before.get(key, "unset"), now.get(key, "unset"), where)
        return lines
    return [] if before == now else [f"{at}: {before} -> {now}"]


def save_checkpoint(out: Path, state: dict[str, Any]) -> None:
    """Write `checkpoint.pt`, keeping the one before it; at every instant one of the two is whole."""
    with atomic_path(out / CURRENT) as temporary:
        torch.save(state, temporary)
        if (out / CURRENT).exists():
            os.replace(out / CURRENT, out / PREVIOUS)


def _read(path: Path, keys: set[str]) -> dict[str, Any]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not keys <= state.keys():
        raise ValueError("it is not a file of bevkd")
    return state


def load_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint of a run, or None when there is none.

    Raises:
        CheckpointError: checkpoints are there, but none can be read.
    """
    failures = []
    for name in (CURRENT, PREVIOUS):
        path = out / name
        if not path.exists():
            continue
        try:
            return _read(path, _CHECKPOINT_KEYS)
        except _UNREADABLE as error:
            failures.append(f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            logger.warning("unreadable checkpoint %s", failures[-1])
    if failures:
        raise CheckpointError(f"no readable checkpoint ({'; '.join(failures)}); use --restart to begin anew")
    return None


def check_same_run(state: dict[str, Any], run: RunConfig, teacher: str, where: Path) -> None:
    """Compare what wrote a checkpoint or model with the run that wants to go on.

    Args:
        state: content of the file.
        run: the run that wants to go on.
        teacher: digest of its teacher's weights, "" without one.
        where: the file, for the message.

    Raises:
        OtherRunError: they differ; the message names the settings.
    """
    before = {"config": json.loads(state["config"]), "teacher": state["teacher"]}
    now = {"config": json.loads(json.dumps(identity(run))), "teacher": teacher}
    before["config"] = {k: _stable(k, v) for k, v in before["config"].items()}
    changed = differences(before, now)
    if changed:
        shown = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" if len(changed) > 8 else "")
        raise OtherRunError(f"{where} was written with another configuration ({shown}); use --restart to begin anew")


def drop_leftovers(out: Path) -> None:
    """Remove what a killed writer left half-written."""
    for path in out.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def drop_checkpoints(out: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for name in (CURRENT, PREVIOUS):
        (out / name).unlink(missing_ok=True)


def drop_results(out: Path) -> None:
    """Remove everything that a training wrote into `out`, to begin anew."""
    drop_checkpoints(out)
    for name in (MODEL, "log.jsonl", "config.yaml", "provenance.json"):
        (out / name).unlink(missing_ok=True)
    for path in (out / "tb").glob("events.*"):
        path.unlink()


def save_model(out: Path, model: dict[str, Tensor], run: RunConfig, step: int, teacher: str) -> Path:
    """Write `model.pt`: weights, resolved configuration, and digests of what determined them."""
    path = out / MODEL
    state = {
        "model": model,
        "config": json.dumps(to_plain(run)),
        "digest": identity_digest(run),
        "step": step,
        "teacher": teacher,
        "version": __version__,
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    return path


def read_model(path: Path) -> dict[str, Any]:
    """The content of a `model.pt`.

    Raises:
        CheckpointError: missing or unreadable.
    """
    if not path.exists():
        raise CheckpointError(f"no trained model at {path}")
    try:
        return _read(path, _MODEL_KEYS)
    except _UNREADABLE as error:
        raise CheckpointError(f"{path} cannot be read as a model: {error}") from error


def load_weights(module: torch.nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Strict loading.

    Raises:
        OtherRunError: names or shapes differ; the message names the first few.
    """
    own = module.state_dict()
    problems = [f"missing {k}" for k in own if k not in weights] + [f"unexpected {k}" for k in weights if k not in own]
    problems += [
        f"{k} has shape {tuple(weights[k].shape)}, not {tuple(own[k].shape)}"
        for k in own
        if k in weights and weights[k].shape != own[k].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise OtherRunError(f"{where} is of another architecture: {'; '.join(problems[:5])}{more}")
    module.load_state_dict(weights)


def load_detector(path: str | Path) -> tuple[Detector, RunConfig]:
    """Rebuild the detector of a `model.pt` on the CPU, in eval mode.

    Raises:
        CheckpointError: missing, unreadable, or of another architecture than its configuration says.
    """
    path = Path(path)
    state = read_model(path)
    try:
        run = parse(RunConfig, json.loads(state["config"]), f"configuration inside {path}")
    except (ConfigError, json.JSONDecodeError) as error:
        raise CheckpointError(str(error)) from error
    # All weights are in the file: those that training started from need not be there, nor the network to get them.
    camera = replace(run.model.camera, weights=None)
    detector = build_detector(replace(run.model, camera=camera))
    load_weights(detector, state["model"], str(path))
    return detector.eval(), run
