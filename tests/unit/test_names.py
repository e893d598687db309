"""No text becomes a command or a path: names of runs, models, tables and data sets, and shell lines of the workflow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bevkd.cli import main
from bevkd.config import RowConfig, RunConfig, config_dir, parse, run_dir
from bevkd.config.places import ConfigTree
from bevkd.config.training import InitConfig
from bevkd.config.workflow import WorkflowConfig
from bevkd.errors import ConfigError
from bevkd.names import check_name
from bevkd.report.figure_kinds import CurveSpec
from bevkd.report.spec import ClaimConfig, TableConfig
from bevkd.splits import split_names

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = [
    *("x$(touch Y)", "x`touch Y`", "x;touch Y", "x y", "x\ny", "../../x", "..", ".", "", "-x", "_x", ".x", "/x", "a/b"),
    *("x'", 'x"', "$HOME", "x&y", "x|y", "x>y", "ä", "x\0", "x*", "x{run}", "~", "x\\y", "a" * 101, "x\u202ey"),
]
HARMLESS = ["x", "0", "a" * 100, "unidistill_p4", "v1.0-trainval", "A.b_c-d"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_wherever_a_name_is_wanted(name: str) -> None:
    row = {"id": "a", "dataset": "b", "model": "c"}
    run = {"run": "a", "scale": "s", "seed": 0, "row": row}
    table: dict[str, Any] = {"name": "t", "title": "t", "caption": "c", "columns": [{"key": "mAP"}]}
    table["rows"] = [{"label": "r", "run": "r"}]
    claim = {"id": "c", "paper": "p", "statement": "s", "metric": "mAP", "better": "a", "than": "b"}
    kinds: list[tuple[type, dict[str, Any], tuple[str, ...]]] = [
        (RowConfig, row, ("id", "dataset", "model", "teacher")),
        (RunConfig, run, ("run", "scale")),
        (InitConfig, {"run": "a"}, ("run",)),
        (TableConfig, table, ("name",)),
        (ClaimConfig, claim, ("id", "paper", "better", "than")),
        (CurveSpec, {"label": "l", "run": "a"}, ("run",)),
        (WorkflowConfig, {}, ("scale",)),
    ]
    for kind, plain, keys in kinds:
        parse(kind, plain, "here")
        for key in keys:
            with pytest.raises(ConfigError, match=f"here: {key}"):
                parse(kind, plain | {key: name}, "here")
    with pytest.raises(ConfigError):
        parse(RowConfig, row | {"same_as": {"smoke": name}}, "here")
    with pytest.raises(ConfigError, match="wants a name"):
        check_name(name, "run")
    for bad in ((name, "smoke"), ("a", name)):
        with pytest.raises(ConfigError, match="wants a name"):
            run_dir(*bad, 0)
    with pytest.raises(ConfigError):
        ConfigTree((config_dir(),)).named("models", name)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_names_are_taken(name: str) -> None:
    assert check_name(name, "run") == name
    assert parse(RowConfig, {"id": name, "dataset": name, "model": name}, "here").id == name


@pytest.mark.parametrize("split", ["../val", "a/b", "val$(touch X)", "val+", "+", "", "val+../x", "a'b"])
def test_splits_are_names(split: str) -> None:
    with pytest.raises(ConfigError):
        split_names(split)
    assert split_names("train + tune") == split_names("train+tune") == ("train", "tune")


@pytest.mark.parametrize(
    "command",
    [
        *("train", "config", "predict", "response", "gates", "attention", "matches", "breakdown", "view", "profile"),
        *("bench", "cache"),
    ],
)
def test_commands_refuse_hostile_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--split", "val"] if command not in ("train", "config", "profile", "bench", "cache") else []
    for name in ("x$(touch Y)", "../../x", "a/../../b"):
        assert main([command, "--run", name, "--scale", "smoke", *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "wants a name" in error
    assert not list(tmp_path.iterdir())


def test_scales_and_seeds_of_a_command_line_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["--scale", "../smoke"], ["--scale", "smoke", "--seed", "-1"], ["--seed", str(2**32)]):
        assert main(["train", "--run", "lidar_base", *arguments]) == 2
    for arguments in (["--workers", "100000"], ["--workers", "0"], ["--seed", "-1"]):
        assert main(["simulate", "--dataset", "kitti", "--scale", "smoke", "--out", "x", *arguments]) == 2
    assert not list(tmp_path.iterdir())


def test_a_file_of_runs_with_a_hostile_id_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config" / "papers" / "mine"
    folder.mkdir(parents=True)
    (folder / "runs.yaml").write_text("runs:\n  'c$(touch Y)': {dataset: kitti_sim, model: lidar_pillar}\n")
    assert main(["train", "--run", "c$(touch Y)", "--scale", "smoke"]) == 2
    assert main(["list", "runs"]) == 2
    assert "c$(touch Y)" in capsys.readouterr().err
    (folder / "runs.yaml").write_text("runs: {}\n")
    folder.rename(folder.with_name("mine $(touch Y)"))
    assert main(["list", "runs"]) == 2
    assert not (tmp_path / "Y").exists()


def shell_lines() -> dict[str, list[str]]:
    """Shell lines of every file of rules."""
    found = {}
    for file in (ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))):
        blocks = re.findall(r"^ +shell:\n((?: +f?\".*\"\n)+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(blocks) == len(re.findall(r"\bshell\b[:(]", file.read_text(encoding="utf-8"))), file
        found[file.name] = blocks
    return found


def test_every_word_of_a_shell_line_is_quoted() -> None:
    lines = [line for blocks in shell_lines().values() for line in blocks]
    assert len(lines) > 10
    for block in lines:
        fields = re.findall(r"\{[^{}]*\}", block)
        assert fields
        for field in fields:
            assert field.endswith(":q}"), f"{field} of {block}"
