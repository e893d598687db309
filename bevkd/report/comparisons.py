"""Tables and claims of a paper, spelt out from the short forms of its tables.yaml and its comparisons.

Everything here is plain data that `bevkd.report.spec` parses. In a table, a row is written out (it has a `label`), or
follows from a block:

- `comparisons`: the rows of one or several comparisons, in the order of `show`: `baseline`, `teacher`, `arm`, and kinds
  of controls; `labels` and `published` (selectors) have the same names and take the words of the comparison, `group`
  those of the first one;
- a role (`baseline`, `teacher`, `distilled`, `control`, ...): label -> run; `group`, `against`, `pool`, `published` and
  `unprinted` hold for the block, and `{label}` is a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bevkd.config import RowConfig, load_rows, rows_at
from bevkd.config.comparisons import Comparison, Pool, pool, pooled_ids
from bevkd.config.families import fill, items
from bevkd.config.papers import stand_ins_at
from bevkd.config.plain import check_keys
from bevkd.config.protocols import Protocol, protocol_of, protocols_of_row
from bevkd.errors import ConfigError, nearest
from bevkd.report.metrics import VERSUS, metric, said

# Roles of rows; `rows` is the one of rows that have none.
ROLES = ("rows", "baseline", "teacher", "distilled", "control", "check", "default", "upper bound")
_ROLE_OF = {"baseline": "baseline", "teacher": "teacher", "arm": "distilled"}
_BLOCK = ("comparisons", "group", "show", "labels", "published")


def stand_ins(content: Any, runs: Mapping[str, str]) -> Any:
    """Plain content with run ids, or metrics of groups, replaced wherever a whole string is one."""
    if isinstance(content, dict):
        return {key: stand_ins(value, runs) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [stand_ins(value, runs) for value in content]
    return runs.get(content, content) if isinstance(content, str) else content


def labelled(content: Any, key: str) -> Any:
    """Label -> run (or runs) as a list of entries; such a list as it is."""
    return [{"label": label, key: run} for label, run in content.items()] if isinstance(content, dict) else content


def columns(content: Any, named: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Columns from the name of a set, a list, or panel -> list; a metric may come with what the paper calls it.

    Raises:
        ConfigError: no such set.
    """
    if isinstance(content, str):
        if content not in named:
            raise ConfigError(f"{where}: there are no columns called {content!r}{nearest(content, named)}")
        content = named[content]
    if isinstance(content, dict):
        return [column | {"panel": panel} for panel, part in content.items() for column in columns(part, named, where)]
    out: list[dict[str, Any]] = []
    for item in content or ():
        if isinstance(item, list):
            out += columns(item, named, where)
        elif isinstance(item, dict) and "key" not in item:
            out += [
                {"key": key, "reference": {"metric": printed} if isinstance(printed, str) else printed}
                for key, printed in item.items()
            ]
        else:
            out.append(item if isinstance(item, dict) else {"key": item})
    return out


def published_of(content: Any, paper: str) -> dict[str, Any]:
    """Selector of a published table and what it was evaluated on, from its name or from name -> data and split."""
    if isinstance(content, dict) and len(content) == 1 and "table" not in content:
        ((table, split),) = content.items()
        return {"published": {"paper": paper, "table": table}, "published_split": split}
    return {"published": {"paper": paper, "table": content} if isinstance(content, str) else content or {}}


def printed_only(spelt: list[dict[str, Any]], printed: list[str] | None) -> list[dict[str, Any]]:
    """The columns; those that the paper does not print are marked as such."""
    if printed is None:
        return spelt
    return [column if column["key"] in printed else column | {"reference": {}} for column in spelt]


def _run_of(item: Comparison, name: str, rows: Mapping[str, RowConfig]) -> Pool | None:
    if name == "baseline" or name == "arm":
        return item.baseline if name == "baseline" else item.arm
    if name != "teacher":
        return item.controls.get(name)
    first = pool(item.arm)[0]
    return item.teacher or (rows[first].teacher if first in rows else None)


def _compared(
    block: dict[str, Any], table: Mapping[str, Any], known: Mapping[str, Comparison], rows: Mapping[str, RowConfig]
) -> Iterator[dict[str, Any]]:
    """Rows of a block of comparisons; a run that several of them have in one role comes once."""
    where, names = table["where"], block["comparisons"]
    check_keys(block, _BLOCK, where)
    seen = set()
    names = [names] if isinstance(names, str) else names
    for which in names:
        if which not in known:
            raise ConfigError(f"{where}: there is no comparison {which!r}{nearest(which, known)}")
    labels, published = table["labels"] | block.get("labels", {}), block.get("published", {})
    group = fill(block.get("group", table["group"]), known[names[0]].words, where)
    for name in block.get("show", table["show"]):
        for which in names:
            item = known[which]
            run = _run_of(item, name, rows)
            if run is None:
                continue
            if name not in labels:
                raise ConfigError(f"{where}: labels: none for {name!r}")
            row = {"label": labels[name], "group": group, "role": _ROLE_OF.get(name, "control"), "run": run}
            row |= {"published": published[name]} if name in published else {}
            row = fill(row, item.words, f"{where}: comparison {which!r}")
            if name not in ("baseline", "teacher"):
                row["against"] = item.baseline
            if (name, row["label"], row["run"]) not in seen:
                seen.add((name, row["label"], row["run"]))
                yield stand_ins(row, stand_ins_at(table["scale"], item.at))


