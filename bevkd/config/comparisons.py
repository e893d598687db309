"""Comparisons: an arm against its baseline and its controls, said once in `config/papers/<paper>/claims.yaml`.

From a comparison follow the rows of its controls (`bevkd.config.papers`), rows of tables and one claim per metric
(`bevkd.report.comparisons`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config.bounds import Ending, Name, SplitNames, Weight, Words
from bevkd.config.families import entries, fill, inherited
from bevkd.config.plain import parse
from bevkd.config.protocols import Differs, Protocol, check_starts, check_steps, protocol_of
from bevkd.config.schema import RowConfig
from bevkd.config.tiers import Tier
from bevkd.config.training import TrainConfig
from bevkd.errors import ConfigError, nearest

# Several runs in one place are pooled: their (run, seed) pairs count as independent repetitions.
Pool: TypeAlias = Name | Annotated[tuple[Name, ...], Field(min_length=1)]
Selector: TypeAlias = dict[Words, Words]
KEYS = ("controls", "metrics", "comparisons")
ROLES = ("arm", "baseline", "teacher")  # of a comparison's `runs`; all others are kinds of controls


def pool(runs: Pool) -> tuple[str, ...]:
    """One or several run ids as a tuple."""
    return (runs,) if isinstance(runs, str) else runs


def pooled_ids(runs: Pool, endings: tuple[str, ...]) -> Pool:
    """The pool of the runs with these endings; without any, the runs themselves."""
    return tuple(f"{run}{ending}" for run in pool(runs) for ending in endings) if endings else runs


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Comparison:
    """An arm, what it is compared with, and what is claimed of it; in YAML, `runs` holds all that are runs.

    Attributes:
        arm: run that should be better.
        baseline: run that it should beat.
        teacher: run shown as its teacher; none: the one of the arm's row.
        controls: kind -> run that gets no teacher of another modality. A run that runs.yaml does not have is made as
            the paper's `controls` say of the kind, from the comparison that states it (not from those like it).
        control: whether a claim needs one: not between two distilled students, nor for costs.
        words: for labels, statements, and the controls that are made.
        metrics: ending of the claim's id -> metric; no claim without.
        statement: what is claimed, in words.
        source: where the paper says so; none: in the table that `table` repeats.
        table: our table whose rows give the published cells of arm and baseline.
        published: selectors of those cells (`arm`, `baseline`) where the table's do not do; or `gain`, of a gain that
            is printed without them.
        test: `greater`; `no_difference` by a margin; or `at_most` and `at_least`: the arm's metric is no more or
            no less than the margin, which the baseline has no part in.
        margin: printed units; of all but `greater`.
        over: what is repeated, see `ClaimConfig`.
        target: tier of the claims.
        split: what the claims are judged on, as tables name splits: what is reported, or another one that no run was
            trained or tuned on.
        protocol: how its arms are trained (`bevkd.config.protocols`); follows from their rows, what is said is checked.
        differs: what its runs differ in on purpose; unsaid, they start from the same weights and train the same steps.
        pool: endings of run ids, pooled: every run stands for those with its id and these endings.
        at: scale -> run -> the run that stands for it there; also of metrics, where a scale has other groups, and of
            `split`.
    """

    name: Name
    arm: Pool
    baseline: Pool
    teacher: Pool | None = None
    controls: dict[Words, Pool] = field(default_factory=dict)
    control: Literal["due", "not_due"] = "due"
    words: dict[Words, Any] = field(default_factory=dict)
    metrics: dict[Ending, Words] = field(default_factory=dict)
    statement: Words = ""
    source: Words = ""
    table: Name | None = None
    published: dict[Literal["arm", "baseline", "gain"], Selector] = field(default_factory=dict)
    test: Literal["greater", "no_difference", "at_most", "at_least"] = "greater"
    margin: Weight | None = None
    over: Literal["seeds", "subsets", "repeats"] = "seeds"
    target: Tier = "all"
    split: SplitNames = "report"
    protocol: Protocol | None = None
    differs: tuple[Differs, ...] = ()
    pool: tuple[Ending, ...] = ()
    at: dict[Name, dict[Words, Words]] = field(default_factory=dict)

    def compared(self, scale: str = "", same_as: Mapping[str, str] | None = None) -> list[tuple[str, list[str]]]:
        """Place by place of its pools: the arm's run and those that it is compared with, as a scale has them.

        Args:
            scale: scale name.
            same_as: the rows that are other rows there, by id.
        """
        names = {**(same_as or {}), **self.at.get(scale, {})}
        pools = [pool(runs) for runs in (self.arm, self.baseline, *self.controls.values())]
        return [
            (runs[0], list(runs[1:]))
            for runs in ([names.get(r, r) for r in place] for place in zip(*pools, strict=False))
        ]


def _metrics(value: Any, named: Mapping[str, Any]) -> Any:
    """A named set, one metric, a list (endings from their names), or ending -> metric."""
    if isinstance(value, str):
        value = named.get(value, {"": value})
    return {f"_{metric.lower()}": metric for metric in value} if isinstance(value, list) else value


def comparisons_of(content: Mapping[str, Any], where: str) -> dict[str, Comparison]:
    """The comparisons of a claims.yaml, families spelt out and `like` resolved.

    Raises:
        ConfigError: unknown key or comparison, wrong type, a name given twice.
    """
    raw = entries(content.get("comparisons", {}), where)

    def known(name: str) -> dict[str, Any]:
        if not isinstance(raw.get(name), dict):
            raise ConfigError(f"{where}: there is no comparison {name!r}{nearest(name, raw)}")
        return dict(raw[name])

    out = {}
    for name in raw:
        plain = {"name": name, **inherited(name, known, where)}
        plain["metrics"] = _metrics(plain.get("metrics", {}), content.get("metrics", {}))
        runs = {role: run for role, run in plain.pop("runs", {}).items() if run is not None}
        plain |= {role: runs.pop(role) for role in ROLES if role in runs} | {"controls": runs}
        item = parse(Comparison, plain, f"{where}: comparison {name!r}")
        out[name] = replace(
            item,
            arm=pooled_ids(item.arm, item.pool),
            baseline=pooled_ids(item.baseline, item.pool),
            controls={kind: pooled_ids(runs, item.pool) for kind, runs in item.controls.items()},
        )
    return out


def made_controls(
    content: Mapping[str, Any], comparisons: Mapping[str, Comparison], where: str
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(run id, row, kind) of every control whose kind says how it is made, where a comparison states it itself.

    Raises:
        ConfigError: a word of the row is not known.
    """
    kinds = content.get("controls", {})
    raw = entries(content.get("comparisons", {}), where)
    for name, item in comparisons.items():
        words = {**item.words, "arm": item.arm, "baseline": item.baseline}
        for kind in raw[name].get("runs", {}):
            run = item.controls.get(kind)
            if kind in kinds and isinstance(run, str):
                yield run, fill(kinds[kind], words, f"{where}: comparison {name!r}, control {kind!r}"), kind


