"""Checkpoints (complete, resumable) and models (what later stages read): plain tensors, atomic, never unpickled freely.

`checkpoint.pt` and `checkpoint.prev.pt` lie beside the result while a run is in progress and go when it is done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bevkd import __version__
from bevkd.config import ModelConfig, RunConfig, differences, identity, identity_digest, stored_run, to_plain
from bevkd.config.snapshots import FOLDER as SNAPSHOTS
from bevkd.errors import CheckpointError, ConfigError, DataError, OtherRunError
from bevkd.hints import train_again
from bevkd.io import atomic_path, digest, read_bytes
from bevkd.models.detector import Detector, build_detector, weights_come_later
from bevkd.regular import TABLE
from bevkd.train.archive import DamagedError, not_finite, pack, unpack

logger = logging.getLogger(__name__)

CURRENT, PREVIOUS, MODEL = "checkpoint.pt", "checkpoint.prev.pt", "model.pt"
STARTED = "init.json"  # what a training took from the weights that it started from
# What a file holds, and of which type. Files from before there were starting weights have no `init`.
_COMMON: dict[str, type] = {"version": str, "config": str, "teacher": str, "step": int, "model": dict}
_MODEL_KEYS = _COMMON | {"digest": str}
_CHECKPOINT_KEYS = _COMMON | {"torch": str, "window": dict, "adapters": dict, "optimizer": dict, "precision": dict}
_OPTIONAL: dict[str, type] = {"init": str, "made_with": list}


def save_checkpoint(out: Path, state: dict[str, Any]) -> None:
    """Write `checkpoint.pt`, keeping the one before it; at every instant one of the two is whole."""
    with atomic_path(out / CURRENT) as temporary:
        temporary.write_bytes(pack(state))
        if (out / CURRENT).exists():
            os.replace(out / CURRENT, out / PREVIOUS)


def _read(path: Path, keys: dict[str, type]) -> dict[str, Any]:
    """A file of tensors.

    Raises:
        DamagedError: it is not what was written, or something else was.
        DataError: the system refuses.
    """
    state = unpack(read_bytes(path, most=TABLE), path)
    if lacking := [name for name in keys if name not in state]:
        raise DamagedError(f"it is not a file of bevkd, or of another kind: it lacks {lacking[0]}")
    for name, kind in (keys | _OPTIONAL).items():
        if name in state and not isinstance(state[name], kind):
            raise DamagedError(f"it is not a file of bevkd: its {name} is none")
    for name in ("model", "adapters"):
        weights = state.get(name, {})
        if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()):
            raise DamagedError(f"it is not a file of bevkd: not all of {name} are arrays")
        if bad := not_finite(weights):
            raise DamagedError(f"its weights are not finite: {shortened(bad)}")
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
        except (DamagedError, DataError) as error:
            failures.append(f"{path}: {error}")
            logger.warning("unreadable checkpoint %s", failures[-1])
    if failures:
        raise CheckpointError(f"no readable checkpoint ({'; '.join(failures)}); use --restart to begin anew")
    return None


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Digest of names, types, shapes and values: equal for equal weights, whatever file they were read from."""
    content = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        content.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()[:16]


def check_same_run(state: dict[str, Any], run: RunConfig, teacher: str, where: Path, init: str = "") -> None:
    """Compare what wrote a checkpoint or model with the run that wants to go on.

    Args:
        state: content of the file.
        run: the run that wants to go on.
        teacher: digest of its teacher's weights, "" without one.
        where: the file, for the message.
        init: digest of the weights that it starts from, "" without any.

    Raises:
        OtherRunError: they differ; the message names the settings.
    """
    before = {"config": identity(_stored(state, where)), "teacher": state["teacher"], "init": state.get("init", "")}
    now = {"config": identity(run), "teacher": teacher, "init": init}
    changed = differences(before, now)
    if changed:
        shown = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" if len(changed) > 8 else "")
        raise OtherRunError(f"{where} was written with another configuration ({shown}); use --restart to begin anew")


