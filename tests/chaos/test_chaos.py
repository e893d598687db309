"""One kill through the functions of `make chaos`, and what its comparison finds."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_case import EQUAL, OTHER, Kill, World, drawn, kinds, outcome, victims
from chaos_compare import aged, content, differences, kept_wrongly


@pytest.fixture
def world() -> Iterator[World]:
    """With a path short enough for sockets, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="bevkd-chaos-") as folder:
        yield World(Path(folder))


@pytest.mark.slow
def test_a_killed_command_goes_on_and_a_damaged_result_is_found(world: World) -> None:
    found = outcome(world, Kill("convert waymo", "group", 0.6, later=True))
    assert found.kind == EQUAL, found.words
    assert found.hit == "group"
    reference = world.reference(victims()["convert waymo"])
    (frames,) = reference.rglob("frames.parquet")
    frames.write_bytes(frames.read_bytes()[:-1])
    found = outcome(world, Kill("convert waymo", "process", 0.3, later=False))
    assert found.kind == OTHER
    assert found.words == ["data/index/waymo_sim/smoke/frames.parquet has another content"]
    assert not world.processes()


def test_the_same_seed_draws_the_same_kills() -> None:
    kills = [drawn(7, number, kinds()) for number in range(3 * len(kinds()))]
    assert kills == [drawn(7, number, kinds()) for number in range(3 * len(kinds()))]
    assert kills != [drawn(8, number, kinds()) for number in range(3 * len(kinds()))]
    for turn in range(3):
        some = kills[turn * len(kinds()) : (turn + 1) * len(kinds())]
        assert {victims()[kill.victim].kind for kill in some} == set(kinds())


def test_leftovers_are_judged_by_age_and_place(tmp_path: Path) -> None:
    def leftovers() -> list[Path]:
        for name in ("idle", "busy"):
            (tmp_path / name / f".{name}.abcd_123.bevkd.tmp").mkdir(parents=True, exist_ok=True)
        return sorted(tmp_path.rglob("*.bevkd.tmp"))

    leftovers()
    assert kept_wrongly([tmp_path], None) == [], "young ones may stay"
    assert not list(tmp_path.rglob("*.bevkd.tmp"))
    aged(leftovers())
    since = time.time() - 1
    (tmp_path / "busy" / "new").touch()
    (wrong,) = kept_wrongly([tmp_path], since)
    assert "busy" in wrong
    odd = tmp_path / "idle" / ".x.bevkd.tmp"
    odd.touch()
    (wrong,) = kept_wrongly([tmp_path], None)
    assert "nothing will ever remove it" in wrong


def test_results_are_compared_by_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "part" / "tb").mkdir(parents=True)
    (one / "part" / "log.jsonl").write_text('{"step": 1, "data_s": 0.5}\n')
    (one / "part" / "data.npy").write_bytes(b"12")
    (one / "part" / "tb" / "events").write_bytes(b"1")
    shutil.copytree(one, other)
    (other / "part" / "log.jsonl").write_text('{"step": 1, "data_s": 0.7}\n')
    (other / "part" / "tb" / "events").unlink()
    (other / "part" / ".lock").touch()
    assert differences(content(one, ["part"]), content(other, ["part"])) == []
    (other / "part" / "log.jsonl").write_text('{"step": 2, "data_s": 0.5}\n')
    (other / "part" / "data.npy").rename(other / "part" / "half")
    assert differences(content(one, ["part"]), content(other, ["part"])) == [
        "part/data.npy is missing",
        "part/half should not be there",
        "part/log.jsonl has another content",
    ]
