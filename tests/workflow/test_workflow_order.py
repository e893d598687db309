"""When tables stand, by the estimate: the first headline, the preview, and the budget of the papers."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from workflow_case import ROOT, Plans

from bevkd.config import load_papers, rows_at
from bevkd.config.chain import needed_by, with_needed
from bevkd.processor import cpu_has_bf16
from bevkd.report.pages import headline_table
from bevkd.report.parts import parts_of
from bevkd.report.spec import load_tables

SCRIPTS = ROOT / "workflow" / "scripts"
FIRST_HEADLINE, PREVIEW = 15, 15  # minutes on two cores


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_jobs_start_by_priority_as_cores_are_free() -> None:
    from schedule import Planned, ends

    jobs = {
        "data": Planned(10.0, threads=8, priority=5),
        "long": Planned(30.0, priority=1, waits_for=["data", "not in the plan"]),
        "short": Planned(10.0, priority=2, waits_for=["data"]),
        "last": Planned(5.0, priority=9, waits_for=["short"]),
    }
    assert ends(jobs, 2) == {"data": 5.0, "short": 15.0, "last": 20.0, "long": 35.0}
    assert ends(jobs, 1) == {"data": 10.0, "short": 20.0, "last": 25.0, "long": 55.0}
    assert ends({}, 2) == {}


def test_a_job_for_all_cores_waits_until_they_are_free() -> None:
    from schedule import Planned, ends

    jobs = {"one": Planned(4.0), "wide": Planned(8.0, threads=2, priority=-1), "other": Planned(6.0)}
    assert ends(jobs, 2) == {"one": 4.0, "other": 6.0, "wide": 10.0}


def test_jobs_that_wait_for_each_other_are_told() -> None:
    from schedule import Planned, ends

    with pytest.raises(ValueError, match="wait for each other"):
        ends({"a": Planned(1.0, waits_for=["b"]), "b": Planned(1.0, waits_for=["a"])}, 1)


@pytest.fixture(scope="module")
def everything(plans: Plans) -> str:
    """Of a clone without data, so that making them counts."""
    return plans.everything()


def headlines(plan: str) -> dict[str, int]:
    """Headline table -> minutes after the start, as a dry run says."""
    (line,) = re.findall(r"^  headline tables: (.*)$", plan, flags=re.MULTILINE)
    return {name: int(minutes) for name, minutes in re.findall(r"(\w+) after (\d+) minutes", line)}


def test_the_first_headline_table_stands_early(everything: str) -> None:
    found = headlines(everything)
    assert min(found.values()) <= FIRST_HEADLINE
    assert list(found.values()) == sorted(found.values()), "one paper after the other, as the page shows them"


def test_headline_tables_come_before_all_others_and_teachers_before_students(everything: str) -> None:
    rows, tables = rows_at("sim"), load_tables("sim")
    parts = parts_of(tables, {}, {}).values()
    first = [headline_table(load_papers()[part.paper], part.tables) for part in parts if part.target == "all"]
    assert list(headlines(everything)) == first
    wanted = {pair for name in first for pair in with_needed(tables[name].needs(rows), rows)}
    text = r"output: results/runs/sim/(\w+)/seed(\d+)/model.pt\n.*?priority: (\d+)"
    found = re.findall(text, everything, flags=re.DOTALL)
    priority = {(run, int(seed)): int(level) for run, seed, level in found}
    assert min(priority[pair] for pair in wanted) > max(priority[pair] for pair in priority.keys() - wanted)
    # Of a teacher, the seeds that nobody in the first table learns from do not hold it up.
    assert priority["lidar_base", 0] > priority["camera_base", 0] > priority["lidar_base", 5]
    for run, seed in wanted:
        assert all(priority[other] > priority[run, seed] for other in needed_by(rows[run], seed))


def test_the_preview_comes_soon(plans: Plans) -> None:
    last = plans("preview", "--cores", "2").splitlines()[-1]
    (minutes,) = re.findall(r"CPU minutes \((\d+) minutes on 2 cores\)", last)
    assert int(minutes) <= PREVIEW


def test_the_plan_says_where_this_machine_is_slower(everything: str) -> None:
    slow = not (cpu_has_bf16() or torch.cuda.is_available())
    assert ("no bfloat16: all of it takes about 3 times as long here" in everything) == slow


def test_the_plan_stays_within_its_budget(everything: str) -> None:
    budget = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["budget"]["sim"]
    lines = re.findall(r"^  (.+?) +\d+ trainings +(\d+) CPU minutes$", everything, flags=re.MULTILINE)
    spent = {name: int(minutes) for name, minutes in lines if name != "data and pages"}
    named = {name: papers for papers in budget for name in papers.split(" + ")}
    for papers, minutes in budget.items():
        assert papers == "other" or sum(spent.get(name, 0) for name in papers.split(" + ")) <= minutes, papers
    assert all(minutes <= budget["other"] for name, minutes in spent.items() if name not in named)
