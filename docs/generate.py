"""Writes docs/command_line.md and docs/config.md from the code, and marked blocks of docs/protocols.md: `make docs`.

A test says when they are out of date.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from bevkd import registry
from bevkd.config import BenchConfig, InitConfig, MethodConfig, RunConfig, WorkflowConfig, load_rows, to_plain
from bevkd.config.identity import _ABSENT, field_facts
from bevkd.config.marks import ReadFor, Volatile
from bevkd.config.models import ModelFile
from bevkd.config.protocols import WORDING
from bevkd.config.recipe import Recipe, RecipePart
from bevkd.config.scale import ScaleConfig
from bevkd.config.stages import Stage
from bevkd.config.training import Moment, ParameterGroup, SwitchOff
from bevkd.config.workflow import CostConfig
from bevkd.distill.methods.combine_settings import PartConfig
from bevkd.report.render import grids, remarks
from bevkd.report.spec import load_tables
from bevkd.report.tables import read as read_table
from bevkd.train.schedules.base import Warmup

HERE = Path(__file__).resolve().parent
_GENERATED = "<!-- Made by `make docs` from the code: edit it there. -->"

COMMANDS = """
Global options may stand before the command or after it. Exit codes: 0 done, 2 bad usage or configuration, 3 bad data
(the message names file, token and field), 4 interrupted but resumable.
"""
SETTINGS = """
A run is resolved from layers of YAML (`bevkd config --run ID` prints the outcome, `--explain KEY` which file and line
says a setting); its sections are `row`, `model`, `data` and `train`. Any of them is set on the command line with
`--set`, such as `--set train.steps=100`, but for `row`. How layers are merged, and recipes:
[training.md](training.md). Comparisons, tables and claims: [comparisons.md](comparisons.md).

## Where the files are

The first of these that exists: `bevkd --config-dir DIR`, the folder that `$BEVKD_CONFIG` names, `config` in the
working directory, the files that came with the package (in a clone: `config/`). A folder that has `config.yaml`,
`scales` and `papers` is whole and stands alone. Any other one is laid over the packaged files, file by file: what it
has wins, what it lacks comes from the package; `bevkd doctor` says which folders are read. A project of one's own is
therefore small:

```
config/datasets/mine.yaml         where my data are
config/papers/mine/runs.yaml      my runs, like ones that are there
```

