from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from bevkd.cli import main
from bevkd.config import config_dir, load_rows


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 2, "No such command"),
        (["simulate"], 2, "Missing option"),
        (["simulate", "--dataset", "kity", "--out", "x"], 2, "kity"),
        (["simulate", "--dataset", "nuscenes", "--scale", "simm", "--out", "x"], 2, "did you mean"),
        (["train", "--run", "camera_bose"], 2, "did you mean 'camera_base'"),
        (["train", "--run", "camera_base", "--set", "train.stepz=1"], 2, "train.stepz"),
        (["train", "--run", "camera_base", "--set", "train.log_every=0"], 2, "train.log_every"),
        (["train", "--run", "camera_base", "--set", "data.lidar_sweep_stride=0"], 2, "data.lidar_sweep_stride"),
        (["train", "--run", "camera_base", "--set", "model.grid.cell=0"], 2, "model.grid.cell"),
        (["train", "--run", "camera_base", "--set", "model.loss.huber={vell: 1.0}"], 2, "vell"),
        (["train", "--run", "camera_base", "--set", "seed=7"], 2, "'seed' cannot be set"),
        (
            ["convert", "--dataset", "nuscenes", "--root", "nowhere", "--version", "v1.0-sim", "--out", "y"],
            3,
            "nowhere",
        ),
    ],
)
def test_exit_codes(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir()), "something half-written was left behind"


def test_traceback_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bevkd.errors import ConfigError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        main(["--traceback", "train", "--run", "camera_bose"])


def test_help_lists_the_stable_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in (
        "simulate",
        "convert",
        "train",
        "evaluate",
        "view",
        "doctor",
        "predict",
        "cache",
        "report",
    ):
        assert command in text


def test_help_is_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    from bevkd.cli.common import ORDER, app

    commands = typer.main.get_group(app)
    assert commands.list_commands(typer.Context(commands)) == list(ORDER), "a new command has its place in ORDER"
    assert main(["--help"]) == 0
    shown = re.findall(r"^. ([\w-]+)  ", capsys.readouterr().out.partition("Commands")[2], re.MULTILINE)
    assert shown == list(ORDER)


def test_short_words_that_people_try(capsys: pytest.CaptureFixture[str]) -> None:
    from bevkd import __version__

    for words in (["--version"], ["version"], ["-q", "version"]):
        assert main(words) == 0
        assert capsys.readouterr().out == f"{__version__}\n"
    for words in (["-h"], ["train", "-h"], ["evaluate", "kitti", "-h"]):
        assert main(words) == 0
        assert "Show this message and exit" in capsys.readouterr().out
    assert main(["list"]) == 2
    assert "runs, models, methods" in "".join(capsys.readouterr())


def test_module_entry_point_prints_the_version() -> None:
    result = subprocess.run([sys.executable, "-m", "bevkd", "version"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout.strip().count(".") == 2


def test_doctor_reports_packages_and_fast_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "torch" in text
    assert "bf16 autocast" in text
    assert "no problems found" in text


def test_doctor_finds_a_broken_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--root", str(tmp_path), "--version", "v1.0-sim"]) == 3
    assert "v1.0-sim" in capsys.readouterr().out


def test_a_cache_says_its_size_before_it_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--run", "unidistill_p4", "--scale", "smoke", "--dry-run"]) == 0
    all_of_them = capsys.readouterr().out
    assert "lidar_base_seed0_" in all_of_them
    rows = load_rows()
    single = [f"s6_{loss}{adapter}" for loss in ("feature", "relation") for adapter in ("", "_adapt")]
    taught = [rows[run] for run in ("unidistill_p4", "unidistill_p4_tuned", *single)]
    readers = sum(row.teacher_seed_for(seed) == 0 for row in taught for seed in row.seeds)
    assert f"MB for {readers} trainings" in all_of_them
    assert (
        main(["cache", "--run", "unidistill_p4", "--scale", "smoke", "--dry-run", "--reader", "unidistill_p4:2"]) == 0
    )
    assert "MB for 1 trainings" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "--dataset", "nuscenes", "--root", "data", "--version", "v1.0-x", "--out", "index"],
        ["convert", "--dataset", "kitti", "--root", "data", "--out", "index"],
        ["convert", "--dataset", "waymo", "--root", "data", "--out", "index"],
        ["doctor", "--root", "data"],
        [
            "evaluate",
            "nuscenes",
            *["--root", "data", "--version", "v1.0-x", "--split", "val", "--results", "r", "--out", "m"],
        ],
        ["evaluate", "kitti", "--labels", "data", "--results", "data", "--out", "m"],
        ["evaluate", "waymo", "--sets", "data", "--out", "m"],
        ["train", "--run", "lidar_base", "--scale", "smoke", "--runs", "data"],
        ["train", "--run", "lidar_base", "--scale", "smoke", "--runs", "r", "--set", "data.index=data"],
        ["simulate", "--dataset", "kitti", "--scale", "smoke", "--out", "data/below"],
        ["config", "--run", "lidar_base", "--set", "data.index=data"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
@pytest.mark.parametrize("kind", ["loop", "file"])
def test_no_command_ends_with_a_traceback(
    arguments: list[str], kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEVKD_CONFIG", str(config_dir().resolve()))
    monkeypatch.chdir(tmp_path)
    if kind == "loop":
        Path("data").symlink_to("data")
    else:
        Path("data").write_text("x")
    code = main(arguments)
    said = capsys.readouterr()
    if arguments[0] == "config":
        assert code == 0
        return
    assert code == 3
    assert "data" in (said.out if arguments[0] == "doctor" else said.err)
    assert len(said.err.strip().splitlines()) == (0 if arguments[0] == "doctor" else 1)


def test_what_no_reader_was_about_is_a_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bevkd import doctor

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(doctor, "examine", refuse)
    assert main(["doctor"]) == 3
    assert capsys.readouterr().err.strip() == "bevkd: DataError: [Errno 13] Permission denied (file=/some/file)"
    with pytest.raises(PermissionError):
        main(["--traceback", "doctor"])
