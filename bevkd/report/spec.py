"""Tables, figures and claims as typed rows, from config/papers/*/{tables,figures,claims}.yaml.

What YAML says in short is spelt out by `bevkd.report.comparisons`. Nothing here opens a run: the workflow loads these
to know which (run, seed) pairs each output needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bevkd.config import (
    Paper,
    RowConfig,
    config_tree,
    load_papers,
    load_rows,
    load_scale,
    merge,
    parse,
    tiers,
)
from bevkd.config.bounds import Name, NameOrNone, Some, Weight, Words
from bevkd.config.comparisons import Pool, Selector, pool
from bevkd.config.families import entries
from bevkd.config.papers import stand_ins_at
from bevkd.config.places import ConfigTree
from bevkd.config.plain import check_keys, read_mapping
from bevkd.config.protocols import Protocol
from bevkd.config.tiers import Tier
from bevkd.errors import ConfigError, nearest
from bevkd.report import preview
from bevkd.report.comparisons import claims_of, columns, labelled, printed_only, published_of, stand_ins, table_rows
from bevkd.report.figure_kinds import FIGURES, PUBLISHED, FigureConfig
from bevkd.report.metrics import METRICS, metric, of_pairs
from bevkd.report.needs import UNSEEDED, Artefact, Need, Split, first_of, needs_of

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class ColumnSpec:
    """One metric of a table; `reference` selects the published number within a row's selector."""

    key: Words
    panel: Words = ""  # wide tables are printed one panel after the other; the CSV stays one table
    reference: Selector | None = None

    def __post_init__(self) -> None:
        metric(self.key)

    def printed_for(self, row: RowSpec | ContextSpec) -> bool:
        """Whether the paper prints a number here."""
        return row.published is not None and self.reference != {} and self.key not in row.unprinted

    @property
    def selector(self) -> Selector:
        """Columns of the reference file that this metric fixes."""
        if self.reference is not None:
            return self.reference
        name, _, group = self.key.partition("@")
        if name.startswith("AP_"):
            return {"metric": "AP", "class": name.removeprefix("AP_")}
        return {"metric": name, "class": group or "all"}


@dataclass(frozen=True, config=_STRICT)
class RowSpec:
    """One row of a table: a run (or a pool of runs) and the published row that it repeats."""

    label: Words
    run: Pool
    group: Words = ""
    role: Words = ""  # baseline, teacher, distilled, control, check
    published: Selector | None = None  # added to the table's own selector; none: the papers print no such row
    unprinted: tuple[Words, ...] = ()  # columns that the paper leaves empty in this row
    against: Pool | None = None  # run that the paired difference of `TableConfig.delta` is taken to