| folder | one file for each | |
|---|---|---|
| `datasets` | data set | section `data` of its runs |
| `models` | detector | [a model](#a-model) |
| `scales` | scale | [a scale](#a-scale) |
| `papers/<paper>` | | `runs.yaml`: [rows](#row) by id; `recipe.yaml`: [a recipe](#a-recipe); tables, figures, claims |
| `reference` | paper | its published numbers (CSV) |
| `config.yaml` | | [the workflow](#the-workflow) |

In the tables below, *volatile* settings do not change the result of a run and may differ when it is resumed; those
*for* a sensor are read where the network looks at it. A setting with a `kind` is a stage, whose own settings stand
further below.
"""
_STAGES = {
    "lidar_encoder": "model.lidar",
    "camera_encoder": "model.camera",
    "image_backbone": "model.camera.backbone",
    "depth_net": "model.camera.depth_net",
    "view_transform": "model.camera.view",
    "compensation": "model.camera.gcm_image, and at gcm_bev beside it, of an encoder that has them",
    "radar_encoder": "model.radar",
    "fuser": "model.fuser",
    "bev_encoder": "model.bev",
    "head": "model.head",
    "loss": "model.loss, by the head's kind",
    "decode": "model.decode, by the head's kind",
    "method": "row.method.options, by the method's kind",
    "optimizer": "train.optimizer",
    "schedule": "train.schedule",
}


def command_line() -> str:
    """The reference of the command line, by typer's own generator."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "bevkd.cli.app",
        "utils",
        "docs",
        "--name",
        "bevkd",
        "--title",
        "Command line",
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    title, _, rest = html.unescape(made).strip().partition("\n")
    return f"{title}\n\n{_GENERATED}\n{COMMANDS}{rest}\n"


def config() -> str:
    """The reference of the settings."""
    run = {name: get_type_hints(RunConfig)[name] for name in ("row", "model", "data", "train")}
    parts = ["# Configuration", "", _GENERATED, SETTINGS.rstrip(), ""]
    for name, cls in run.items():
        parts += _section(name, cls, 2)
    parts += ["## Inside of these", ""]
    for cls in (InitConfig, MethodConfig, Moment, SwitchOff, ParameterGroup, Warmup, PartConfig):
        parts += _section(cls.__name__, cls, 3)
    for kind, place in _STAGES.items():
        at, _, more = place.partition(", ")
        parts += [f"## {kind.replace('_', ' ').capitalize()}", "", f"At `{at}`{', ' + more if more else ''}.", ""]
        for name in registry.names("head" if kind in ("loss", "decode") else kind):
            cls = registry.settings(kind, name)
            if cls.__module__.startswith("bevkd."):
                parts += _section(f"{kind}: {name}", cls, 3)
    files = {"A scale": ScaleConfig, "A model": ModelFile, "A recipe": Recipe, "RecipePart": RecipePart}
    for title, cls in (
        files | {"The workflow": WorkflowConfig, "CostConfig": CostConfig, "BenchConfig": BenchConfig}
    ).items():
        parts += _section(title, cls, 2 if " " in title else 3)
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, cls: type, level: int) -> list[str]:
    """A table of the settings of a class, and those of the classes inside it."""
    summary, said = _words(cls)
    hints = get_type_hints(cls, include_extras=True)
    out, inner = [], []
    for name, default, marks in field_facts(cls):
        kind = _core(hints[name])
        if name == "kind" and ": " in title:
            continue  # the title says it
        note = said.get(name, "")
        note += "".join(f" *For {' and '.join(sorted(m.sensors))}.*" for m in marks if isinstance(m, ReadFor))
        note += " *Volatile.*" if any(isinstance(m, Volatile) for m in marks) else ""
        stage = next((m for m in marks if isinstance(m, Stage)), None)
        if stage is None and is_dataclass(default) and not hasattr(default, "kind"):
            inner += _section(f"{title}.{name}", type(default), min(level + 1, 4))
            out.append(f"| `{name}` | below | | {note.strip()} |")
            continue
        what = f"{stage.slot.replace('_', ' ')}, by `kind`" if stage else _typed(kind)
        out.append(f"| `{name}` | {what} | {_default(default)} | {note.strip()} |")
    head = ["| setting | | default | |", "|---|---|---|---|"] if out else ["No settings."]
    return [f"{'#' * level} {title}", "", *([summary, ""] if summary else []), *head, *out, "", *inner]


def _words(cls: type) -> tuple[str, dict[str, str]]:
    """What a class says of itself, and of each setting: in its docstring, or in comments beside the fields."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    text, _, listed = doc.partition("\nAttributes:\n")
    said: dict[str, str] = {}
    for block in re.split(r"\n(?=    \S)", "\n" + listed)[1:]:
        names, _, meaning = block.strip().partition(": ")
        said |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            said |= {name: comment for name, comment in _comments(base) if name not in said or base is cls}
            _, _, more = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")
            if base is not cls and more:
                said = _words(base)[1] | said
    return _cell(" ".join(text.split())), {name: _cell(meaning) for name, meaning in said.items()}


def _comments(cls: type) -> Iterator[tuple[str, str]]:
    """Comments at the end of the line of a field, or on the lines above it."""
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.end_lineno is None:
            continue
        rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
        above = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("#"):
                break
            above.insert(0, line.strip("# "))
        if comment := rest.removeprefix("#").strip() or " ".join(above):
            yield node.target.id, comment


def _core(hint: Any) -> Any:
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint


def _typed(hint: Any) -> str:
    """A type in the words of YAML."""
    hint = _core(hint)
    origin, of = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in of)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if one is type(None) else _typed(one) for one in of)
    if origin in (tuple, list):
        inner = [one for one in of if one is not Ellipsis]
        if len({_typed(one) for one in inner}) == 1 and len(inner) > 1:
            return f"{len(inner)} x {_typed(inner[0])}"
        return "list of " + ", ".join(_typed(one) for one in inner)
    if origin is dict and of[1] is Any:
        return "mapping"
    if origin is dict:
        return f"{_typed(of[0])}: {_typed(of[1])}"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", dict: "mapping", Any: "settings"}
    if is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return names.get(hint, str(hint))


def _default(value: Any) -> str:
    if value is _ABSENT:
        return "required"
    plain = to_plain(value) if is_dataclass(value) else value
    if isinstance(plain, dict) and "kind" in plain:
        plain = plain["kind"]
    return f"`{_cell(json.dumps(plain, default=list))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def protocols() -> str:
    """The guide to protocols, with what the code and the measured spread say in its marked blocks."""
    text = (HERE / "protocols.md").read_text(encoding="utf-8")
    wording = ["| protocol | what |", "|---|---|", *(f"| `{name}` | {words} |" for name, words in WORDING.items())]
    for name, lines in {"protocols": wording, "power": _power()}.items():
        block = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
        inside = "\n".join(["", *lines, "", ""])
        text, found = block.subn(lambda match, inside=inside: f"{match[1]}{inside}{match[2]}", text)
        assert found == 1, name
    return text


def _power() -> list[str]:
    """The table of power as it was measured."""
    file = HERE.parent / "results" / "tables" / "power.csv"
    if not file.exists():
        return ["Not measured yet."]
    table = read_table(load_tables()["power"], file, load_rows())
    (grid,) = grids(table)
    lines = [f"| {' | '.join(grid.head)} |", "|" + " :-- |" + " --: |" * (len(grid.head) - 1)]
    place = 0
    for group, size in grid.groups:
        lines += [
            f"| {' | '.join([f'{group}: {cells[0]}', *cells[1:]])} |" for cells in grid.rows[place : place + size]
        ]
        place += size
    return [*lines, "", " ".join(remarks(table))]


PAGES = {"command_line.md": command_line, "config.md": config, "protocols.md": protocols}

if __name__ == "__main__":
    for file, make in PAGES.items():
        (HERE / file).write_text(make(), encoding="utf-8")
