"""One case: a copy of good files, of which one is damaged, is read. The answer is right or a typed error."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from fuzz_mutations import Edit, edits, mutated
from fuzz_targets import Target, seed
from hypothesis import strategies as st

from bevkd.errors import BevkdError

MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # cases are flushed to disk, which takes longest
SECONDS, BYTES = 20.0, 2_000_000_000


@dataclass(frozen=True)
class Case:
    """What is done to which file.

    Attributes:
        target: name of the target.
        file: number of the file, modulo how many there are.
        edits: what is done to it.
    """

    target: str
    file: int
    edits: tuple[Edit, ...]


def cases(target: Target) -> st.SearchStrategy[Case]:
    """Cases of a target."""
    return st.builds(Case, st.just(target.name), st.integers(0, 2**16), edits(*target.kinds))


def damaged(target: Target, case: Case, folder: Path) -> Path:
    """A copy of the good files in a new folder, one of them damaged; which one."""
    good = seed(target)
    shutil.copytree(good, folder, symlinks=True)
    files = sorted(path for pattern in target.files for path in folder.glob(pattern) if path.is_file())
    path = files[case.file % len(files)]
    path.write_bytes(mutated(path.read_bytes(), path.name, case.edits))
    return path


def outcome(target: Target, case: Case) -> str:
    """`right` or `typed`.

    Raises:
        Exception: whatever else a reader raises.
        AssertionError: a wrong answer, or one that took too long or too much memory.
    """
    with tempfile.TemporaryDirectory(prefix="bevkd-fuzz-", dir=MEMORY_DISK) as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        damaged(target, case, Path(name) / "case")
        before, start = _peak(), time.perf_counter()
        try:
            target.read(Path(name) / "case")
            return "right"
        except BevkdError:
            return "typed"
        finally:
            took, grown = time.perf_counter() - start, _peak() - before
            assert took < SECONDS, f"took {took:.1f} s"
            assert grown < BYTES, f"took {grown / 1e9:.1f} GB"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
