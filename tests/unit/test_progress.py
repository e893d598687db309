"""Bars appear where a command line asks for them on a terminal, and nowhere else."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from bevkd import progress
from bevkd.sim.jobs import run_jobs


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    progress.show_on(None)


def terminal(width: int = 140) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=True, width=width, _environ={"TERM": "xterm"}), text


def words(text: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())


def double(number: int) -> int:
    return 2 * number


def test_nothing_is_drawn_unless_asked_for_on_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert not progress.shown()
    assert run_jobs(double, [1, 2, 3], workers=1) == [2, 4, 6]
    plain = io.StringIO()
    progress.show_on(Console(file=plain))
    assert not progress.shown()
    with progress.bar("working", 3) as bar:
        bar.advance()
        bar.reach(2)
        bar.note("loss 1")
    assert plain.getvalue() == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_are_counted_whatever_the_number_of_processes(workers: int) -> None:
    console, text = terminal()
    progress.show_on(console)
    assert run_jobs(double, list(range(5)), workers, "segments") == [0, 2, 4, 6, 8]
    assert re.search(r"simulating .* 5/5 segments .*ETA", words(text))


def test_a_bar_says_as_much_as_fits() -> None:
    for width, wanted, unwanted in ((160, "loss 2.5  mAP 3.1  data 4 %", ""), (80, "loss 2.5  mAP 3.1", "data")):
        console, text = terminal(width)
        progress.show_on(console)
        with progress.bar("camera_base seed 0", 400, "steps", done=100) as bar:
            bar.note("loss 2.5", "", "mAP 3.1", "data 4 % compute 96 %")
            bar.reach(200)
        shown = words(text)
        assert "100/400 steps" in shown
        assert "200/400 steps" in shown
        assert wanted in shown
        assert not unwanted or unwanted not in shown


def test_a_narrow_terminal_gets_whole_numbers() -> None:
    console, text = terminal(40)
    progress.show_on(console)
    with progress.bar("camera_base seed 0", 400, "steps", done=100) as bar:
        bar.note("loss 2.5")
    assert "camera_base seed 0 100/400 ETA" in words(text)
    assert "\N{HORIZONTAL ELLIPSIS}" not in words(text)


def test_a_terminal_that_cannot_move_its_cursor_gets_no_bars() -> None:
    progress.show_on(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}))
    assert not progress.shown()


def test_work_within_work_draws_no_second_line() -> None:
    console, text = terminal()
    progress.show_on(console)
    with progress.bar("training", 2) as outer:
        assert list(progress.track("ab", "evaluating", 2)) == ["a", "b"]
        outer.advance()
    assert "training" in words(text)
    assert "evaluating" not in words(text)
    with progress.bar("evaluating", 1):
        pass
    assert "evaluating" in words(text)


def test_what_is_tracked_comes_out_unchanged_and_its_errors_pass() -> None:
    console, text = terminal()
    progress.show_on(console)
    assert list(progress.track(iter("abc"), "reading", 3, "tables")) == ["a", "b", "c"]
    assert "3/3 tables" in words(text)
    with pytest.raises(ZeroDivisionError):
        list(progress.track((1 // n for n in (1, 0)), "reading", 2))
    assert list(progress.track([], "reading", 0)) == []
