"""Fixtures of the unit tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bevkd.config import config_dir


@pytest.fixture
def config_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's config folder with an empty paper `mine`, read instead of it during the test."""
    folder = Path(shutil.copytree(config_dir(), tmp_path / "config"))
    (folder / "papers" / "mine").mkdir()
    monkeypatch.setenv("BEVKD_CONFIG", str(folder))
    return folder
