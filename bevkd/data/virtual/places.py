"""Where it is said which virtual points were made, and of what: known without a library for arrays."""

from __future__ import annotations

from pathlib import Path

MADE_OF, MANIFEST = "made_of.json", "manifest.json"


def folder_of(index: str | Path) -> Path:
    """The folder beside an index: `made_of.json` when files were begun, `manifest.json` when all are there."""
    return Path(index).with_name(f"{Path(index).name}_virtual")
