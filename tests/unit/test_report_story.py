from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bevkd.config import ConfigTree, Paper, load_papers, load_rows
from bevkd.errors import ConfigError
from bevkd.report import effects, story
from bevkd.report.claims import Finding
from bevkd.report.effects import Mark
from bevkd.report.metrics import METRICS, metric
from bevkd.report.pages import load_page
from bevkd.report.spec import load_claims
from bevkd.report.story import Headline, Point, points

ROWS, CLAIMS, PAPERS = load_rows(), load_claims(), load_papers()
NAN = math.nan
BASE = Finding(
    paper="P",
    claim="c",
    statement="It helps.",
    metric="mAP",
    effect=1.0,
    ci_low=-1.0,
    ci_high=3.0,
    n=3,
    control_effect=NAN,
    verdict="inconclusive",
    control_run="",
    control_ci_low=NAN,
    control_ci_high=NAN,
    paper_effect=NAN,
    kind="greater",
    margin=NAN,
    better="a",
    than="b",
    over="seeds",
    note="",
)


def headline(name: str, verdict: str, effect: tuple[float, float, float], control=(NAN, NAN, NAN), **more) -> Headline:
    run = "" if math.isnan(control[0]) else "lidar_reweighted"
    more = {"verdict_holm": verdict} | more
    line = replace(BASE, claim=name, verdict=verdict, effect=effect[0], ci_low=effect[1], ci_high=effect[2], **more)
    line = replace(
        line, control_effect=control[0], control_ci_low=control[1], control_ci_high=control[2], control_run=run
    )
    return Headline(name, more.get("paper", "P"), line, story.control_name(line, ROWS))


GOOD = headline("good", "reproduced", (6.0, 4.0, 8.0), (3.5, 2.0, 5.0))
BETTER = headline("better", "reproduced", (9.0, 5.0, 13.0), (4.0, 1.0, 7.0))
BAD = headline("bad", "contradicted", (-2.0, -3.0, -1.0), (-3.0, -4.0, -2.0))
OPEN = headline("open", "inconclusive", (1.0, -1.0, 3.0), (0.2, -1.0, 1.4))
LOST = headline("lost", "inconclusive", (1.0, 0.5, 1.5), (-1.0, -1.5, -0.5))
ALONE = {"verdict_holm": "inconclusive", "p_holm": 0.3}
NOT_ALL = headline("not all", "reproduced", (9.9, 8.0, 11.8), (6.0, 5.0, 7.0), p_value=0.012, **ALONE)
NOR_BAD = headline("nor bad", "contradicted", (-9.9, -11.8, -8.0), p_value=0.0004, **ALONE)


def said(found: list[Point]) -> list[tuple[str, list[str], int]]:
    return [(point.kind, [item.label for item in point.items], point.total) for point in found]


def test_points_are_counts_of_the_ledger_the_clearest_first():
    assert said(points([GOOD, BAD, OPEN, LOST, BETTER])) == [
        ("reproduced", ["better", "good"], 5),
        ("contradicted", ["bad"], 5),
        ("inconclusive", ["open", "lost"], 5),
    ]


def test_what_does_not_survive_the_correction_is_no_finding():
    found = points([OPEN, NOT_ALL, BAD, NOR_BAD], [replace(NOT_ALL, paper="q")])
    assert said(found) == [
        ("reproduced", [], 4),
        ("contradicted", ["bad"], 4),
        ("inconclusive", ["nor bad", "not all", "open"], 4),
    ]
    assert found[0].also == ()
    assert [point.corrected for point in found] == [0, 0, 2]
    assert [item.finding.correction for item in found[2].items] == [
        "after Holm's correction (p <0.001 before)",
        "after Holm's correction (p 0.012 before)",
        "",
    ]


def test_a_gain_of_a_ledger_without_the_correction_is_no_finding():
    (none, left) = points([headline("of before", "reproduced", (6.0, 4.0, 8.0), verdict_holm="")])
    assert said([none, left]) == [("reproduced", [], 1), ("inconclusive", ["of before"], 1)]
    assert left.items[0].finding.correction == "until corrected (ledger of before)"
    null = headline("null", "reproduced", (0.1, -0.2, 0.3), kind="no_difference", verdict_holm="")
    assert said(points([null])) == [("reproduced", ["null"], 1)], "nulls and bounds are not corrected"


def test_null_results_are_points_too():
    assert said(points([OPEN])) == [("reproduced", [], 1), ("inconclusive", ["open"], 1)]
    assert points([]) == []


def test_where_no_headline_of_a_paper_is_reproduced_its_clearest_other_gain_is_named():
    others = [
        replace(headline("weak", "reproduced", (1.0, 0.5, 1.5)), paper="q"),
        replace(headline("strong", "reproduced", (3.0, 2.0, 4.0)), paper="q"),
        replace(headline("cost", "reproduced", (9.0, 8.0, 9.9), metric="loss_time_live"), paper="r"),
        replace(headline("null", "reproduced", (0.1, -0.2, 0.3), kind="no_difference"), paper="r"),
        headline("same paper", "reproduced", (9.0, 8.0, 9.9)),
    ]
    assert [item.label for item in points([GOOD], others)[0].also] == ["strong"]


