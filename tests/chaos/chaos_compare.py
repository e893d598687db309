"""What a killed command has left, and whether what it made in the end is what an undisturbed one makes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from bevkd.temporary import AGE_S, OLD, SUFFIX, sweep

# Clocks, and who trained where and when: two runs that nobody kills differ in these, too.
_TIMES = ("data_s", "compute_s", "samples_per_s", "eval_time")
_UNLIKE = ("provenance.json",)
_SKIPPED = ("tb", "logs", "benchmarks")  # folders of what tells how it went: a resumed command tells another story


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is called as what a command of ours is just writing."""
    return path.name.startswith(".") and path.name.endswith((SUFFIX, OLD))


def _is_lock(path: Path) -> bool:
    """A lock stays where it is: a process that removed it could not see another one that waits for it."""
    return path.name.startswith(".") and path.name.endswith(".lock")


def temporaries(roots: Iterable[Path]) -> list[Path]:
    """Temporary files and folders below some folders; what a temporary folder holds is part of it."""
    found = []
    for root in roots:
        for folder, below, files in os.walk(root):
            found += [Path(folder, name) for name in (*below, *files) if is_temporary(Path(name))]
            below[:] = [name for name in below if not is_temporary(Path(name))]
    return sorted(found)


def aged(paths: Iterable[Path]) -> None:
    """Make temporaries look as they would some hours later: only then the next command may remove them."""
    then = time.time() - 2 * AGE_S
    for path in paths:
        os.utime(path, (then, then))


def kept_wrongly(roots: Iterable[Path], since: float | None) -> list[str]:
    """What is wrong with temporaries that are still there when everything has ended; afterwards none is.

    Args:
        roots: where to look.
        since: when the resumed command started, if all of them were old then: it had to remove them from every folder
            that it wrote to. None: they were too young to be touched.
    """
    wrong = []
    for path in temporaries(roots):
        if since is not None and _is_written(path.parent, since):
            wrong.append(f"{path}: a later command wrote there and left it")
        sweep(path.parent, age_s=0.0)
        if path.exists():
            wrong.append(f"{path}: nothing will ever remove it")
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return wrong


def _is_written(folder: Path, since: float) -> bool:
    """Whether a whole file or folder has been put into a folder since; logs are appended to, locks taken."""
    others = [path for path in folder.iterdir() if not (is_temporary(path) or _is_lock(path))]
    return any(path.stat().st_mtime >= since for path in others if path.is_file() and path.suffix != ".jsonl")


def content(root: Path, within: Iterable[str]) -> dict[str, Path]:
    """Files below `root` that make up a result, by their path in it.

    Args:
        root: a folder.
        within: the files and folders of it that belong to the result.
    """
    found: dict[str, Path] = {}
    for part in within:
        for folder, below, files in os.walk(root / part):
            below[:] = [name for name in below if name not in _SKIPPED and not is_temporary(Path(name))]
            paths = [Path(folder, name) for name in files]
            found |= {str(p.relative_to(root)): p for p in paths if not (is_temporary(p) or _is_lock(p))}
    return found


def differences(wanted: dict[str, Path], made: dict[str, Path]) -> list[str]:
    """What two results differ in, a line each."""
    lines = [f"{name} is missing" for name in sorted(wanted.keys() - made.keys())]
    lines += [f"{name} should not be there" for name in sorted(made.keys() - wanted.keys())]
    return lines + [
        f"{name} has another content"
        for name in sorted(wanted.keys() & made.keys())
        if not _same(wanted[name], made[name])
    ]


def _same(one: Path, other: Path) -> bool:
    if one.name in _UNLIKE:
        return json.loads(one.read_bytes()).keys() == json.loads(other.read_bytes()).keys()
    if one.name == "log.jsonl":
        return _log(one) == _log(other)
    if one.read_bytes() == other.read_bytes():
        return True
    if one.name.startswith("metrics_"):
        return _timeless(json.loads(one.read_bytes())) == _timeless(json.loads(other.read_bytes()))
    return one.suffix == ".pt" and _same_tensors(
        torch.load(one, weights_only=True), torch.load(other, weights_only=True)
    )


def _log(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [_timeless(line) for line in lines]


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in _TIMES}


def _same_tensors(one: Any, other: Any) -> bool:
    """Equal bit by bit, whatever the archive around them looks like."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same_tensors(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
        return torch.equal(*bits)
    return type(one) is type(other) and bool(one == other)
