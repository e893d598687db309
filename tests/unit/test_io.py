from __future__ import annotations

from pathlib import Path

import pytest

from bevkd.errors import ConfigError, DataError
from bevkd.io import atomic_folder, atomic_path, digest, read_json, write_json
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