def drop_leftovers(out: Path) -> None:
    """Remove what a killed writer left half-written."""
    for folder in (out, *out.glob(f"{SNAPSHOTS}/*")):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def drop_checkpoints(out: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for name in (CURRENT, PREVIOUS):
        (out / name).unlink(missing_ok=True)


def drop_results(out: Path) -> None:
    """Remove everything that a training wrote into `out`, to begin anew."""
    drop_checkpoints(out)
    for name in (MODEL, "log.jsonl", "config.yaml", "provenance.json", STARTED):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / SNAPSHOTS, ignore_errors=True)
    for path in (out / "tb").glob("events.*"):
        path.unlink()


def save_model(out: Path, model: dict[str, Tensor], run: RunConfig, step: int, teacher: str, init: str = "") -> Path:
    """Write `model.pt`: weights, resolved configuration, and digests of what determined them."""
    path = out / MODEL
    state: dict[str, Any] = {
        "model": model,
        "config": json.dumps(to_plain(run)),
        "digest": identity_digest(run),
        "step": step,
        "teacher": teacher,
        "init": init,
        "version": __version__,
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack(state))
    return path


def read_model(path: Path) -> dict[str, Any]:
    """The content of a `model.pt`.

    Raises:
        CheckpointError: missing, damaged or no model; the message names the command that makes it again.
        DataError: the system refuses.
    """
    if not path.exists():
        raise CheckpointError(f"no trained model at {path}")
    try:
        return _read(path, _MODEL_KEYS)
    except DamagedError as error:
        raise CheckpointError(f"{path} cannot be read as a model: {error}{train_again(path)}") from error


def content_digest(path: Path) -> str:
    """Digest of what a `model.pt` is: of its weights, and of the settings that they are trained and used with.

    Two trainings with the same result have the same, wherever, whenever and with however many data workers they ran.

    Raises:
        CheckpointError, DataError: as `read_model`.
    """
    state = read_model(path)
    return digest([weights_digest(state["model"]), state["digest"]])


def read_config(path: str | Path) -> RunConfig:
    """The configuration inside a `model.pt`.

    Raises:
        CheckpointError: missing or unreadable.
    """
    return _config(read_model(Path(path)), Path(path))


def _config(state: dict[str, Any], path: Path) -> RunConfig:
    try:
        return _stored(state, path)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def shortened(problems: list[str], shown: int = 5) -> str:
    """The first few of some problems, and how many more there are."""
    more = f" and {len(problems) - shown} more" if len(problems) > shown else ""
    return "; ".join(problems[:shown]) + more


def other_shapes(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], names: Iterable[str]) -> list[str]:
    """A problem for every name whose tensors have different shapes; one that `theirs` lacks is none."""
    return [
        f"{name} has shape {tuple(theirs[name].shape)}, not {tuple(own[name].shape)}"
        for name in names
        if name in theirs and theirs[name].shape != own[name].shape
    ]


def load_weights(module: torch.nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Strict loading.

    Raises:
        OtherRunError: names or shapes differ; the message names the first few.
    """
    own = module.state_dict()
    problems = [f"missing {k}" for k in own if k not in weights] + [f"unexpected {k}" for k in weights if k not in own]
    problems += other_shapes(own, weights, own)
    if problems:
        raise OtherRunError(f"{where} is of another architecture: {shortened(problems)}")
    module.load_state_dict(weights)


def _stored(state: dict[str, Any], where: Path) -> RunConfig:
    """The configuration inside of a checkpoint or model.

    Raises:
        ConfigError: it is none.
    """
    try:
        plain = json.loads(state["config"])
    except json.JSONDecodeError:
        plain = None
    return stored_run(plain, f"configuration inside {where}")


def load_detector(path: str | Path, model: ModelConfig | None = None) -> tuple[Detector, RunConfig]:
    """Rebuild the detector of a `model.pt` on the CPU, in eval mode.

    Args:
        path: the file.
        model: settings of the same network, to decode in another way than it was trained with; default: its own.

    Raises:
        CheckpointError: missing, unreadable, or of another architecture than its configuration says.
    """
    path = Path(path)
    state = read_model(path)
    run = _config(state, path)
    if model is not None:
        run = replace(run, model=model)
    # All weights are in the file: those that training started from need not be there, nor the network to get them.
    detector = build_detector(weights_come_later(run.model))
    load_weights(detector, state["model"], str(path))
    return detector.eval(), run
