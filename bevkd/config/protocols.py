"""Protocols: how the arms of a comparison are trained, and so what a difference between them estimates.

The protocol follows from the rows. A comparison may say which one it means, and is checked: its runs start from the
same weights and train the same steps, unless it says that they differ in this on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

from bevkd.config.chain import find_row
from bevkd.config.schema import RowConfig
from bevkd.config.training import WHOLE, InitConfig, TrainConfig
from bevkd.errors import ConfigError

Protocol: TypeAlias = Literal["published", "further", "unlabelled"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
Differs: TypeAlias = Literal["start", "steps"]
# The one wording of each, for tables, page and docs.
WORDING: Mapping[Protocol, str] = {
    "published": (
        "published protocol: labelled frames only, no arm starts from a trained student, all train the same steps"
    ),
    "further": (
        "further training: all arms start from the same trained student of their seed and train the same further steps,"
        " the baseline without a teacher; it estimates the effect of distilling a trained student, not of training with"
        " a teacher from scratch"
    ),
    "unlabelled": (
        "unlabelled frames: arms with a teacher learn from labelled and unlabelled frames, the baseline from the same"
        " labelled ones in the same steps"
    ),
}


def starts_from_a_whole_run(row: RowConfig) -> bool:
    """Whether a row starts from all weights of a trained run; parts, such as an image backbone, are starting weights
    as any paper has them.
    """
    return any(WHOLE in init.parts for init in row.inits)


def protocols_of_row(row: RowConfig) -> tuple[Protocol, ...]:
    """Protocols that a row is trained under: one, or both of `further` and `unlabelled`."""
    found: list[Protocol] = ["further"] if starts_from_a_whole_run(row) else []
    found += ["unlabelled"] if row.frames == "all" else []
    return tuple(found) or ("published",)


def protocol_of(
    arm: Iterable[str], baseline: Iterable[str], rows: Mapping[str, RowConfig], said: Protocol | None, where: str
) -> Protocol:
    """The protocol of a comparison: that of its arm, or of its baseline where the arm has no teacher.

    Args:
        arm, baseline: run ids.
        rows: all rows.
        said: what the comparison says of it, if anything. Arms that start from a trained student *and* learn from
            unlabelled frames count as `further` unless it says otherwise.
        where: the comparison, for messages.

    Raises:
        ConfigError: the rows of a pool have different ones, or what is said is another one; an unknown run.
    """
    found: tuple[Protocol, ...] = ("published",)
    for runs in (arm, baseline):
        kinds = {run: protocols_of_row(find_row(run, rows, where)) for run in runs}
        if len(set(kinds.values())) > 1:
            named = ", ".join(f"{run!r} is {' and '.join(kind)}" for run, kind in kinds.items())
            raise ConfigError(f"{where}: the runs of a pool are trained under one protocol, but {named}")
        found = next(iter(kinds.values()), found)
        if found != ("published",):
            break
    if said is not None and said not in found:
        raise ConfigError(f"{where}: protocol {said!r}, but by its rows it is {' and '.join(found)}")
    return said or found[0]


def check_starts(
    first: str, others: Iterable[str], rows: Mapping[str, RowConfig], differs: Iterable[Differs], where: str
) -> None:
    """All runs of a comparison start from the same weights: the same run, seed and parts, or none.

    Raises:
        ConfigError: one does not; the message names both rows.
    """
    if "start" in differs:
        return
    start = find_row(first, rows, where)
    for run in others:
        if trained_starts(other := find_row(run, rows, where)) != trained_starts(start):
            named = [_said(start), _said(other)]
            raise ConfigError(
                f"{where}: {first!r} starts from {named[0]}, {run!r} from {named[1]}; compared runs start from the"
                " same weights (`differs: [start]` says that this is what is compared)"
            )


def trained_starts(row: RowConfig) -> list[InitConfig]:
    """The trained weights that a row starts from. What it adds to them, and what it takes of the teacher that it learns
    from (`seed: teacher`), are a part of what is compared.
    """
    return [replace(one, fresh=()) for one in row.inits if one.seed != "teacher"]


def _said(row: RowConfig) -> str:
    return " and ".join(f"{one.run!r} (seed {one.seed}, {', '.join(one.parts)})" for one in row.inits) or "nothing"


def check_steps(
    first: str, others: Iterable[str], train: Callable[[str], TrainConfig], differs: Iterable[Differs], where: str
) -> None:
    """All runs of a comparison train the same steps.

    Args:
        first: a run.
        others: those that are compared with it.
        train: the resolved settings of a run's training.
        differs: what they differ in on purpose.
        where: the comparison, for messages.

    Raises:
        ConfigError: one does not; the message names both rows.
    """
    if "steps" in differs:
        return
    length = _length(train(first))
    for run in others:
        if (other := _length(train(run))) != length:
            raise ConfigError(
                f"{where}: {first!r} trains {length}, {run!r} {other}; compared runs train the same steps"
                " (`differs: [steps]` says that this is what is compared)"
            )


def _length(train: TrainConfig) -> str:
    return f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"
