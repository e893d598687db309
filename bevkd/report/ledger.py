"""The claims ledger as CSV: a part per paper and tier, and all parts joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path

import pandas as pd

from bevkd.report.claims import Finding
from bevkd.report.frames import read_csv

_KINDS = {field.name: str(field.type) for field in fields(Finding)}
_FLOATS = [name for name, kind in _KINDS.items() if kind == "float"]
_NEWER = [field.name for field in fields(Finding) if field.default is not MISSING]  # older ledgers lack them
_COUNTS = [name for name, kind in _KINDS.items() if kind == "int"]


def to_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """One line per claim."""
    frame = pd.DataFrame([asdict(finding) for finding in findings], columns=list(_KINDS))
    return frame.astype(dict.fromkeys(_FLOATS, "float64") | dict.fromkeys(_COUNTS, "int64"))


def read(path: Path) -> list[Finding]:
    """Read back a ledger or a part of it.

    Raises:
        DataError: the file is missing or has other columns.
    """
    frame = read_csv(path, "the claims ledger", list(_KINDS), _FLOATS, _COUNTS, _NEWER)
    return [Finding(**{str(name): value for name, value in line.items()}) for line in frame.to_dict("records")]


def joined(findings: Iterable[Finding], order: Sequence[str]) -> list[Finding]:
    """Findings of several parts, in the order of these claim ids; others are left out."""
    found = {finding.claim: finding for finding in findings}
    return [found[claim] for claim in order if claim in found]
