"""Guides: generated references are current, links lead somewhere, and commands exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

import bevkd

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
SCREEN = 60  # lines


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["command_line.md", "config.md", "protocols.md"])
def test_references_are_what_the_code_says(name: str) -> None:
    pages = generator().PAGES
    assert set(pages) == {"command_line.md", "config.md", "protocols.md"}
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages[name](), "out of date: run `make docs`"


def test_references_hold_what_users_look_for() -> None:
    commands = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    for text in ("## `bevkd train`", "### `bevkd evaluate kitti`", "`--config-dir", "`--set"):
        assert text in commands
    settings = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    for text in ("| `lidar_sweeps` | integer | `10` | previous sweeps", "### method: unidistill", "### head: center"):
        assert text in settings
    mute = [line for line in settings.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not mute, "settings without a sentence: a comment beside the field, or Attributes of the class"


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as they are made on GitHub."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_the_readme_fits_two_screens_and_links_every_guide() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 2 * SCREEN
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, f"docs/README.md lacks {page.name}"


def test_the_citation_names_this_version() -> None:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= content.keys()
    assert content["version"] == bevkd.__version__
    assert f"## {bevkd.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def commands(page: Path) -> list[list[str]]:
    """Words of each command in the shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].split() for line in lines if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    from bevkd.cli.app import app

    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets, words
        if words[0].removeprefix(".venv/bin/") == "bevkd":
            _check(typer.main.get_command(app), words[1:], " ".join(words))


def _check(command: Any, words: list[str], line: str) -> None:
    """Whether a command knows the options of a line; what comes after the name of one of its own is for that one."""
    everywhere = {"--help", "-q", "--quiet", "-v", "--verbose", "--traceback", "--config-dir"}
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | everywhere
    for at, word in enumerate(words):
        if word in getattr(command, "commands", {}):
            _check(command.commands[word], words[at + 1 :], line)
            return
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            assert word.partition("=")[0] in known, f"{line}: {word}"
    assert not getattr(command, "commands", {}), f"{line}: no such command"
