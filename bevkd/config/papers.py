"""The papers: `config/papers/<paper>/{recipe,runs,tables,claims}.yaml`; here their rows, recipes and comparisons.

A row is merged from the paper's `defaults`, what it is `like` (templates of the same paper, rows of any), and itself;
`at` holds what it changes at one scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from bevkd.config.chain import check_chains
from bevkd.config.comparisons import KEYS, Comparison, comparisons_of, made_controls, with_protocols
from bevkd.config.families import entries, fill, inherited, likes, places
from bevkd.config.models import lineage
from bevkd.config.places import ConfigTree, config_tree
from bevkd.config.plain import Layer, check_keys, merge, parse, read_mapping
from bevkd.config.recipe import Recipe
from bevkd.config.schema import RowConfig
from bevkd.errors import ConfigError, nearest
from bevkd.names import check_name


@dataclass(frozen=True)
class Paper:
    """One folder of config/papers.

    Attributes:
        name: the folder's name.
        tree: where its files are.
        recipe: how it trains.
        rows: its rows by run id, in file order.
        at: run id -> scale -> settings that win over the row's own.
        comparisons: its comparisons by name.
        pieces: run id -> what its row is merged from, keys of a row each, later ones on top.
    """

    name: str
    tree: ConfigTree
    recipe: Recipe
    rows: dict[str, RowConfig]
    at: dict[str, dict[str, dict[str, Any]]]
    comparisons: dict[str, Comparison]
    pieces: dict[str, tuple[Layer, ...]]

    def file(self, stem: str) -> Path:
        """One of its files, such as `recipe`, which need not exist."""
        return self.tree.file("papers", self.name, f"{stem}.yaml")


class _Reader:
    """Reads all papers; rows may be like those of other papers."""

    def __init__(self, tree: ConfigTree) -> None:
        self.tree = tree
        self.recipes: dict[str, Recipe] = {}
        self.contents: dict[str, dict[str, Any]] = {}
        self.raw: dict[str, dict[str, Any]] = {}  # by paper, then by run
        self.comparisons: dict[str, dict[str, Comparison]] = {}
        self.owner: dict[str, str] = {}
        self.places: dict[str, tuple[Path, tuple[str, ...]]] = {}  # where rows are written
        self.done: dict[str, dict[str, Any]] = {}
        self.under_way: list[str] = []
        names = [check_name(name, f"{tree.folders[0] / 'papers'}: folder") for name in tree.papers()]
        for name in names:
            recipe = self._file(name, "recipe")
            self.recipes[name] = parse(Recipe, read_mapping(recipe, ("paper", "like", "place", "parts")), str(recipe))
        # What papers print comes before studies of our own.
        self.names = sorted(names, key=self._place)
        for name in self.names:
            self._collect(name)

    def _place(self, name: str) -> tuple[bool, bool, int]:
        recipe = self.recipes[name]
        return recipe.paper == Recipe().paper, recipe.place == 0, recipe.place

    def _file(self, paper: str, stem: str) -> Path:
        return self.tree.file("papers", paper, f"{stem}.yaml")

    def _collect(self, name: str) -> None:
        file = self._file(name, "runs")
        content = self.contents[name] = _without_nulls(read_mapping(file, ("defaults", "templates", "runs")), file)
        self.raw[name] = entries(runs := content.get("runs", {}), str(file))
        self.places |= {run: (file, ("runs", *at)) for run, at in places(runs, str(file)).items()}
        claims = read_mapping(path := self._file(name, "claims"), KEYS)
        self.comparisons[name] = comparisons_of(claims, str(path))
        stated: dict[str, dict[str, Any]] = {}
        for run, row, kind in made_controls(claims, self.comparisons[name], str(path)):
            known = any(run in raw for raw in self.raw.values())
            if not known and stated.setdefault(run, row) != row:
                raise ConfigError(f"{path}: control {run!r} is made in two ways; write it out in runs.yaml")
            self.places.setdefault(run, (path, ("controls", kind)))
        for run in self.raw[name] | stated:
            if run in self.owner:
                raise ConfigError(
                    f"{file}: run {run!r} is defined twice, also in {self._file(self.owner[run], 'runs')}"
                )
            if run in content.get("templates", {}):
                raise ConfigError(f"{file}: {run!r} is a run and a template")
            self.owner[run] = name
        self.raw[name] |= stated

    def resolve(self, run: str) -> dict[str, Any]:
        """A row as plain data, with the defaults of its paper, and with `at`."""
        if run not in self.done:
            name, where = self.owner[run], f"{self._file(self.owner[run], 'runs')}: run {run!r}"
            rows, templates = self.raw[name], self.contents[name].get("templates", {})

            def known(entry: str) -> dict[str, Any]:
                if entry in templates:
                    return dict(templates[entry])
                if entry in rows:
                    return check_keys(rows[entry], _KEYS, f"{self._file(name, 'runs')}: run {entry!r}")
                if entry in self.under_way:
                    raise ConfigError(f"{where}: {' is like '.join((*self.under_way, entry))}")
                if entry in self.owner:
                    return self.resolve(entry)
                raise ConfigError(f"{where}: nothing is called {entry!r}{nearest(entry, [*templates, *self.owner])}")

            self.under_way.append(run)
            self.done[run] = merge(
                self.contents[name].get("defaults", {}), fill(inherited(run, known, where), {}, where)
            )
            self.under_way.pop()
        return self.done[run]

    def pieces(self, run: str) -> list[Layer]:
        """What a row is merged from, with where it is written."""
        name = self.owner[run]
        out: list[Layer] = []
        file, content = self._file(name, "runs"), self.contents[name]
        templates = content.get("templates", {})

        def walk(entry: str, through: str) -> None:
            if entry not in templates and entry not in self.raw[name]:
                out.extend(replace(piece, label=f"row {run}, like {piece.label}") for piece in self.pieces(entry))
                return
            plain = templates[entry] if entry in templates else self.raw[name][entry]
            path, at = (file, ("templates", entry)) if entry in templates else self.places[entry]
            kind = "template" if entry in templates else "row"
            for other in likes(plain):
                walk(other, f"row {run}, like ")
            out.append(Layer(f"{through}{kind} {entry}", {k: v for k, v in plain.items() if k != "like"}, path, at))

        if defaults := content.get("defaults"):
            out.append(Layer(f"row {run}, defaults of {name}", defaults, file, ("defaults",)))
        walk(run, "")
        return out

    def paper(self, name: str, scales: list[str]) -> Paper:
        """One paper."""
        rows, at, pieces = {}, {}, {}
        for run in self.raw[name]:
            plain = dict(self.resolve(run))
            where = f"{self._file(name, 'runs')}: run {run!r}"
            at[run] = check_keys(plain.pop("at", {}), scales, f"{where}: at")
            plain["same_as"] = self.raw[name][run].get("same_as", {})  # what is like a row is not what it is elsewhere
            rows[run] = parse(RowConfig, {"id": run, **plain}, where)
            check_keys(rows[run].same_as, scales, f"{where}: same_as")
            for other in rows[run].same_as.values():
                if other not in self.owner:
                    raise ConfigError(f"{where}: same_as: unknown run {other!r}{nearest(other, self.owner)}")
            said = [("init: scales", scale) for init in rows[run].inits for scale in init.scales]
            if (method := rows[run].method) is not None:
                said += [("method: factor_scales", scale) for scale in method.factor_scales]
            for key, scale in said:
                if scale not in scales:
                    raise ConfigError(f"{where}: {key}: unknown name {scale!r}{nearest(scale, scales)}")
            pieces[run] = tuple(self.pieces(run))
        return Paper(name, self.tree, self.recipes[name], rows, at, self.comparisons[name], pieces)


_KEYS = [*(one.name for one in fields(RowConfig) if one.name != "id"), "like", "at"]


@cache
def _papers(tree: ConfigTree) -> dict[str, Paper]:
    reader = _Reader(tree)
    scales = [*tree.files("scales")]
    papers = _paired({name: reader.paper(name, scales) for name in reader.names})
    rows = {run: row for paper in papers.values() for run, row in paper.rows.items()}
    recipes = {name: recipes_of(paper, papers) for name, paper in papers.items()}
    for paper in papers.values():
        check_chains(paper.rows, rows, str(paper.file("runs")))
        users = [row for user in papers.values() if paper in recipes[user.name] for row in user.rows.values()]
        _check_recipe(paper, users, scales, tree)
    return {
        name: replace(paper, comparisons=with_protocols(paper.comparisons, rows, str(paper.file("claims"))))
        for name, paper in papers.items()
    }


def _without_nulls(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """What `runs.yaml` says, where nothing behind a key is nothing, and a template is a mapping.

    Raises:
        ConfigError: something else than a mapping.
    """
    out = {key: {} if held is None else held for key, held in content.items()}
    templates = out.get("templates", {})
    parts = {key: held for key, held in out.items() if key != "runs"}
    parts |= {f"template {key!r}": held for key, held in templates.items()} if isinstance(templates, dict) else {}
    for key, held in parts.items():
        if not isinstance(held, dict):
            raise ConfigError(f"{file}: {key}: wants a mapping")
    return out


def _paired(papers: dict[str, Paper]) -> dict[str, Paper]:
    """The same with `teacher_seed: paired` spelt out: all seeds of the teacher's row, however few are trained."""
    seeds = {run: row.seeds for paper in papers.values() for run, row in paper.rows.items()}

    def spelt(row: RowConfig) -> RowConfig:
        known = row.teacher_seed == "paired" and row.teacher in seeds
        return replace(row, teacher_seed=seeds[str(row.teacher)]) if known else row

    return {
        name: replace(paper, rows={run: spelt(row) for run, row in paper.rows.items()})
        for name, paper in papers.items()
    }


