"""`bevkd train` says where the model lies and what comes next; looking at snapshots changes no result."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from bevkd.cli import main
from bevkd.config import config_dir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli_train")


@pytest.fixture
def train(folder: Path, smoke_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line up to options, in a folder of its own."""
    monkeypatch.setenv("BEVKD_CONFIG", str(config_dir().resolve()))
    monkeypatch.chdir(folder)
    data = {"root": smoke_dataset.root, "index": smoke_dataset.index}
    sets = [word for key, path in data.items() for word in ("--set", f"data.{key}={path}")]
    return ["train", "--run", "camera_fresh", "--scale", "smoke", *sets, "--set", "train.steps=8"]


def test_a_training_ends_with_the_model_and_the_next_command(
    train: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*train, "--runs", "my runs"]) == 0
    made, following = capsys.readouterr().out.splitlines()
    model = "my runs/smoke/camera_fresh/seed0/model.pt"
    assert re.fullmatch(rf"trained {model}, 8 steps, loss [\d.]+", made)
    assert following == "next: bevkd predict --run camera_fresh --split val --scale smoke --runs 'my runs'"
    before = Path(model).read_bytes()
    assert main([*train, "--runs", "my runs"]) == 0
    again, _ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{model} is up to date, 8 steps, loss [\d.]+", again)
    assert Path(model).read_bytes() == before
    assert main([*train, "--runs", "my runs", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["predict", "--run", "camera_fresh", "--split", "val", "--scale", "smoke", "--runs", "my runs"]) == 0


def test_what_is_watched_is_shown_and_changes_nothing(train: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from bevkd.report.main_metric import last_known

    assert main([*train, "--runs", "plain"]) == 0
    assert main([*train, "--runs", "watched", "--watch", "tune"]) == 0
    out = capsys.readouterr().out.splitlines()
    shown = [line for line in out if line.startswith("step ")]
    assert [re.sub(r"[\d.]+ \(", "x (", line) for line in shown] == [f"step {n}: mAP x (tune)" for n in (2, 4, 6)]
    one, other = (
        torch.load(f"{runs}/smoke/camera_fresh/seed0/model.pt", weights_only=True)["model"]
        for runs in ("plain", "watched")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert re.fullmatch(r"mAP [\d.]+ \(tune, 3of4\)", last_known(Path("watched/smoke/camera_fresh/seed0")))
    assert last_known(Path("plain/smoke/camera_fresh/seed0")) == ""


def test_a_snapshot_that_cannot_be_evaluated_does_not_end_a_training(
    train: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main([*train, "--runs", "odd", "--watch", "nonsense"]) == 0
    assert "trained odd" in capsys.readouterr().out
    assert "no split 'nonsense'" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo terminal")
def test_a_terminal_shows_a_live_line(train: list[str], folder: Path) -> None:
    import fcntl
    import os
    import pty
    import struct
    import termios

    command = [sys.executable, "-m", "bevkd", *train, "--runs", "seen", "--set", "train.snapshots=2"]
    child, handle = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm", "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "COLUMNS": "160"}
        os.execv(command[0], command)
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    text = b""
    while True:
        try:
            part = os.read(handle, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())
    assert re.search(r"camera_fresh seed 0 .* 8/8 steps loss [\d.]+  mAP [\d.]+  \(tune, step 4\)", shown)
    assert re.search(r"data \d+ % compute \d+ %.* ETA 0:00:00", shown)
    assert shown.rstrip().endswith("--runs seen")
