"""File names of data tables as paths: below the root of the data set, also after links are resolved.

Tables are data: a name such as `../../home/x` or `/etc/passwd`, or a link that leads elsewhere, must not make a reader
open what is no part of the data set. Whoever keeps parts of one on another disk, linked from its root, names those
folders in one setting: `data.link_targets`, and `--link-target` of `bevkd convert`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bevkd.errors import DataError


class Inside:
    """Paths below a root.

    Folders are resolved once; of a file only whether it is a link is asked, which costs some microseconds.

    Args:
        root: folder of the data set, which may be a link itself.
        targets: further folders that links may lead to.
    """

    def __init__(self, root: str | Path, targets: Iterable[str | Path] = ()) -> None:
        self.root, self.targets = Path(root), tuple(str(target) for target in targets)
        self._allowed = tuple(os.path.realpath(str(folder)) for folder in (self.root, *self.targets))
        self._folders: dict[str, bool] = {}

    def path(self, name: str, token: str | None = None) -> Path:
        """The path of a file or folder that a table names.

        Raises:
            DataError: it is not within the root, or is no name at all.
        """
        if (why := self.refused(name)) is not None:
            raise DataError(why, file=self.root / name.replace("\0", "?"), token=token, field="filename")
        return self.root / name

    def refused(self, name: str) -> str | None:
        """Why a name is none of a file within the root; None if it is one."""
        if "\0" in name:
            return "a file name with a zero byte"
        full = os.path.join(self.root, name)
        folder = os.path.dirname(full)
        if ".." not in name.split(os.sep):
            if folder not in self._folders:
                self._folders[folder] = self._holds(folder)
            if self._folders[folder] and not os.path.islink(full):
                return None
        if self._holds(full):
            return None
        real = os.path.realpath(full)
        return f"leads out of the folder of the data set, to {real} (docs/own_data.md says where its parts may lie)"

    def _holds(self, path: str) -> bool:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False
        return any(real == one or real.startswith(one.rstrip(os.sep) + os.sep) for one in self._allowed)