def recipes_of(paper: Paper, papers: Mapping[str, Paper]) -> list[Paper]:
    """A paper whose recipe is nobody's, the one that is like it, and so on, up to the paper itself.

    Raises:
        ConfigError: an unknown paper, or a recipe that is like itself.
    """
    out = [paper]
    while (like := out[0].recipe.like) is not None:
        where = f"{out[0].file('recipe')}: like"
        if like not in papers:
            raise ConfigError(f"{where}: unknown paper {like!r}{nearest(like, papers)}")
        out.insert(0, papers[like])
        if out[0] in out[1:]:
            raise ConfigError(f"{where}: {' is like '.join(one.name for one in reversed(out))}")
    return out


def _check_recipe(paper: Paper, users: list[RowConfig], scales: list[str], tree: ConfigTree) -> None:
    """Every name of a recipe is known, and every part is for one of the rows that use it."""
    where = paper.file("recipe")
    known = {kind: [*tree.files(kind)] for kind in ("models", "datasets")}
    for number, part in enumerate(paper.recipe.parts):
        for kind, names in (("scales", part.scales), ("models", part.models), ("datasets", part.datasets)):
            for name in names:
                among = known.get(kind, scales)
                if name not in among:
                    raise ConfigError(f"{where}: parts.{number}.{kind}: unknown name {name!r}{nearest(name, among)}")
        scale = next(iter(part.scales), "")
        if not any(part.applies(scale, row.dataset, lineage(tree, row.model)) for row in users):
            raise ConfigError(f"{where}: parts.{number} is for no run")