def with_protocols(
    comparisons: Mapping[str, Comparison], rows: Mapping[str, RowConfig], where: str
) -> dict[str, Comparison]:
    """The comparisons with the protocol that follows from their rows; those without a claim are only shown.

    Raises:
        ConfigError: what is said of a protocol is not so, or the compared runs start from different weights.
    """
    out = {}
    for name, item in comparisons.items():
        place = f"{where}: comparison {name!r}"
        known = [run for run in pool(item.arm) if run in rows], [run for run in pool(item.baseline) if run in rows]
        for first, others in item.compared():
            if item.metrics:
                check_starts(first, others, rows, item.differs, place)
        out[name] = replace(item, protocol=protocol_of(*known, rows, item.protocol, place))
    return out


def check_lengths(
    comparisons: Mapping[str, Comparison],
    scale: str,
    train: Callable[[str], TrainConfig],
    where: str,
    same_as: Mapping[str, str] | None = None,
) -> None:
    """Compared runs train the same steps at a scale, also those that stand for others there.

    Args:
        comparisons: those of a paper.
        scale: scale name.
        train: the resolved settings of a run's training there.
        where: their file, for messages.
        same_as: the rows that are other rows there, by id.

    Raises:
        ConfigError: two do not; the message names both.
    """
    for name, item in comparisons.items():
        for first, others in item.compared(scale, same_as) if item.metrics else ():
            check_steps(first, others, train, item.differs, f"{where}: comparison {name!r} at scale {scale!r}")
