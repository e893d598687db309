"""By which code, with which libraries and on what a result was made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import bevkd
from bevkd.processor import processor

_ROOT = Path(bevkd.__file__).resolve().parents[1]
_LIBRARIES = ("torch", "numpy")
# What decides over results; a changed test or guide does not make a result that of other code.
_CODE = ("bevkd", "config", "workflow", "Snakefile", "constraints.txt")


def _git(*arguments: str) -> str | None:
    """What git prints in the folder of this code, or nothing where that is no repository."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@cache
def commit() -> tuple[str | None, bool | None]:
    """The commit that this code was checked out from, and whether it has been changed since; None: not known."""
    if _git("ls-files", "--error-unmatch", "bevkd/__init__.py") is None:  # installed, perhaps inside another repository
        return None, None
    name = _git("rev-parse", "--short=12", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    return name, None if name is None or changes is None else changes != ""


@cache
def commit_date() -> str | None:
    """When that commit was made; None: not known. Unlike the time of day it does not change what is written twice."""
    return None if commit()[0] is None else _git("show", "-s", "--format=%cI", "HEAD")


def provenance() -> dict[str, Any]:
    """For JSON: commit, whether the code differs from it, date (UTC), versions, processor and number of cores."""
    name, changed = commit()
    return {
        "commit": name,
        "changed": changed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "bevkd": bevkd.__version__,
        "python": platform.python_version(),
        **{library: metadata.version(library) for library in _LIBRARIES},
        "processor": processor(),
        "cores": os.cpu_count(),
    }
