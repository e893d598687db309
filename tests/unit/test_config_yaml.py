"""What YAML can do to a program: nothing, and what is wrong with a file is said with its line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bevkd.cli import main
from bevkd.config import load_run, read_yaml
from bevkd.config.load import parse_override
from bevkd.config.yaml_text import MOST_CHARACTERS, load_yaml
from bevkd.errors import ConfigError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' is defined twice in line 3"),
        ("a: 1\n1: 2\n0x1: 3\n", "'0x1' is defined twice in line 3"),
        ("on: 1\nyes: 2\n", "'yes' is defined twice in line 2"),
        ("x: {b: 1, 'b': 2}\n", "'b' is defined twice in line 1, column 11"),
        ("p: &p {c: 1}\nq:\n  <<: *p\n  <<: *p\n", "'<<' is defined twice in line 4"),
        (BOMB, "aliases stand for more than 200000 values in line 6"),
        ("a: &a [1, *a]\n", "an alias stands for what it is part of in line 1"),
        ("a: &a {b: {c: *a}}\n", "an alias stands for what it is part of in line 1"),
        ("a: 1\nb: \x07\n", "a control character, 0x7 in line 2"),
        ("ä: ö\nb: c\x00d\n", "a control character, 0x0 in line 2"),
        ("a: 1\nb: " + "9" * 5000, "Exceeds the limit (4300 digits) for integer string conversion"),
        ("a: 1\nb: 2020-99-99\n", "month must be in 1..12 in line 2"),
        ("a: 1\nb: !!python/object/apply:os.system [touch x]\n", "could not determine a constructor"),
        ("a: [1\nb: 2\n", "did not find expected"),
        ("a: 1\n---\nb: 2\n", "another document in line 2"),
        ("[a]: 1\n", "found unhashable key in line 1"),
        ("x" * (MOST_CHARACTERS + 1), "more than 4000000 characters"),
        ("[" * 100 + "]" * 100, "nested in more than 64 levels in line 1"),
        ("- " * 100 + "a", "nested in more than 64 levels in line 1"),
        ("[" * 100_000, "nested in more than 64 levels in line 1"),
        ("{a: " * 100_000, "nested in more than 64 levels in line 1"),
        ("- " * 100_000 + "a", "nested in more than 64 levels in line 1"),
        ("? " * 100_000 + "a", "nested in more than 64 levels in line 1"),
        ("\n".join(" " * n + "a:" for n in range(2_100)), "nested in more than 64 levels in line 65"),
    ],
)
def test_what_is_no_configuration_is_an_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(text, "here")
    assert str(caught.value).startswith("here is ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_aliases_of_a_usual_size_are_read() -> None:
    assert load_yaml("a: &a {b: [1, 2]}\nc: *a\nd: {<<: *a, e: *a}\n", "here") == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": {"b": [1, 2], "e": {"b": [1, 2]}},
    }
    assert load_yaml("a: [" + "[1, 2], " * 2_000 + "]", "here")["a"][-1] == [1, 2]
    assert load_yaml("", "here") is None


def test_overrides_are_read_by_the_same_rules() -> None:
    for text in ("x={a: 1, a: 2}", "x=&a [*a]", "x=" + "[" * 100_000, "x=" + "9" * 5_000, "x=\x00"):
        with pytest.raises(ConfigError, match=r"--set .*not valid YAML"):
            parse_override(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: ü\n".encode("latin-1"), "cannot be read as text in line 2"),
        (b"\xff\xfea", "cannot be read as text"),
        ("a: 1\nb: x\n".encode("utf-16-le"), "cannot be read as text: NUL at character"),
    ],
)
def test_another_encoding_is_an_error(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_marked_encodings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_bytes("a: ü\n".encode(encoding))
        assert read_yaml(file) == {"a": "ü"}


def test_a_bomb_in_a_configuration_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config" / "scales"
    folder.mkdir(parents=True)
    (folder / "smoke.yaml").write_text(f"{BOMB}common: {{train: {{lr: *a9}}}}\n")
    assert main(["config", "--run", "lidar_base", "--scale", "smoke"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "aliases stand for more than" in error


def test_deep_nesting_does_not_kill_a_program() -> None:
    """The C parser would overflow its stack: no exception could be caught."""
    code = "from bevkd.config.load import parse_override\nparse_override('x=' + '[' * 10**6)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ConfigError" in done.stderr


def test_a_data_set_that_is_no_mapping_is_an_error(config_copy: Path) -> None:
    path = config_copy / "datasets" / "kitti_sim.yaml"
    path.write_text("data\n")
    with pytest.raises(ConfigError, match=rf"{path}: wants a mapping"):
        load_run("kitti_lidar", "smoke", 0)
