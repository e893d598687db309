"""Which frames a KITTI evaluation is of: those with a result file, as in the benchmark, or those of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bevkd.errors import ConfigError, DataError, nearest
from bevkd.io import names_in, read_text


@dataclass(frozen=True)
class Frames:
    """The frames of an evaluation.

    Attributes:
        names: all of them, such as "000123".
        found: those with a result file.
        warnings: what is left out, or counts as without detections.
    """

    names: tuple[str, ...]
    found: tuple[str, ...]
    warnings: tuple[str, ...]


def read_split(split: str, labels: Path) -> list[str]:
    """Names of the frames of a list as in `ImageSets`: a file, or its name there, such as "val".

    Raises:
        ConfigError: no such name in the `ImageSets` beside (or above) the folder of labels.
        DataError: the file is missing or unreadable, names no frame, or one twice.
    """
    path = Path(split)
    if not path.is_file() and path.name == split and not path.suffix:
        folders = [folder / "ImageSets" for folder in labels.resolve().parents[:2]]
        lists = {Path(name).stem: folder / name for folder in reversed(folders) for name in names_in(folder, ".txt")}
        if split not in lists:
            known = f"; known: {', '.join(sorted(lists))}" if lists else f": there is no list in {folders[-1]}"
            raise ConfigError(
                f"--split wants a file or the name of a list, not {split!r}{nearest(split, lists)}{known}"
            )
        path = lists[split]
    names = read_text(path, "list").split()
    if not names:
        raise DataError("names no frame", file=path)
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if name in seen:
            raise DataError(f"entry {number} names a frame twice", file=path, token=name)
        seen.add(name)
    return names


def int_of(name: str) -> int | None:
    """The number that a frame is named by, whatever the zeros before it."""
    return int(name) if name.isascii() and name.isdigit() else None


def choose(labels: Path, results: Path, wanted: Sequence[str] | None) -> Frames:
    """The frames to evaluate.

    Args:
        labels: folder of label files.
        results: folder of result files.
        wanted: names of the frames; those without a result file count as frames without detections. None: every frame
            with a result file, for the labels are often those of another split, too.

    Raises:
        DataError: no result file, or one without a label file.
    """
    there = [name.removesuffix(".txt") for name in names_in(results, ".txt")]
    labelled = {name.removesuffix(".txt") for name in names_in(labels, ".txt")}
    if not there:
        raise DataError("no result files", file=results)
    names = list(wanted) if wanted is not None else there
    if unlabelled := [name for name in names if name not in labelled]:
        if wanted is not None:
            what = f"{len(unlabelled)} of {len(names)} frames have no label file"
            raise DataError(f"{what}; the first", file=labels / f"{unlabelled[0]}.txt", token=unlabelled[0])
        padded = next((name for name in labelled if int_of(name) == int_of(unlabelled[0]) is not None), None)
        hint = f" (did you mean {padded}?)" if padded else ""
        what = f"a result for a frame without labels, {len(unlabelled)} of {len(there)}; the first{hint}"
        raise DataError(what, file=results / f"{unlabelled[0]}.txt", token=unlabelled[0])
    known, warnings = set(names), []
    found = [name for name in there if name in known]
    if wanted is None and (left := len(labelled) - len(there)):
        warnings.append(
            f"{left} of {len(labelled)} label files have no result file and are left out, as by the official evaluator;"
            " --split names the frames that count"
        )
    if wanted is not None:
        if not found:
            message = f"no result file is of the {len(names)} frames of the split; the first is of another"
            raise DataError(message, file=results / f"{there[0]}.txt", token=there[0])
        if missing := len(names) - len(found):
            warnings.append(f"{missing} of {len(names)} frames have no result file: they count as without detections")
        if others := len(there) - len(found):
            warnings.append(f"{others} of {len(there)} result files are of other frames and left out")
    return Frames(tuple(names), tuple(found), tuple(warnings))
