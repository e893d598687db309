"""What a user sees of a run, and in which order tables come; jobs are stand-ins here."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workflow_case import BIN, ROOT, Plans, copy_repository, environment, run, with_fake_launcher

from bevkd.config.tiers import of_target
from bevkd.report.spec import load_figures, load_tables

SCRIPTS = ROOT / "workflow" / "scripts"
SMOKE = ("--config", "scale=smoke", "seeds=1")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def plan(cores: int = 2, known: bool = True) -> Any:
    """Two trainings of 100 s and one of 200 s, a table of the first two and one of all."""
    from progress import Progress, Work

    costs = {1: 100.0, 2: 100.0, 3: 200.0, 4: 0.0, 5: 0.0}
    names = {1: ("train", "a"), 2: ("train", "b"), 3: ("train", "c"), 4: ("table", "one"), 5: ("table", "two")}
    work = {job: Work(*names[job], costs[job] if known else 0.0) for job in costs}
    return Progress(work, {4: [1, 2, 4], 5: [1, 2, 3, 4, 5]}, cores, Clock())


def test_the_bar_goes_by_cost_and_the_time_left_by_the_pace_of_the_run() -> None:
    progress = plan()
    assert (progress.share(), progress.left()) == (0.0, 200.0)
    assert progress.left([1, 2, 4]) == 100.0
    progress.start(1)
    progress.start(2)
    progress.clock.now = 50.0
    assert progress.share() == pytest.approx(0.25, abs=0.01), "jobs that run count by their time"
    progress.clock.now = 200.0  # twice as slow as estimated
    assert (progress.finish(1), progress.finish(2)) == (200.0, 200.0)
    assert progress.share() == 0.5
    assert progress.left() == pytest.approx(400.0, rel=0.05), "the last one runs alone, at the pace of the others"
    progress.start(3)
    progress.clock.now = 10_000.0
    assert progress.share() < 1.0, "what takes for ever is not done"
    assert progress.left() > 0.0
    for job in (3, 4, 5):
        progress.finish(job)
    assert (progress.share(), progress.left()) == (1.0, 0.0)


def test_the_next_table_is_the_first_that_is_not_made() -> None:
    progress = plan()
    assert progress.coming() == 4
    progress.finish(5)
    assert progress.coming() == 4
    progress.finish(4)
    assert progress.coming() is None


def test_without_costs_jobs_count_alike_and_no_time_is_promised() -> None:
    progress = plan(known=False)
    progress.finish(1)
    assert progress.share() == pytest.approx(1 / 5, abs=1e-9)
    assert progress.left() is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3570, "1 h 00 min"),
        (6300, "1 h 45 min"),
    ],
)
def test_times_are_short(seconds: float, text: str) -> None:
    from progress import time_text

    assert time_text(seconds) == text


def test_cheap_tables_come_first_and_headlines_before_the_rest() -> None:
    from order import in_order, levels

    costs = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 5.0}
    needs = {"big": "abc", "small": "a", "next": "ab", "other": "d"}
    assert in_order(needs, costs.__getitem__, {}) == ["other", "small", "next", "big"]
    # 60 seconds count as 4: before the 5 of the smallest; what they leave to the others costs nothing more.
    assert in_order(needs, costs.__getitem__, {"big": 15.0}) == ["big", "small", "next", "other"]
    # Headlines come first, whatever they cost, in their own order; those that nobody asked for are no tables here.
    assert in_order(needs, costs.__getitem__, {}, ["next", "gone", "small"]) == ["next", "small", "other", "big"]
    assert levels(["small", "next"], needs) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tabel_one", "did you mean 'table_one'?"),
        ("one", "did you mean 'table_one'?"),
        ("lidar", "did you mean 'run_lidar'?"),
        ("results/tables/onee.csv", "did you mean 'results/tables/one.csv'?"),
        ("onne.csv", "snakemake --list"),
        ("%$&", "snakemake --list"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(name: str, hint: str) -> None:
    from targets import Suggestion, meant

    rules, files = ["all", "table_one", "run_lidar", "one_more"], ["results/tables/one.csv"]
    assert hint in meant(name, rules, files)
    text = f"MissingRuleException:\nNo rule to produce {name} (if you use input functions ...)."
    record = logging.LogRecord("s", logging.ERROR, "", 0, text, (), None)
    assert Suggestion(lambda: rules, lambda: files).filter(record)
    assert record.msg.startswith(f"bevkd: ConfigError: no target or file {name!r} (")
    assert "\n" not in record.msg
    other = logging.LogRecord("s", logging.ERROR, "", 0, "MissingInputException: x", (), None)
    assert Suggestion(lambda: rules, lambda: files).filter(other)
    assert other.msg == "MissingInputException: x"


def test_the_two_lines_of_a_terminal() -> None:
    from bar import Bar
    from rich.console import Console

    progress, stream = plan(), io.StringIO()
    progress.start(1)
    with Bar(progress, Console(file=stream, force_terminal=True, width=100, markup=False, highlight=False)) as bar:
        bar.say("[1/5] [bold]train[/bold] a")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "[1/5] [bold]train[/bold] a" in text
    assert "0 %  3 min 20 s left" in text
    assert "next table: one in about 1 min 40 s; now: train a" in text


def event(kind: Any, level: int = logging.INFO, msg: str = "", **fields: Any) -> logging.LogRecord:
    record = logging.LogRecord("snakemake.logging", level, "", 0, msg, (), None)
    vars(record).update(event=kind, **fields)
    return record


def test_a_failed_job_shows_the_end_of_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from console import TAIL, Console
    from snakemake_interface_logger_plugins.common import LogEvent

    log = tmp_path / "a.log"
    log.write_text("".join(f"line {k}\n" for k in range(100)) + "ValueError: [b]broken[/b]\n")
    shown = Console(SimpleNamespace(), None)
    before = signal.getsignal(signal.SIGINT)
    try:
        shown.begin(plan(), [])
    finally:
        signal.signal(signal.SIGINT, before)
    failure = event(LogEvent.JOB_ERROR, logging.ERROR, jobid=1, rule_name="train", log=[str(log)])
    for record in (
        event(LogEvent.JOB_INFO, jobid=1),
        event(LogEvent.ERROR, logging.ERROR, "CalledProcessError in file train.smk: Command ..."),
        failure,
        event(None, msg="Trying to restart job 1."),
        event(LogEvent.JOB_FINISHED, job_id=1),
        event(LogEvent.JOB_ERROR, logging.ERROR, jobid=2, rule_name="train", log=[str(tmp_path / "none.log")]),
        event(None, logging.ERROR, "Exiting because a job execution failed. Look above for error messages"),
    ):
        shown.handle(record)
    shown.close()
    shown.close()
    out, err = capsys.readouterr()
    tail = [line for line in err.splitlines() if line.startswith("  | ")]
    assert tail == [*(f"  | line {k}" for k in range(101 - TAIL, 100)), "  | ValueError: [b]broken[/b]"]
    assert f"more: less {log}" in err
    assert "it is tried again" in out
    assert re.search(r"^\[1/5 +\d+ %.*\] train a  ", out, flags=re.MULTILINE)
    assert "FAILED train b" in err
    assert "it has left no log" in err
    assert err.count("1 job failed: train b") == 1
    assert "CalledProcessError" not in err
    assert "Exiting because" not in err


def test_a_run_goes_on_when_nobody_listens_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `make reproduce | head -1`."""
    from console import Console
    from snakemake_interface_logger_plugins.common import LogEvent

    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        shown = Console(SimpleNamespace(), None)
        before = signal.getsignal(signal.SIGINT)
        try:
            shown.begin(plan(), ["5 jobs to do"])
        finally:
            signal.signal(signal.SIGINT, before)
        shown.handle(event(LogEvent.JOB_INFO, jobid=1))
        shown.handle(event(LogEvent.JOB_FINISHED, job_id=1))
        shown.close()
        stream.flush()  # as Python does at the end
        assert shown.progress.done == {1}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_fake_launcher(copy_repository(tmp_path_factory.mktemp("console")), train_seconds=0.3)


