"""Rows, tables, figures and claims as they were resolved when each was written out (tests/golden/resolved.json).

The file holds a digest per item, so that a change of the YAML shows what it changes. Run as a script, this module
writes it anew, where a change is meant.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bevkd.config import identity_digest, load_rows, load_run, to_plain
from bevkd.io import digest
from bevkd.report.spec import load_claims, load_figures, load_tables

FILE = Path(__file__).with_name("resolved.json")
SCALES = ("smoke", "sim", "paper")


def short(value: Any) -> str:
    return digest(value)[:8]


def of(item: Any) -> str:
    """Digest of what is said of an item: fields that are at their defaults, as new ones are, do not count."""
    plain = to_plain(item)
    usual = {f.name: f.default for f in fields(item)}
    return short({name: value for name, value in plain.items() if getattr(item, name) != usual[name]})


def resolved() -> dict[str, dict[str, str]]:
    out = {"rows": {run: of(row) for run, row in load_rows().items()}}
    for scale in SCALES:
        out[f"runs at {scale}"] = {
            run: identity_digest(load_run(run, scale, row.seeds[0])) for run, row in load_rows().items()
        }
        for kind, load in (("tables", load_tables), ("figures", load_figures), ("claims", load_claims)):
            out[f"{kind} at {scale}"] = {name: of(item) for name, item in load(scale).items()}
    return out


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    return resolved()


@pytest.mark.parametrize(
    "place", ["rows", *(f"{k} at {s}" for k in ("runs", "tables", "figures", "claims") for s in SCALES)]
)
def test_resolved_items_are_those_of_before(found: dict[str, dict[str, str]], place: str) -> None:
    wanted = json.loads(FILE.read_text())[place]
    assert {name: found[place].get(name) for name in wanted} == wanted
    assert found[place].keys() == wanted.keys(), "write the file anew"


def test_claims_keep_their_order(found: dict[str, dict[str, str]]) -> None:
    """The ledger lists them so."""
    assert list(found["claims at sim"]) == list(json.loads(FILE.read_text())["claims at sim"])


if __name__ == "__main__":
    FILE.write_text(json.dumps(resolved(), indent=0) + "\n")