def test_effects_are_told_in_the_units_of_the_field():
    assert GOOD.gain() == "+6.0 mAP [+4.0, +8.0]"
    assert GOOD.over_control() == "+3.5 mAP [+2.0, +5.0]"
    assert GOOD.control == "heat-map loss doubled, no teacher"
    assert headline("h", "inconclusive", (12.0, 10.0, 14.0), metric="mAOE").gain() == "+0.120 rad [+0.100, +0.140]"
    assert headline("h", "inconclusive", (1.0, NAN, NAN)).gain() == "+1.0 mAP —"
    assert headline("h", "inconclusive", (1.0, 0.0, 2.0)).over_control() == ""


def test_errors_are_shown_in_their_own_units_and_all_else_as_printed():
    units = {key: (m.shown.unit, m.shown.factor) for key, m in METRICS.items() if m.shown.factor != 1}
    assert units == {
        "mATE": ("m", 0.01),
        "mASE": ("1 - IoU", 0.01),
        "mAOE": ("rad", 0.01),
        "mAVE": ("m/s", 0.01),
        "mAAE": ("1 - acc", 0.01),
    }
    assert metric("mAVE@range:0-20").shown.text(251.37) == "2.514"
    assert metric("mAP").shown.text(NAN) == "—"


def test_marks_lie_where_their_numbers_are():
    (axis,) = effects.axes([GOOD, BAD])
    low, high = -4.0 - 0.04 * 12, 8.0 + 0.04 * 12

    def place(value: float) -> float:
        return pytest.approx(100 * (value - low) / (high - low), abs=0.01)

    assert (axis.unit, axis.zero) == ("%", place(0.0))
    assert axis.lines[0].baseline == Mark(place(6.0), place(4.0), place(8.0))
    assert axis.lines[1].control == Mark(place(-3.0), place(-4.0), place(-2.0))
    assert axis.lines[0].paper is None
    assert all(0 <= at <= 100 for at, _ in axis.ticks)
    assert [text for _, text in axis.ticks] == ["-4", "-2", "0", "+2", "+4", "+6", "+8"]


def test_each_unit_has_its_own_axis_and_a_single_pair_no_ends():
    single = headline("one", "inconclusive", (5.0, NAN, NAN), metric="mAVE", paper_effect=3.0)
    axes = effects.axes([GOOD, single, OPEN])
    assert [(axis.unit, len(axis.lines)) for axis in axes] == [("%", 2), ("m/s", 1)]
    (line,) = axes[1].lines
    assert (line.baseline.low, line.control) == (None, None)
    assert line.paper is not None
    assert line.paper.at < line.baseline.at
    assert effects.axes([headline("none", "inconclusive", (0.0, 0.0, 0.0))])[0].zero == 50.0


@pytest.mark.parametrize(("low", "high"), [(-0.03, 0.04), (-4.5, 8.5), (0.0, 1.0), (-1e-4, 2e3), (-7.0, -0.5)])
def test_ticks_are_few_round_and_inside(low: float, high: float):
    found = effects.ticks(low, high)
    assert 2 <= len(found) <= 11
    assert all(low <= value <= high for value in found)
    assert len({round(b - a, 9) for a, b in pairwise(found)}) == 1


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (NAN, 1.0)])
def test_there_are_no_ticks_without_a_range(low: float, high: float):
    with pytest.raises(ValueError, match="no range"):
        effects.ticks(low, high)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_has_a_title_and_a_question(paper: str):
    page = load_page(PAPERS[paper], CLAIMS)
    assert page.title
    assert page.question.endswith("?") or "?" in page.question
    assert all(CLAIMS[claim].part == paper for claim in page.headline)


def elsewhere(paper: str, folder: Path) -> Paper:
    """A paper whose `page.yaml`, if there is one, lies in another configuration."""
    return replace(PAPERS[paper], tree=ConfigTree((folder,)))


def test_a_paper_without_a_page_has_its_name_and_its_first_claims(tmp_path: Path):
    page = load_page(elsewhere("label_efficiency", tmp_path), CLAIMS)
    assert (page.title, page.question) == ("Label efficiency", "")
    assert list(page.headline) == ["le_l_to_c", "le_lc_to_c", "ll_lc_to_c"], "those with controls, of the default tier"
    assert page.headline["le_l_to_c"] == CLAIMS["le_l_to_c"].statement
    names = list(load_page(elsewhere("unidistill", tmp_path), CLAIMS).headline)
    assert "path1_map" in names
    assert "path1_nds" not in names, "one claim for each comparison"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: X\n", r"page\.yaml.*titel.*title"),
        ("headline: {path1_mapp: X}\n", r"page\.yaml: headline: 'unidistill' has no claim 'path1_mapp'.*path1_map"),
        ("headline: {le_l_to_c: X}\n", r"'unidistill' has no claim 'le_l_to_c'"),
        ("title: [1]\n", r"page\.yaml"),
    ],
)
def test_a_wrong_page_is_refused(tmp_path: Path, text: str, message: str):
    folder = tmp_path / "papers" / "unidistill"
    folder.mkdir(parents=True)
    (folder / "page.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_page(elsewhere("unidistill", tmp_path), CLAIMS)