def _by_role(block: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Rows of a block of roles; baselines and teachers are not compared, they have other sensors or schedules."""
    check_keys(block, (*ROLES, "group", "against", "pool", "published", "unprinted"), where)
    endings = tuple(block.get("pool", ()))
    for role, named in block.items():
        if role not in ROLES:
            continue
        for label, run in named.items():
            row: dict[str, Any] = {"label": label, "run": pooled_ids(run, endings)}
            row |= {"role": role} if role != "rows" else {}
            row |= {key: block[key] for key in ("group", "published", "unprinted") if key in block}
            row = fill(row, {"label": label}, where)
            if "against" in block and role not in ("baseline", "teacher") and block["against"] != run:
                row["against"] = pooled_ids(block["against"], endings)
            yield row


def table_rows(
    content: list[Any], table: Mapping[str, Any], known: Mapping[str, Comparison], rows: Mapping[str, RowConfig]
) -> list[dict[str, Any]]:
    """The rows of a table, spelt out.

    Args:
        content: as in tables.yaml.
        table: `labels`, `show`, `group` of the table, `scale`, and `where` it stands.
        known: the paper's comparisons.
        rows: all rows, for the teachers of arms.

    Raises:
        ConfigError: unknown comparison, key or word.
    """
    out: list[dict[str, Any]] = []
    for entry in items(content, table["where"]):
        if not isinstance(entry, dict):
            raise ConfigError(f"{table['where']}: a row is a mapping, not {entry!r}")
        if "comparisons" in entry:
            out += _compared(entry, table, known, rows)
        elif "label" in entry:
            out.append(entry)
        else:
            out += _by_role(entry, table["where"])
    return out


def _cells(item: Comparison, key: str, tables: Mapping[str, Any], where: str) -> list[dict[str, str]] | None:
    """Selectors of the published numbers of arm and baseline, from the rows of the table that repeats them; of two
    groups that are compared those of the one, then of the other; or that of the gain.
    """
    if "gain" in item.published:
        if item.table is not None or len(item.metrics) != 1:
            raise ConfigError(f"{where}: a published gain is of one metric, and in the place of a table")
        return [item.published["gain"]]
    if item.table is None:
        return None
    one, versus, other = key.partition(VERSUS)
    if versus:
        both = (_cells(item, each, tables, where) for each in (one, f"{one.partition('@')[0]}@{other}"))
        return [cell for cells in both for cell in cells or ()]
    if item.table not in tables:
        raise ConfigError(f"{where}: there is no table {item.table!r}{nearest(item.table, tables)}")
    table = tables[item.table]
    column = next((column for column in table.columns if column.key == key), None)
    if column is None:
        raise ConfigError(f"{where}: table {item.table!r} has no column {key!r}")
    printed = [row for row in table.rows if row.published is not None]
    mine = next((row for row in printed if row.run == item.arm), None)
    # A baseline may recur in every group of a table.
    theirs = sorted(
        (row for row in printed if row.run == item.baseline), key=lambda row: mine is None or row.group != mine.group
    )
    out = []
    for name, row in (("arm", mine), ("baseline", theirs[0] if theirs else None)):
        cell = item.published.get(name, None if row is None else row.published)  # type: ignore[call-overload]
        if cell is None:
            raise ConfigError(f"{where}: table {item.table!r} has no published row of {getattr(item, name)!r}")
        fixed = column.selector if "@" in key else {"metric": key}
        out.append({"table": table.published["table"], **cell, **(column.reference or fixed)})
    return out


def claims_of(
    item: Comparison, paper: str, tables: Mapping[str, Any], scale: str | None, where: str
) -> Iterator[dict[str, Any]]:
    """One claim per metric of a comparison.

    Raises:
        ConfigError: a word of the statement, or a published cell, is not known.
    """
    runs = stand_ins_at(scale, item.at)
    for ending, printed in item.metrics.items():
        key = runs.get(printed, printed)
        cells = _cells(item, printed, tables, where)
        source = item.source or (cells and f"Table {cells[0]['table']}")
        if not source:
            raise ConfigError(f"{where}: a claim needs a source, or a table that repeats a published one")
        like = _run_of(item, "teacher", load_rows()) if metric(key).pairs == "likeness" else None
        yield {
            "id": f"{item.name}{ending}",
            "paper": paper,
            "source": source,
            "statement": fill(item.statement, {**item.words, "metric": said(key)}, where),
            "metric": key,
            "better": stand_ins(item.arm, runs),
            "than": stand_ins(item.baseline, runs),
            "controls": stand_ins(list(item.controls.values()), runs),
            "control": item.control,
            "kind": item.test,
            "margin": item.margin,
            "over": item.over,
            "target": item.target,
            "split": runs.get("split", item.split),
            "like": like and stand_ins(like, runs),
            "published": cells,
            "protocol": item.protocol if scale is None else _protocol_at(item, scale, runs, where),
        }


def _protocol_at(item: Comparison, scale: str, runs: Mapping[str, str], where: str) -> Protocol | None:
    """The protocol of a comparison at a scale: further training may be training from scratch there."""
    rows = rows_at(scale)
    arm, baseline = ([run for run in stand_ins(pool(side), runs) if run in rows] for side in (item.arm, item.baseline))
    found = {one for run in (*arm, *baseline) for one in protocols_of_row(rows[run])}
    return item.protocol if item.protocol in found else protocol_of(arm, baseline, rows, None, where)
