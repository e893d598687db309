from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bevkd.errors import ConfigError, DataError
from bevkd.io import (
    atomic_folder,
    atomic_path,
    digest,
    file_digest,
    names_in,
    read_bytes,
    read_json,
    read_text,
    write_json,
)
from bevkd.registry import lookup, register


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("crash")
    assert read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_when_complete_and_readable_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    path = tmp_path / "a"
    for content in ("1", "2"):
        with atomic_folder(path) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in path.iterdir()] == ["2"]
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        (temporary / "3").write_text("half")
        raise RuntimeError("crash")
    assert [p.name for p in path.iterdir()] == ["2"]
    assert {p.name for p in tmp_path.iterdir()} == {"a", "plain"}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00"])
def test_unreadable_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sample.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"sample\.json"):
        read_json(path)
    with pytest.raises(DataError, match=r"missing.*gone\.json"):
        read_json(tmp_path / "gone.json")


def test_digest_depends_on_content_not_on_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_registry_refuses_a_second_owner_and_suggests_names() -> None:
    @register("test_kind", "alpha")
    class Alpha:
        pass

    assert lookup("test_kind", "alpha") is Alpha
    with pytest.raises(ValueError, match="twice"):
        register("test_kind", "alpha")(type("Beta", (), {}))
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        lookup("test_kind", "alhpa")


def loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


@pytest.mark.parametrize("read", [read_bytes, read_text, read_json, file_digest, names_in])
def test_what_the_system_refuses_is_an_error_of_the_data(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("x")
    for path, message in ((loop(tmp_path / "loop"), "Errno 40"), (tmp_path / "file" / "below", "Errno 20")):
        with pytest.raises(DataError, match=rf"cannot be read: \[{message}\].*file={path}"):
            read(path)
    if read is not names_in:
        with pytest.raises(DataError, match=r"cannot be read: \[Errno 21\]"):
            read(tmp_path)
        with pytest.raises(DataError, match="is missing"):
            read(tmp_path / "nothing")


def test_a_refused_write_is_an_error_of_the_data_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path, message in (
        (tmp_path / "folder", "Errno 21"),
        (tmp_path / "file" / "below", "Errno 20|Errno 17"),
        (loop(tmp_path / "loop") / "below", "Errno 40|Errno 17"),
    ):
        with pytest.raises(DataError, match=rf"cannot be written: \[({message})\].*file={path}"):
            write_json(path, {})
    with (
        pytest.raises(DataError, match=r"cannot be written: \[Errno (17|20)\]"),
        atomic_folder(tmp_path / "file" / "a"),
    ):
        pass
    with pytest.raises(DataError, match=r"No space left"), atomic_path(tmp_path / "full"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "loop"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_any_editor(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(f"é{end}b{end}".encode(encoding))
    assert read_text(path) == "é\nb\n"
    path.write_bytes(f'{{"a":{end}"é"}}'.encode(encoding))
    assert read_json(path) == {"a": "é"}


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"b": {"val": [1], "val": [2]}}')
    with pytest.raises(DataError, match="'val' is given twice"):
        read_json(tmp_path / "a.json")


def test_devices_and_links_stay_what_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    write_json(pipe, {"x": 1}, indent=None)
    assert os.read(held, 100) == b'{"x": 1}\n'
    os.close(held)
    assert pipe.is_fifo()
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to("far")
    with atomic_folder(link) as temporary:
        (temporary / "a").write_text("1")
    assert link.is_symlink()
    assert [p.name for p in (tmp_path / "far").iterdir()] == ["a"]
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", loop(tmp_path / "loop")):
        with pytest.raises(DataError, match="Errno 20"), atomic_folder(path):
            pass
    assert {p.name for p in tmp_path.iterdir()} == {"pipe", "far", "link", "file", "loop"}
