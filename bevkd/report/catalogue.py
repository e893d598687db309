"""What there is by name, and what of it has been made: the content of `bevkd list`. Loads no heavy library."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bevkd.config import config_tree, load_model, load_papers, load_rows
from bevkd.config.models import lineage
from bevkd.errors import ConfigError, nearest
from bevkd.report.parts import ledger_file, parts_of
from bevkd.report.runs import results_dir
from bevkd.report.spec import load_claims, load_figures, load_tables, pool

Entry = dict[str, Any]


def trained_seeds(runs: Path) -> dict[str, dict[str, dict[int, bool]]]:
    """Run -> scale -> seed -> whether its training is complete; of everything below a folder of runs."""
    out: dict[str, dict[str, dict[int, bool]]] = {}
    found = [path for name in ("model.pt", "checkpoint.pt") for path in runs.glob(f"*/*/seed*/{name}")]
    for path in sorted(found):
        scale, run, seed = path.parts[-4:-1]
        if seed.removeprefix("seed").isdigit():
            seeds = out.setdefault(run, {}).setdefault(scale, {})
            number = int(seed.removeprefix("seed"))
            seeds[number] = seeds.get(number, False) or path.name == "model.pt"
    return out


def _runs(scale: str, runs: Path) -> list[Entry]:
    trained = trained_seeds(runs)
    paper_of = {run: paper.name for paper in load_papers().values() for run in paper.rows}
    out = []
    for run, row in load_rows(scale).items():
        out.append(
            {
                "run": run,
                "trained": trained.pop(run, {}),
                "seeds": list(row.seeds),
                "dataset": row.dataset,
                "model": row.model,
                "teacher": row.teacher or "",
                "method": row.method.kind if row.method else "",
                "factor": row.method.factor if row.method else None,
                "paper": paper_of[run],
                "target": row.target,
                "doc": row.doc,
            }
        )
    lost = [
        {"run": run, "trained": seeds, "doc": "trained, but not in config/papers"} for run, seeds in trained.items()
    ]
    return [*out, *({**dict.fromkeys(out[0], ""), **entry} for entry in lost)]


def _models(scale: str, runs: Path) -> list[Entry]:
    tree, rows = config_tree(), load_rows()
    out = []
    for name in tree.files("models"):
        model, _ = load_model(name, scale)
        line = lineage(tree, name)
        out.append(
            {
                "model": name,
                "sensors": "+".join(model.sensors),
                "head": model.head.kind,
                "like": line[1] if len(line) > 1 else "",
                "runs": sum(row.model == name for row in rows.values()),
            }
        )
    return out


def _summary(module: str) -> str:
    """First line of the docstring of a module, which is not loaded."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def _methods(scale: str, runs: Path) -> list[Entry]:
    kinds = [row.method.kind for row in load_rows().values() if row.method]
    package = import_module("bevkd.distill.methods")
    found = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.endswith("_settings")]
    return [
        {"method": name, "runs": kinds.count(name), "doc": _summary(f"bevkd.distill.methods.{name}")} for name in found
    ]


def _made(kind: str, endings: Iterable[str], scale: str, runs: Path, specs: Mapping[str, Any]) -> list[Entry]:
    folder = results_dir(scale, runs) / f"{kind}s"
    files = {name: [folder / f"{name}.{ending}" for ending in endings] for name in specs}
    return [
        {
            kind: name,
            "made": all(file.exists() for file in files[name]),
            "paper": spec.part,
            "target": spec.target,
            "file": str(files[name][0]),
            "title": spec.title,
        }
        for name, spec in specs.items()
    ]


def _tables(scale: str, runs: Path) -> list[Entry]:
    return _made("table", ("md", "csv"), scale, runs, load_tables(scale))


def _figures(scale: str, runs: Path) -> list[Entry]:
    return _made("figure", ("png",), scale, runs, load_figures(scale))


def _claims(scale: str, runs: Path) -> list[Entry]:
    from bevkd.report import ledger

    claims, results = load_claims(scale), results_dir(scale, runs)
    verdicts: dict[str, str] = {}
    for part in parts_of(load_tables(scale), load_figures(scale), claims):
        file = ledger_file(results, part)
        if file.exists():
            verdicts |= {finding.claim: finding.counted for finding in ledger.read(file)}
    return [
        {
            "claim": name,
            "verdict": verdicts.get(name, ""),
            "metric": claim.metric,
            "better": " ".join(pool(claim.better)),
            "than": " ".join(pool(claim.than)),
            "paper": claim.part,
            "target": claim.target,
            "statement": claim.statement,
        }
        for name, claim in claims.items()
    ]


def _datasets(scale: str, runs: Path) -> list[Entry]:
    rows = load_rows()
    tree = config_tree()
    some_model = next(iter(tree.files("models")))
    out = []
    for name in tree.files("datasets"):
        _, data = load_model(some_model, scale, name)
        out.append(
            {
                "dataset": name,
                "format": data.kind,
                "root": data.root,
                "there": Path(data.root).is_dir(),
                "index": data.index,
                "frames": _frames(Path(data.index)),
                "runs": sum(row.dataset == name for row in rows.values()),
            }
        )
    return out


def _frames(index: Path) -> int | None:
    """Keyframes of an index; None where there is none that can be read."""
    if not (index / "frames.parquet").exists():
        return None
    from bevkd.data.index import read_stamp
    from bevkd.errors import DataError

    try:
        return int(read_stamp(index)["frames"])
    except DataError:
        return None


KINDS: dict[str, Callable[[str, Path], list[Entry]]] = {
    "runs": _runs,
    "models": _models,
    "methods": _methods,
    "tables": _tables,
    "figures": _figures,
    "claims": _claims,
    "datasets": _datasets,
}


def catalogue(kind: str, scale: str, runs: Path, text: str = "") -> list[Entry]:
    """Entries of a kind, those that hold a text (whatever its case) in any column.

    Raises:
        ConfigError: no such kind or scale.
    """
    if kind not in KINDS:
        raise ConfigError(f"cannot list {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    found = KINDS[kind](scale, runs)
    return [entry for entry in found if any(text.lower() in shown(value).lower() for value in entry.values())]


def shown(value: Any) -> str:
    """A value as text: seeds by scale, those whose training is not complete in brackets."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{scale}: {_seeds(seeds)}" for scale, seeds in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _seeds(seeds: Mapping[int, bool]) -> str:
    return " ".join(f"{seed}" if done else f"({seed})" for seed, done in sorted(seeds.items()))