@pytest.fixture(scope="module")
def planned(plans: Plans) -> str:
    """The plan of the default target at its default scale."""
    return plans.everything()


def shown(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Snakemake as make calls it."""
    return subprocess.run(
        [str(BIN / "snakemake"), "--cores", "2", *arguments],
        cwd=folder,
        env=environment() | {"BEVKD_CONSOLE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_line_a_job_and_nothing_else(clone: Path) -> None:
    done = shown(clone, "table_kitti", "run_waymo_lidar", *SMOKE)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"9 jobs to do, 2 of them trainings; about \d+ s on 2 cores", lines[0])
    assert "results/smoke/report.html" in lines[1]
    log = re.search(r"\.snakemake/log/\S+", lines[2])
    assert log
    assert "rule train:" in (clone / log[0]).read_text(), "Snakemake's own text goes on in its log"
    jobs = [line for line in lines if re.match(r"\[\d/9 +\d+ %, \d+ s left\] ", line)]
    assert len(jobs) == 9
    assert [line for line in lines if "] train kitti_lidar seed 0  " in line]
    assert [line for line in jobs if line.endswith("results/smoke/tables/kitti.md")]
    assert [line for line in lines if line.startswith("next table: kitti in about ")]
    assert re.fullmatch(r"done: 9 of 9 jobs in \d+ s", lines[-1])
    assert len(lines) == 4 + 1 + 9 + 1
    assert "rule " not in done.stdout + done.stderr
    again = shown(clone, "table_kitti", "run_waymo_lidar", *SMOKE)
    assert (again.returncode, again.stdout) == (
        0,
        "nothing to be done: everything that was asked for is there and up to date\n",
    )


@pytest.mark.slow
def test_what_is_no_run_of_jobs_says_what_it_always_said(clone: Path) -> None:
    plan = shown(clone, "table_waymo", "--dry-run", *SMOKE).stdout
    assert "rule table:" in plan
    assert plan.splitlines()[-1].startswith("estimated cost: ")
    assert "table_unidistill_s1" in shown(clone, "--list").stdout.split()
    assert "Unlocked" in (told := shown(clone, "--unlock")).stdout + told.stderr
    wrong = shown(clone, "table_wamyo", *SMOKE)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.splitlines()[-1] == (
        "bevkd: ConfigError: no target or file 'table_wamyo' (did you mean 'table_waymo'?)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("everybody", [True, False])
def test_ctrl_c_ends_with_a_word_and_the_same_command_goes_on(clone: Path, everybody: bool) -> None:
    (clone / "train_seconds").write_text("120")
    target, name = ("run_camera_fresh", "camera_fresh") if everybody else ("run_curve_lidar_half", "curve_lidar_half")
    command = [str(BIN / "snakemake"), "--cores", "2", target, *SMOKE]
    with subprocess.Popen(
        command,
        cwd=clone,
        env=environment() | {"BEVKD_CONSOLE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 120
        log = clone / "results" / "logs" / "smoke" / "train" / f"{name}-seed0.log"
        while not log.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        asked = time.monotonic()
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=110)
    assert time.monotonic() - asked < 60, "jobs are asked to stop, not waited for"
    assert process.returncode == 130
    assert re.search(r"interrupted after \d+ s, \d of \d jobs done; run the same command to go on\n$", out), out
    assert "FAILED" not in out
    assert "Error" not in out
    (clone / "train_seconds").write_text("0")
    again = shown(clone, target, *SMOKE)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of them trainings" in again.stdout


@pytest.mark.slow
def test_a_target_for_each_run(plans: Plans) -> None:
    from bevkd.config import load_rows, rows_at
    from bevkd.config.chain import with_needed

    listed = set(plans.printed("--list").split())
    assert listed >= {f"run_{name}" for name in load_rows()}
    plan = plans("run_unidistill_p4", "run_tune_lidar_lr_half", "--cores", "1", "--config", "scale=smoke")
    models = set(re.findall(r"output: results/runs/smoke/(\w+/seed\d)/model.pt", plan))
    rows = rows_at("smoke")
    asked = [("unidistill_p4", seed) for seed in rows["unidistill_p4"].seeds]
    assert models == {f"{run}/seed{seed}" for run, seed in with_needed([*asked, ("tune_lidar_lr_half", 0)], rows)}
    evaluated = set(re.findall(r"unidistill_p4/seed\d/metrics_val.json", plan))
    assert len(evaluated) == len(asked)
    assert "tune_lidar_lr_half/seed0/metrics_tune.json" in plan
    assert "tune_lidar_lr_half/seed0/metrics_val.json" not in plan, "tuning never looks at the reported split"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tabel_unidistill_s1",), "did you mean 'table_unidistill_s1'?"),
        (("--forcerun", "tarin", "--", "all"), "did you mean 'train'?"),
        (("--config", "scale=xyz"), "paper, sim, smoke"),
        (("--config", "gpus=many"), "gpus"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_line(clone: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(clone, "snakemake", "--dry-run", "--cores", "1", *arguments, ok=False)
    assert done.returncode in (1, 2)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("bevkd: ConfigError: ")
    assert words in last
    assert "Traceback" not in done.stdout
    assert "WorkflowError" not in done.stdout


@pytest.mark.slow
def test_headline_tables_come_first(planned: str) -> None:
    """Paper by paper, in the order of the page; then all others."""
    found = re.findall(r"rule (\w+):\n((?:    .*\n)+)", planned.partition("This was a dry-run")[0])
    first = {}
    for rule, body in found:
        wildcards = dict(re.findall(r"(\w+)=([^,\n]+)", (re.search("wildcards: .*", body) or [""])[0]))
        priority = int((re.search(r"priority: (\d+)", body) or [0, 0])[1])
        first[rule, wildcards.get("run") or wildcards.get("table")] = priority
    assert first["train", "camera_base"] > first["train", "kitti_lidar"] > first["train", "le_l_to_c"]
    assert first["train", "le_l_to_c"] > max(first["train", "s5_p2"], first["train", "s3_p2"])
    assert first["evaluate", "unidistill_p2"] > first["train", "unidistill_p2"], "a table waits for it"
    assert first["train", "fusion_base"] > first["train", "unidistill_p2"], "teachers first"
    tables = [priority for (rule, _), priority in first.items() if rule == "table"]
    assert min(tables) > max(priority for (rule, _), priority in first.items() if rule in ("train", "evaluate"))


@pytest.mark.slow
def test_the_page_is_made_anew_after_each_table_figure_and_part(planned: str) -> None:
    made = re.findall(r"launch.py 0 (table|figure|part) (\S+) .*--page", planned)
    counts = {kind: sum(one == kind for one, _ in made) for kind in ("table", "figure", "part")}
    tables, figures = (of_target(load("smoke"), "all") for load in (load_tables, load_figures))
    parts = {item.part for item in (*tables.values(), *figures.values())}
    assert counts == {"table": len(tables), "figure": len(figures), "part": len(parts)}


def test_a_job_that_ends_before_the_interrupt_is_heard_has_not_failed(capsys: pytest.CaptureFixture[str]) -> None:
    from console import Console
    from snakemake_interface_logger_plugins.common import LogEvent

    shown = Console(SimpleNamespace(), None)
    shown.progress = plan()
    late = threading.Timer(0.2, shown.heard.set)
    late.start()
    shown.handle(event(LogEvent.JOB_ERROR, logging.ERROR, jobid=1, rule_name="train", log=[]))
    late.join()
    assert capsys.readouterr() == ("", "")
    assert shown.failed == {}


def test_an_interrupt_that_went_astray_is_repeated_until_it_is_heard() -> None:
    from console import Console

    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    shown = Console(SimpleNamespace(), None)
    try:
        shown.begin(plan(), [])
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 30
        while len(heard) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        shown.handle(event(None, msg="Terminating processes on user request, this might take some time."))
        count = len(heard)
        time.sleep(1.5)
        assert len(heard) == count
        assert shown.heard.is_set()
    finally:
        signal.signal(signal.SIGINT, before)