@dataclass(frozen=True, config=_STRICT)
class ContextSpec:
    """A published row that no run of ours repeats: it stands below the table, with what the paper prints."""

    label: Words
    published: Selector
    group: Words = ""
    unprinted: tuple[Words, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class TableConfig:
    """A table.

    With `chooses: factor` the rows of a group that have a method are trials of the factor of its losses, of which the
    rule of `bevkd.report.factors` marks one by the metric of `delta`; numbers are of the seeds that all of the group
    have.
    """

    name: Name
    title: Words
    caption: Words
    columns: tuple[ColumnSpec, ...]
    rows: tuple[RowSpec, ...]
    context: tuple[ContextSpec, ...] = ()  # in tables.yaml also the name of a published row alone
    part: NameOrNone = ""  # the paper (folder of config/papers) that it belongs to
    target: Tier = "all"
    split: Split = "report"
    published: Selector = Field(default_factory=dict)
    published_split: Words = ""  # what the paper evaluated on, for the header
    delta: Words | None = None
    chooses: Literal["factor"] | None = None
    power: tuple[Some, ...] = ()  # numbers of seeds: half-widths with so many, from the spread of differences
    # With it, run -> the half-width that its seeds are to reach (printed units), or the claim whose published relative
    # gain that is a third of.
    aims: dict[Words, Weight | Words] | None = None
    notes: tuple[Words, ...] = ()

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """The kinds of files that its columns come from."""
        return tuple(dict.fromkeys(metric(column.key).file for column in self.columns))

    @property
    def planned(self) -> dict[tuple[str, str, str], RowSpec]:
        """The rows by (group, role, label), by which a filled row is known."""
        return {(row.group, row.role, row.label): row for row in self.rows}

    @property
    def takes_differences(self) -> bool:
        """Whether `against` is what a row is measured by, not one that it may be alike (`attention_like_near`)."""
        return all(metric(column.key).pairs != "likeness" for column in self.columns)

    def __post_init__(self) -> None:
        keys = [column.key for column in self.columns]
        if not keys or len(set(keys)) != len(keys):
            raise ValueError("columns must be distinct metrics")
        shown: list[RowSpec | ContextSpec] = [*self.rows, *self.context]
        for row in shown:
            if set(row.unprinted) - set(keys):
                raise ValueError(f"row {row.label!r}: unprinted names a column that is not there")
        if of_pairs(keys) and any(row.against is None for row in self.rows):
            raise ValueError("metrics of pairs of runs want rows with `against`")
        if self.delta is not None and self.delta not in keys:
            raise ValueError(f"delta {self.delta!r} is not a column")
        if self.delta is not None and metric(self.delta).pairs == "likeness":
            raise ValueError(f"delta {self.delta!r} says how alike two runs are, not by how much they differ")
        if self.chooses is not None and self.delta is None:
            raise ValueError("what chooses needs the metric that it chooses by, as delta")
        if self.power and (self.delta is None or min(self.power) < 2):
            raise ValueError("power wants a delta, and two seeds at least")
        compared = [" ".join(pool(row.run)) for row in self.rows if row.against]
        if set(self.aims or ()) - set(compared if self.power else ()):
            raise ValueError("aims belong to rows with a difference, of a table with `power`")
        if not self.rows or len(self.planned) != len(self.rows):
            raise ValueError("rows must differ in (group, role, label)")
        if len({(row.group, row.label) for row in self.context}) != len(self.context):
            raise ValueError("rows of the context must differ in (group, label)")

    def shown_seeds(self, group: str, run: str, rows: Mapping[str, RowConfig]) -> tuple[int, ...]:
        """Seeds of a run that a row of the group shows: all of them, or, where the table chooses, those that all runs
        of the group have.

        Raises:
            ConfigError: they share none.
        """
        if self.chooses is None:
            return rows[run].seeds
        beside = [row for row in self.rows if row.group == group]
        runs = [one for row in beside for one in (*pool(row.run), *pool(row.against or ()))]
        found = tuple(seed for seed in rows[run].seeds if all(seed in rows[one].seeds for one in runs))
        if not found:
            raise ConfigError(f"table {self.name!r}, group {group!r}: its runs share no seed")
        return found

    def needs(self, rows: Mapping[str, RowConfig]) -> list[Need]:
        """(run, seed) pairs that the table prints numbers of.

        The first seed's in the preview, and where no column comes from seeds.

        Raises:
            ConfigError: a run is unknown, or of a later tier than the table.
        """
        runs = [run for row in self.rows for run in (*pool(row.run), *pool(row.against or ()))]
        needs = needs_of(runs, rows, f"table {self.name!r}")
        tiers.check(f"table {self.name!r}", self.target, runs, rows)
        return first_of(needs, rows) if self.target == "preview" or set(self.artefacts) <= UNSEEDED else needs


@dataclass(frozen=True, config=_STRICT)
class ClaimConfig:
    """`better` is better than `than` on `metric` (`greater`), or not different by `margin` (`no_difference`), or its
    metric is no more or no less than `margin` (`at_most`, `at_least`).

    Pools are paired entry by entry and seed by seed. Controls are runs that get no teacher of another modality: a
    gain over the baseline only counts as the method's when it also holds against the strongest of them.
    """

    id: Name
    paper: Name
    statement: Words
    metric: Words
    better: Pool
    than: Pool
    kind: Literal["greater", "no_difference", "at_most", "at_least"] = "greater"
    margin: Weight | None = None  # printed units; not of `greater`
    controls: tuple[Pool, ...] = ()
    control: Literal["due", "not_due"] = "due"  # not due between two distilled students, nor for costs
    # Repetitions: pairs of seeds, or means per labelled subset (and its teacher), or repeats of a benchmark.
    over: Literal["seeds", "subsets", "repeats"] = "seeds"
    target: Tier = "all"
    split: Split = "report"
    like: Pool | None = None  # whom both are compared with, of a metric that says how alike two runs are: the teacher
    source: Words = ""  # where the paper says so
    # Cells of `better` and `than`, and where two groups are compared those of the other group; or of the gain itself.
    published: tuple[Selector, ...] | None = None
    protocol: Protocol = "published"
    part: NameOrNone = ""  # the paper (folder of config/papers) that it belongs to

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """What the claim reads of a run."""
        return (metric(self.metric).file,)

    def __post_init__(self) -> None:
        if self.over == "subsets" and of_pairs([self.metric]):
            raise ValueError("what differs between two runs is counted over seeds")
        if (self.like is not None) != (metric(self.metric).pairs == "likeness"):
            raise ValueError("metrics of how alike two runs are, and only these, want whom both are compared with")
        if metric(self.metric).higher_is_better is None:
            raise ValueError(f"of {self.metric} neither more nor less is better")
        if self.split == "tune":
            raise ValueError("nothing is claimed of the split that settings are chosen on")
        if (self.kind == "greater") != (self.margin is None):
            raise ValueError("margin belongs to no_difference, at_most and at_least, and only there")
        if len(self.published or ("", "")) not in (1, 2, 4):
            raise ValueError("published is a gain, or cells of better and than, or those of two groups")
        if (self.over == "repeats") != (self.artefacts == ("cost",)):
            raise ValueError("costs, and nothing else, are compared over repeats")
        if self.margin is not None and self.margin <= 0:
            raise ValueError("margin must be positive")
        if self.kind != "greater" and self.controls:
            raise ValueError(f"{self.kind} takes no controls")
        if len({len(pool(p)) for p in (self.better, self.than, *self.controls, self.like or self.than)}) != 1:
            raise ValueError("better, than, like and controls must pool the same number of runs")

    @property
    def name(self) -> str:
        """Same as `id`."""
        return self.id

    @property
    def comparison(self) -> tuple[Any, ...]:
        """What is compared, and how: all but words, controls and tier."""
        runs = (pool(self.better), pool(self.than), pool(self.like or ()))
        return (self.part, *runs, self.metric, self.kind, self.margin, self.split, self.over)

    def waited_for(self, rows: Mapping[str, RowConfig]) -> list[Pool]:
        """The controls that are run before the claim is answered; without the others it cannot be reproduced."""
        return [p for p in self.controls if all(tiers.may_need(self.target, rows[run]) for run in pool(p))]

    def needs(self, rows: Mapping[str, RowConfig]) -> list[Need]:
        """(run, seed) pairs whose numbers the claim compares, without controls of a later tier.

        Raises:
            ConfigError: a run is unknown, of a later tier than the claim, or two compared runs share no seed.
        """
        where = f"claim {self.id!r}"
        pools = [pool(p) for p in (self.better, self.than, *self.controls)]
        needs_of([run for runs in pools for run in runs], rows, where)
        read = [*pools[:2], pool(self.like or ())]
        tiers.check(where, self.target, [run for runs in read for run in runs], rows)
        out = needs_of([run for runs in (*read, *map(pool, self.waited_for(rows))) for run in runs], rows, where)
        for other in pools[1:]:
            for run, rival in zip(pools[0], other, strict=True):
                if not set(rows[run].seeds) & set(rows[rival].seeds):
                    raise ConfigError(f"{where}: {run!r} and {rival!r} share no seed")
        return out


Item: TypeAlias = TableConfig | FigureConfig | ClaimConfig


def reads(item: Item, rows: Mapping[str, RowConfig]) -> dict[Artefact, list[Need]]:
    """Per kind of file the (run, seed) pairs that a table, figure or claim reads."""
    needs = item.needs(rows)
    return {kind: first_of(needs, rows) if kind in UNSEEDED else needs for kind in item.artefacts}


_TABLES = ("defaults", "columns", "tables")
_SHORT = ("labels", "show", "group", "printed", "at")


def _kept_reference(column: dict[str, Any]) -> dict[str, Any]:
    """A column that is of another group at a scale: beside it stands what is published of the group it stands for."""
    fixed = column.get("reference")
    return column | {"reference": ColumnSpec(column["key"]).selector if fixed is None else fixed}


def _table(name: str, content: Any, paper: Paper, named: Mapping[str, Any], scale: str | None, where: str) -> Any:
    """A table as plain data, spelt out."""
    known = [field.name for field in fields(TableConfig) if field.name not in ("name", "part")]
    plain = dict(check_keys(content, [*known, *_SHORT], where))
    there = dict(plain.pop("at", {}).get(scale, {}))
    plain |= {key: there.pop(key) for key in known if key in there}  # the rest stand for others: runs, groups
    short: dict[str, Any] = {"labels": {}, "show": (), "group": "", "where": where, "scale": scale or ""}
    short |= {key: plain.pop(key) for key in ("labels", "show", "group") if key in plain}
    if isinstance(plain.get("rows"), list):
        plain["rows"] = table_rows(plain["rows"], short, paper.comparisons, load_rows())
    plain["context"] = [
        row if isinstance(row, dict) else {"label": row, "published": {"row_label": row}}
        for row in plain.get("context", ())
    ]
    plain["columns"] = printed_only(columns(plain.get("columns"), named, where), plain.pop("printed", None))
    plain["columns"] = [_kept_reference(column) if column["key"] in there else column for column in plain["columns"]]
    plain |= published_of(plain.get("published"), paper.recipe.paper)
    plain.setdefault("title", f"{paper.recipe.paper}, Table {plain['published'].get('table', '')}")
    if plain.get("target") == "preview":
        plain["notes"] = [*plain.get("notes", ()), preview.NOTE]
    if scale is not None:
        plain["notes"] = [*plain.get("notes", ()), *load_scale(scale).notes]
    return stand_ins(plain, stand_ins_at(scale) | there) | {"name": name, "part": paper.name}


Written: TypeAlias = tuple[Path, int, int]  # a file, when it was written, and its size


def _written(*stems: str) -> tuple[Written, ...]:
    """The files of these names: what was made of them counts as long as they are the same."""
    tree = config_tree()
    files = [*(paper.file(stem) for stem in stems for paper in load_papers().values())]
    files += [tree.file("papers", f"{stem}.yaml") for stem in stems]
    found = [(path, path.stat()) for path in files if path.exists()]
    return tuple((path, state.st_mtime_ns, state.st_size) for path, state in found)


def load_tables(scale: str | None = None) -> dict[str, TableConfig]:
    """All tables by name, paper by paper; with a scale, of the runs that stand for others there.

    A paper that has no table of target `preview` gets one of its first headline comparison.

    Raises:
        ConfigError: unknown key, wrong type, unknown metric, a name used twice.
    """
    return dict(_tables(config_tree(), scale, _written("columns", "tables")))


@cache
def _tables(_tree: ConfigTree, scale: str | None, _files: tuple[Written, ...]) -> dict[str, TableConfig]:
    out: dict[str, TableConfig] = {}
    shared = read_mapping(config_tree().file("papers", "columns.yaml"))
    for paper in load_papers().values():
        path = paper.file("tables")
        content = read_mapping(path, _TABLES)
        for name, table in entries(content.get("tables", {}), str(path)).items():
            where = f"{path}: table {name!r}"
            if name in out:
                raise ConfigError(f"{where}: also a table of {out[name].part!r}")
            whole = merge(content.get("defaults", {}), table)
            plain = _table(name, whole, paper, shared | content.get("columns", {}), scale, where)
            out[name] = parse(TableConfig, plain, where)
        derived = preview.table(paper, load_rows(), scale)
        if derived is not None and not any(t.target == "preview" for t in out.values() if t.part == paper.name):
            name, where = preview.name_of(paper), f"{path}: table {preview.name_of(paper)!r}, of the first headline"
            out[name] = parse(TableConfig, _table(name, derived, paper, shared, scale, where), where)
    return out


def _figure(name: str, content: Any, paper: Paper, scale: str | None, where: str) -> FigureConfig:
    """A figure; in short, panels are title -> curves, and curves, columns and series are label -> run or runs."""
    kind = str(content.get("kind")) if isinstance(content, dict) else ""
    if kind not in FIGURES:
        raise ConfigError(f"{where}: kind: no figure is a {kind!r}{nearest(kind, FIGURES)}")
    plain = dict(content)
    if isinstance(plain.get("panels"), dict):
        plain["panels"] = [{"title": title, "curves": labelled(part, "run")} for title, part in plain["panels"].items()]
    for key, of in (("columns", "run"), ("curves", "run"), ("series", "runs"), ("maps", "features")):
        plain |= {key: labelled(plain[key], of)} if key in plain else {}
    for key in ("teacher", "student", "distilled", "detector"):  # label -> run, of one
        if isinstance(plain.get(key), dict) and len(plain[key]) == 1:
            plain[key] = labelled(plain[key], "run")[0]
    if "scale" in (known.name for known in fields(FIGURES[kind])):  # drawn of one scale, whose stand-ins count
        scale = plain.get("scale", PUBLISHED)
    said = dict(plain.pop("at", {}).get(scale or "", {}))
    plain |= {key: said.pop(key) for key in [*said] if key in plain}  # the figure's own keys; the others are runs
    runs = stand_ins_at(scale, {scale or "": said})
    item: FigureConfig = parse(FIGURES[kind], stand_ins(plain, runs) | {"name": name, "part": paper.name}, where)
    for key in getattr(item, "metrics", (getattr(item, "metric", "mAP"),)):
        metric(key)
    return item


def load_figures(scale: str | None = None) -> dict[str, FigureConfig]:
    """All figures by name, paper by paper; with a scale, of the runs that stand for others there.

    Every table of the preview gets a picture of what its runs detect, of the same name.

    Raises:
        ConfigError: unknown key, wrong type, unknown metric, a name used twice.
    """
    return dict(_figures(config_tree(), scale, _written("columns", "tables", "figures")))


@cache
def _figures(_tree: ConfigTree, scale: str | None, _files: tuple[Written, ...]) -> dict[str, FigureConfig]:
    out: dict[str, FigureConfig] = {}
    tables = load_tables(scale)
    for paper in load_papers().values():
        path = paper.file("figures")
        for name, figure in entries(read_mapping(path, ("figures",)).get("figures", {}), str(path)).items():
            where = f"{path}: figure {name!r}"
            if name in out:
                raise ConfigError(f"{where}: also a figure of {out[name].part!r}")
            out[name] = _figure(name, figure, paper, scale, where)
        for table in tiers.of_target(tables, "preview").values():
            if table.part == paper.name:
                where = f"{path}: figure {table.name!r}, of the preview"
                drawn = preview.figure(paper, table.rows)
                out[table.name] = _figure(table.name, drawn, paper, scale, where)
    return out


def load_claims(scale: str | None = None) -> dict[str, ClaimConfig]:
    """All claims by id, paper by paper, in file order; with a scale, of the runs that stand for others there.

    Where runs stand for others, claims about different arms may come to say the same: the first of them stays, so that
    no comparison is counted twice.

    Raises:
        ConfigError: unknown key, wrong type, unknown metric, an id used twice, a published cell that no table has.
    """
    return dict(_claims(config_tree(), scale, _written("columns", "tables")))


@cache
def _claims(_tree: ConfigTree, scale: str | None, _files: tuple[Written, ...]) -> dict[str, ClaimConfig]:
    tables, out = load_tables(), dict[str, ClaimConfig]()
    for paper in load_papers().values():
        path = paper.file("claims")
        for item in paper.comparisons.values():
            where = f"{path}: comparison {item.name!r}"
            for plain in claims_of(item, paper.recipe.paper, tables, scale, where):
                claim = parse(ClaimConfig, plain | {"part": paper.name}, f"{path}: claim {plain['id']!r}")
                if claim.id in out:
                    raise ConfigError(f"{path}: claim {claim.id!r} is given twice")
                out[claim.id] = claim
    return out if scale is None else _said_once(out, load_claims())


def _said_once(claims: Mapping[str, ClaimConfig], written: Mapping[str, ClaimConfig]) -> dict[str, ClaimConfig]:
    """The claims of a scale, of those that are one comparison only there the first; `written` are those of no scale."""
    first, out = dict[tuple[Any, ...], ClaimConfig](), dict[str, ClaimConfig]()
    for name, claim in claims.items():
        other = first.setdefault(claim.comparison, claim)
        same = other.target in (claim.target, "all") and written[name].comparison != written[other.id].comparison
        if other is claim or not same:
            out[name] = claim
    return out


__all__ = [
    "METRICS",
    "ClaimConfig",
    "ColumnSpec",
    "ContextSpec",
    "FigureConfig",
    "Item",
    "Pool",
    "RowSpec",
    "TableConfig",
    "load_claims",
    "load_figures",
    "load_tables",
    "pool",
    "reads",
]
