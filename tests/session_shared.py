"""What the processes of a test session share: made by the first that asks for it, then only read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


class Shared:
    """A folder that all processes of a test session see; what is costly is made there once and then only read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def made(self, name: str, make: Callable[[Path], object]) -> Path:
        """The path of something that `make` makes at a path that does not exist, once; others wait for it."""
        path, whole = self.folder / name, self.folder / f"{name}.whole"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not whole.exists():
                assert not path.exists(), f"{name} could not be made"
                make(path)
                whole.touch()
        return path
