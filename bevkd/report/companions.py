"""Whom a run is looked at beside: its teacher, and its partners in the comparison that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bevkd.config import RowConfig, load_papers
from bevkd.config.comparisons import Pool, pool
from bevkd.config.papers import stand_ins_at
from bevkd.report.spec import load_tables


@dataclass(frozen=True)
class Companion:
    """A run in a picture of another one, or that one itself.

    Attributes:
        role: what it is there, such as `teacher`; "" of a run that stands for itself.
    """

    role: str
    run: str
    seed: int

    @property
    def label(self) -> str:
        """Role and name."""
        return f"{self.role} {self.run}".strip()


@dataclass(frozen=True)
class Partners:
    """What a run is compared with.

    Attributes:
        baseline: the run that it should beat, without a teacher wherever it has been compared with such a one.
        arm: the run that it is a control of.
    """

    baseline: str | None = None
    arm: str | None = None


def companions(rows: Mapping[str, RowConfig], row: RowConfig, scale: str, seed: int) -> list[Companion]:
    """Teacher, baseline, arm (of a control) and, last, the run itself; each network once.

    Args:
        rows: all experiment rows.
        row: that of the run.
        scale: at some of them other runs stand for those of a comparison.
        seed: of the run; a companion without that seed comes with its first one.
    """
    partners = partners_of(rows, row, scale)
    found: dict[tuple[str, int], list[str]] = {}
    if row.teacher is not None:
        taught_by = stand_ins_at(scale).get(row.teacher, row.teacher)
        found.setdefault((taught_by, row.teacher_seed_for(seed)), []).append("teacher")
    for role, run in (("baseline", partners.baseline), ("distilled", partners.arm)):
        if run is not None:
            seeds = rows[run].seeds
            found.setdefault((run, seed if seed in seeds else seeds[0]), []).append(role)
    own = "control" if partners.arm is not None else "distilled" if row.teacher is not None else ""
    found.pop((row.id, seed), None)
    beside = [Companion(" and ".join(roles), run, number) for (run, number), roles in found.items()]
    return [*beside, Companion(own, row.id, seed)]


def partners_of(rows: Mapping[str, RowConfig], row: RowConfig, scale: str) -> Partners:
    """What a run is compared with in the comparisons, or else the tables, of its and all other papers."""
    as_arm = list(_as_arm(row.id, scale))
    as_control = list(_as_control(row.id, scale))
    candidates = [*as_arm, *(baseline for _, baseline in as_control)]
    plain = _without_teacher(candidates, rows)
    if plain is None:
        shown = list(_against(rows, row.id, scale))
        plain = _without_teacher(shown, rows)
        candidates += shown
    known = [run for run in candidates if run in rows and run != row.id]
    # A run without a teacher may be an arm, too, of a claim that distillation hurts: nothing is shown beside it then.
    baseline = plain if plain is not None or row.teacher is None else next(iter(known), None)
    arms = sorted((pair for pair in as_control if pair[0] in rows), key=lambda pair: pair[1] != baseline)
    return Partners(baseline, arms[0][0] if arms and not as_arm else None)


def _without_teacher(runs: list[str], rows: Mapping[str, RowConfig]) -> str | None:
    return next((run for run in runs if run in rows and rows[run].teacher is None), None)


def _beside(runs: Pool, at: int, stand_in: Mapping[str, str]) -> str:
    """The run of a pool at a place, as a scale has it."""
    run = pool(runs)[min(at, len(pool(runs)) - 1)]
    return stand_in.get(run, run)


def _places(runs: Pool, run: str, stand_in: Mapping[str, str]) -> list[int]:
    return [at for at, one in enumerate(pool(runs)) if stand_in.get(one, one) == run]


def _as_arm(run: str, scale: str) -> Iterator[str]:
    """Baselines of the comparisons whose arm a run is."""
    for paper in load_papers().values():
        for item in paper.comparisons.values():
            names = stand_ins_at(scale, item.at)
            for at in _places(item.arm, run, names):
                yield _beside(item.baseline, at, names)


def _as_control(run: str, scale: str) -> Iterator[tuple[str, str]]:
    """Arm and baseline of the comparisons that a run is a control of."""
    for paper in load_papers().values():
        for item in paper.comparisons.values():
            names = stand_ins_at(scale, item.at)
            for control in item.controls.values():
                for at in _places(control, run, names):
                    yield _beside(item.arm, at, names), _beside(item.baseline, at, names)


def _against(rows: Mapping[str, RowConfig], run: str, scale: str) -> Iterator[str]:
    """What tables take the differences of a run to."""
    for table in (one for one in load_tables(scale).values() if one.takes_differences):
        for line in table.rows:
            if line.against is not None:
                yield from (_beside(line.against, at, {}) for at in _places(line.run, run, {}))
