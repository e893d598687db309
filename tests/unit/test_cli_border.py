"""Whatever a command meets leaves it as one line, with an exit code, and without advice against a protection."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from pydantic import TypeAdapter

from bevkd.cli import main
from bevkd.cli.border import TABLE, UNKNOWN, meaning, one_line, told
from bevkd.errors import CheckpointError, DataError


def _pickled(tmp_path: Path) -> Any:
    file = tmp_path / "evil.pt"
    file.write_bytes(pickle.dumps(print))
    return torch.load(file, weights_only=True)


def _parquet(tmp_path: Path) -> Any:
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1" + b"\0" * 50)
    return pq.read_table(file)


def _raise(error: BaseException) -> Any:
    raise error


# What a library does when something is wrong -> exit code, and a word of the line.
FAULTS: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "pickle": (_pickled, 3, "no archive of tensors"),
    "parquet": (_parquet, 3, "Parquet"),
    "yaml": (lambda _: yaml.safe_load("a: ["), 2, "YAML"),
    "json": (lambda _: json.loads("{"), 3, "JSON"),
    "digits": (lambda _: int("9" * 5000), 1, "unexpected"),
    "settings": (lambda _: TypeAdapter(int).validate_python("x"), 2, "setting"),
    "zip": (lambda _: zipfile.ZipFile(io.BytesIO(b"x")), 3, "archive"),
    "zlib": (lambda _: zlib.decompress(b"x"), 3, "compressed"),
    "unicode": (lambda _: b"\xff".decode(), 3, "Unicode"),
    "end": (lambda _: pickle.loads(b""), 3, "ends too early"),
    "matrix": (lambda _: np.linalg.inv(np.zeros((2, 2))), 3, "inverted"),
    "memory": (lambda _: np.zeros(2**50), 3, "memory"),
    "tensor": (lambda _: torch.zeros(2**50), 3, "memory"),
    "recursion": (lambda _: _raise(RecursionError("maximum recursion depth exceeded")), 3, "nested"),
    "image": (lambda _: Image.open(io.BytesIO(b"x")), 3, "image"),
    "file": (lambda path: (path / "no\nsuch").read_bytes(), 3, "No such file"),
    "import": (lambda _: __import__("no_such_package"), 2, "package"),
    "loader": (lambda _: _raise(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")), 3, "helped"),
    "threads": (lambda _: _raise(RuntimeError("can't start new thread")), 3, "threads"),
    "key": (lambda _: {}["x"], 1, "unexpected"),
    "lines": (lambda _: _raise(RuntimeError("first\nsecond\x1b[31m")), 1, "first"),
    "none": (lambda _: _raise(AssertionError()), 1, "AssertionError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_errors_of_libraries_are_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault, code, word = FAULTS[name]
    monkeypatch.setattr("bevkd.config.load_scale", lambda _: fault(tmp_path))
    assert main(["config", "--run", "lidar_base", "--scale", "smoke"]) == code
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert found.err.startswith("bevkd: ")
    assert word in found.err
    assert "weights_only" not in found.err
    assert "int_max_str_digits" not in found.err


def test_the_traceback_is_there_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevkd.config.load_scale", lambda _: _raise(RuntimeError("oh")))
    with pytest.raises(RuntimeError, match="oh"):
        main(["--traceback", "config", "--run", "lidar_base", "--scale", "smoke"])


def test_every_name_of_the_table_is_a_class_of_an_installed_library() -> None:
    import importlib
    from importlib.util import find_spec

    for name in TABLE:
        module, _, cls = name.rpartition(".")
        if module.partition(".")[0] in ("requests", "httpx", "huggingface_hub") and find_spec(module) is None:
            continue  # of what downloads weights, which need not be there
        found = getattr(importlib.import_module(module), cls)
        assert issubclass(found, Exception), name
        assert f"{found.__module__}.{found.__qualname__}" == name, "its real name counts"


def test_our_own_errors_keep_their_words(tmp_path: Path) -> None:
    line, code = told(DataError("truncated", file=tmp_path / "a\nb", token="x"))
    assert line == f"DataError: truncated (file={tmp_path}/a b, token=x)"
    assert code == 3
    assert told(CheckpointError("no\x00thing")) == ("CheckpointError: no\\x00thing", 2)
    assert told(KeyboardInterrupt()) == ("interrupted", 4)


def test_no_message_advises_to_turn_off_a_protection(tmp_path: Path) -> None:
    with pytest.raises(pickle.UnpicklingError) as caught:
        _pickled(tmp_path)
    assert "weights_only" in str(caught.value), "torch advises against its own protection: else this test is of no use"
    line = one_line(f"cannot be read: {caught.value}")
    assert line.startswith("cannot be read")
    for word in ("weights_only", "safe_globals", "arbitrary code", "trusted source"):
        assert word not in line


def test_no_message_of_the_code_does_either() -> None:
    """Nor do our own: of the words in the code, not of those about it."""
    package = Path(__file__).resolve().parents[2] / "bevkd"
    advice = re.compile(r"(weights_only=False|allow_pickle=True|trust_remote_code=True)")
    for file in package.rglob("*.py"):
        assert not advice.search(file.read_text(encoding="utf-8")), file


def test_a_line_has_an_end() -> None:
    assert len(one_line("x" * 10_000)) < 2_100
    assert one_line("a\r\nb\tc\u2028d") == "a b c d"
    assert meaning(ValueError("?")) is UNKNOWN


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nonsense"], "No such command"),
        (["train"], "Missing option '--run'"),
        (["train", "--run"], "requires an argument"),
        (["train", "--run", "a", "--seed", "x"], "Invalid value for '--seed'"),
        (["train", "--nonsense", "1"], "No such option"),
        (["doctor", "--missing-labels", "no\nthing"], "is not one of"),
    ],
)
def test_mistakes_in_usage_are_one_line(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error
    assert error.startswith("bevkd: ConfigError: ")
