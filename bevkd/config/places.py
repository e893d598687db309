"""Where the YAML files are: the packaged ones, and a folder of the user's that takes their place or is laid over them.

Asked in this order: `--config-dir`, $BEVKD_CONFIG, `config` in the working directory, the packaged files. A folder with
`config.yaml`, `scales` and `papers` is whole and stands alone. Any other one is laid over the packaged files, file by
file: what it has wins, what it lacks comes from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bevkd.errors import ConfigError, nearest
from bevkd.names import check_name

VARIABLE = "BEVKD_CONFIG"
PROJECT = "config"
_WHOLE = ("config.yaml", "papers", "scales")
# Folder -> what its files end with; in `papers` every paper has a folder of its own.
_KINDS = {"datasets": ".yaml", "models": ".yaml", "papers": ".yaml", "reference": ".csv", "scales": ".yaml"}


@dataclass(frozen=True)
class ConfigTree:
    """Folders of configuration as one; of a file that several have, the first one's counts.

    Attributes:
        folders: absolute; the last one is whole.
    """

    folders: tuple[Path, ...]

    def file(self, *parts: str) -> Path:
        """A file, which need not exist."""
        paths = [folder.joinpath(*parts) for folder in self.folders]
        return next((path for path in paths if path.exists()), paths[-1])

    def files(self, kind: str) -> dict[str, Path]:
        """All files of a folder such as `models`, by name without its end, sorted."""
        found: dict[str, Path] = {}
        for folder in reversed(self.folders):
            found |= {path.stem: path for path in (folder / kind).glob(f"*{_KINDS[kind]}")}
        return dict(sorted(found.items()))

    def named(self, kind: str, name: str) -> Path:
        """The file of a model, data set or scale.

        Raises:
            ConfigError: there is none; the message names the nearest one.
        """
        path = self.file(kind, f"{check_name(name, kind)}{_KINDS[kind]}")
        if not path.exists():
            raise ConfigError(f"no such config file: {path}{nearest(name, self.files(kind))}")
        return path

    def papers(self) -> list[str]:
        """Names of the folders in `papers`, sorted."""
        return sorted({path.name for folder in self.folders for path in (folder / "papers").glob("*") if path.is_dir()})


def packaged() -> Path:
    """The files that came with the code: inside an installed package, beside it in a source tree."""
    inside = Path(__file__).resolve().parents[1] / "_config"
    return inside if inside.is_dir() else inside.parents[1] / "config"


def config_tree() -> ConfigTree:
    """The configuration that counts here and now.

    Raises:
        ConfigError: the folder that was asked for does not exist, or holds nothing of a configuration.
    """
    if asked := os.environ.get(VARIABLE):
        folder = Path(asked).resolve()
        if not folder.is_dir():
            raise ConfigError(f"no such configuration folder: {asked}")
        if not _is_ours(folder):
            raise ConfigError(f"{asked} is no configuration: it has none of config.yaml, {', '.join(_KINDS)}")
        return _tree(folder)
    folder = Path(PROJECT).resolve()
    return _tree(folder) if _is_ours(folder) else ConfigTree((packaged(),))


def config_dir() -> Path:
    """The whole folder of configuration: the one that stands alone, or that another one is laid over."""
    return config_tree().folders[-1]


def use_config_dir(folder: Path) -> Callable[[], None]:
    """Ask for a folder, here and in processes that are started from here.

    Returns:
        what undoes it.

    Raises:
        ConfigError: it is no folder of configuration.
    """
    before = os.environ.get(VARIABLE)

    def undo() -> None:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before

    os.environ[VARIABLE] = str(folder.resolve())
    try:
        config_tree()
    except ConfigError:
        undo()
        raise
    return undo


_found_whole: set[Path] = set()  # asked thousands of times; what is whole stays so while a process runs


def _is_whole(folder: Path) -> bool:
    if folder not in _found_whole and all((folder / name).exists() for name in _WHOLE):
        _found_whole.add(folder)
    return folder in _found_whole


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds anything that is read here; many projects have a `config` of another kind."""
    if _is_whole(folder):
        return True
    depth = {"papers": "*/*"}
    return any(
        next((folder / kind).glob(f"{depth.get(kind, '*')}{end}"), None) is not None for kind, end in _KINDS.items()
    )


def _tree(folder: Path) -> ConfigTree:
    return ConfigTree((folder,) if _is_whole(folder) else (folder, packaged()))