def load_papers() -> dict[str, Paper]:
    """All papers by the names of their folders, those that print tables first.

    Raises:
        ConfigError: unknown keys or names, a run defined twice, an unknown teacher.
    """
    return _papers(config_tree())


def load_rows(scale: str | None = None) -> dict[str, RowConfig]:
    """All rows by run id, paper by paper, in file order.

    Args:
        scale: with the factors of their losses as they are there; all else is as it is written (`rows_at`).

    Raises:
        ConfigError: unknown keys or names, a run defined twice, an unknown teacher.
    """
    rows = {run: row for paper in load_papers().values() for run, row in paper.rows.items()}
    if scale is None:
        return rows
    return {run: replace(row, method=row.method and row.method.at(scale)) for run, row in rows.items()}


def stand_ins_at(scale: str | None, said: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, str]:
    """The runs that are other runs at a scale, by id: by their rows, and by what a comparison or figure says on top.

    Args:
        scale: scale name; None or "": none.
        said: scale -> run -> the run that stands for it there (`at`).
    """
    return {**_stand_ins(config_tree(), scale), **((said or {}).get(scale or "", {}))}


@cache
def _stand_ins(_tree: ConfigTree, scale: str | None) -> dict[str, str]:
    return {run: row.same_as[scale] for run, row in load_rows().items() if scale in row.same_as}


def paper_of(run: str) -> Paper | None:
    """The paper that a run belongs to."""
    return next((paper for paper in load_papers().values() if run in paper.rows), None)
