"""The page in a real browser: Debian's Chromium, or the one that `playwright install chromium` fetched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bevkd.config import load_rows
from bevkd.report import html
from bevkd.report.results import Results

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: install the dev extra")

pytestmark = pytest.mark.committed_results  # whose page is opened
COMMITTED = Path(__file__).resolve().parents[2] / "results"
WIDTHS = (1400, 800, 400)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Root may not use the sandbox; the others keep the browser from asking home.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
ADVICE = "no Chromium: apt-get install chromium, playwright install chromium, or name one in BEVKD_CHROMIUM"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        installed = next((path for name in NAMES if (path := shutil.which(name))), None)
        found = os.environ.get("BEVKD_CHROMIUM") or installed
        try:
            started = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except sync_api.Error as error:
            if found is not None:
                raise
            pytest.skip(f"{ADVICE} ({str(error).splitlines()[0]})")
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the committed results, in a folder of its own."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(html.context(Results(COMMITTED, "sim", load_rows(), partial=True))))
    return path


class Visit:
    """An open page; whatever it says in the console and asks of the network is kept."""

    def __init__(self, browser: Any, report: Path, width: int, scheme: str = "light", anchor: str = "") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri() + anchor)

    def rows(self, table: str = "table.filtered") -> list[tuple[str, str]]:
        """(verdict, text) of the rows that can be seen."""
        script = """(selector) => [...document.querySelectorAll(selector + ' tbody tr:not(.group)')]
            .filter((row) => row.getClientRects().length).map((row) => [row.dataset.verdict ?? '', row.innerText])"""
        return [(verdict, text) for verdict, text in self.page.evaluate(script, table)]


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Any]:
    """Opens the page; afterwards it must have been silent, and have asked for nothing but itself."""
    visits: list[Visit] = []

    def start(width: int = 1400, scheme: str = "light", anchor: str = "") -> Visit:
        visits.append(Visit(browser, report, width, scheme, anchor))
        return visits[-1]

    yield start
    for one in visits:
        one.context.close()
        assert one.said == []
        others = [url for url in one.asked if not url.startswith(("data:", report.as_uri()))]
        assert others == []


@pytest.mark.parametrize("width", [1200, 1600])
def test_numbers_of_a_headline_stay_beside_its_verdict(visit: Any, width: int):
    page = visit(width).page
    script = """[...document.querySelectorAll('.line:has(.badge)')].flatMap((line) => {
        const badge = line.querySelector('.badge').getBoundingClientRect();
        return [...line.querySelectorAll('.values span')].map((text) => {
            const range = document.createRange();
            range.selectNodeContents(text);
            return badge.left - range.getBoundingClientRect().right;
        });
    })"""
    gaps = page.evaluate(script)
    assert len(gaps) > 30
    assert min(gaps) >= 0


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(visit: Any, width: int):
    page = visit(width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What scrolls for itself does so inside the screen, and first columns stay in sight.
    places = page.evaluate("[...document.querySelectorAll('.wide')].map((box) => box.getBoundingClientRect().right)")
    assert places
    assert max(places) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_screen_holds_question_findings_and_the_start_of_the_figure(visit: Any, width: int):
    page = visit(width).page
    assert page.locator(".question").first.bounding_box()["y"] < 300
    assert page.locator(".point").first.bounding_box()["y"] < 450
    if width == 1400:
        assert page.locator(".forest .line").nth(4).bounding_box()["y"] < 900
        assert page.locator(".counts").bounding_box()["y"] < 900
    marks = page.locator(".forest .dot")
    assert marks.count() >= 10
    for i in range(marks.count()):
        box = marks.nth(i).bounding_box()
        assert 0 <= box["x"] <= width - box["width"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_shows_numbers_beside_names_however_far_it_is_scrolled(visit: Any, width: int):
    page = visit(width).page
    box = page.locator("#table-unidistill_paths ~ .wide").first
    gain = box.locator("td.gain").filter(has_text="[").first
    assert gain.bounding_box()["x"] + gain.bounding_box()["width"] <= width
    name = box.locator("tbody th[scope=row]").first
    before = name.bounding_box()["x"]
    box.evaluate("(box) => { box.scrollLeft = 10000; }")
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1)
    if width == 400:
        assert box.evaluate("(box) => box.scrollLeft") > 0


def test_a_claim_is_a_card_of_numbers_on_a_phone(visit: Any):
    page = visit(400).page
    card = page.locator("#claim-path1_map")
    for i in range(card.locator("td").count()):
        box = card.locator("td").nth(i).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400


def test_columns_sort_within_groups_up_down_and_back(visit: Any):
    page = visit().page
    table = page.locator("#claims-unidistill ~ .wide table").first
    effects = "(table) => [...table.querySelectorAll('tbody tr')].map((row) => parseFloat(row.children[1].textContent))"
    before = table.evaluate(effects)
    button = table.locator("thead button").nth(1)
    button.click()
    assert table.evaluate(effects) == sorted(before)
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    button.click()
    assert table.evaluate(effects) == sorted(before, reverse=True)
    button.click()
    assert table.evaluate(effects) == before
    paths = page.locator("#table-unidistill_paths ~ .wide table").first
    names = "(table) => [...table.querySelectorAll('tr.group')].map((row) => row.textContent.trim())"
    groups = paths.evaluate(names)
    paths.locator("thead button").nth(1).click()
    assert paths.evaluate(names) == groups
    for body in range(paths.locator("tbody").count()):
        texts = paths.locator("tbody").nth(body).locator("tr:not(.group) td.gain").all_inner_texts()
        numbers = [float(text.split()[0]) for text in texts if text.strip()]
        assert numbers == sorted(numbers)
        assert all(not text.strip() for text in texts[len(numbers) :]), "rows without a difference come last"


def test_rows_are_filtered_by_verdict_and_text(visit: Any):
    one = visit()
    page, every = one.page, one.rows()
    page.select_option("#filter-verdict", "contradicted")
    shown = one.rows()
    assert {verdict for verdict, _ in shown} == {"contradicted"}
    assert len(shown) == sum(verdict == "contradicted" for verdict, _ in every)
    assert page.locator("#filter-count").inner_text() == f"{len(shown)} of {len(every)} rows"
    page.fill("#filter-text", "rain MAP")
    fewer = one.rows()
    assert 0 < len(fewer) < len(shown)
    assert all({"rain", "map"} <= set(re.findall(r"[a-z]+", text.lower())) for _, text in fewer)
    assert {verdict for verdict, _ in fewer} == {"contradicted"}
    page.fill("#filter-text", "no such words anywhere")
    assert one.rows() == []
    assert page.locator("p.none:visible").count() == page.locator("table.filtered").count()
    page.fill("#filter-text", "")
    page.select_option("#filter-verdict", "")
    assert one.rows() == every
    assert page.locator("#filter-count").inner_text() == ""


def test_counts_filter_and_a_link_to_a_hidden_row_shows_it(visit: Any):
    one = visit()
    page = one.page
    page.locator("#paper-unidistill [data-filter=reproduced]").click()
    assert {verdict for verdict, _ in one.rows()} == {"reproduced"}
    assert not page.locator("#claim-path1_map").is_visible()
    page.evaluate("location.hash = '#claim-path1_map'")
    page.wait_for_function("document.getElementById('claim-path1_map').getClientRects().length > 0")
    assert page.locator("#claim-path1_map").is_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_links_of_the_bar_lead_to_headings_below_it(visit: Any, width: int):
    page = visit(width).page
    links = page.locator("nav .links a")
    assert links.count() >= 8
    for i in range(links.count()):
        target = links.nth(i).get_attribute("href")
        page.evaluate("(hash) => { location.hash = ''; location.hash = hash; }", target)
        bar = page.locator("nav").bounding_box()
        heading = page.locator(f"{target} h2").bounding_box()
        assert heading["y"] >= bar["y"] + bar["height"] - 1 or target == "#summary", target
        assert heading["y"] < 900, target


def test_every_link_has_a_target(visit: Any):
    page = visit().page
    script = "[...document.links].map((a) => a.getAttribute('href'))"
    links = set(page.evaluate(script))
    assert len(links) > 100
    missing = [link for link in links if not page.evaluate("(id) => !!document.getElementById(id)", link[1:])]
    assert missing == []


def test_a_link_opens_a_closed_config(visit: Any):
    page = visit(anchor="#config-unidistill_p1").page
    assert page.locator("#config-unidistill_p1 pre").is_visible()
    page.locator("#table-unidistill_paths ~ .wide").first.get_by_text("L without distillation").first.click()
    page.wait_for_selector("#config-lidar_further[open]")


@pytest.mark.parametrize("width", [1400, 400])
def test_figures_open_large_and_close(visit: Any, width: int):
    page = visit(width).page
    buttons = page.locator(".enlarge")
    assert buttons.count() >= 5
    for i in range(buttons.count()):
        small = buttons.nth(i).locator("img")
        assert small.evaluate("(image) => image.complete && image.naturalWidth > 0")
        assert small.bounding_box()["height"] <= 260
    buttons.first.click()
    large = page.locator("#large img")
    assert large.is_visible()
    assert large.bounding_box()["width"] > 0.8 * min(
        width, page.locator("#large img").evaluate("(i) => i.naturalWidth")
    )
    large.click()
    assert large.evaluate("(image) => image.getBoundingClientRect().width === image.naturalWidth")
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` as the accessibility guidelines define it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_in_the_dark(visit: Any, scheme: str):
    page = visit(1400, scheme).page
    back = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (back > 0.5) == (scheme == "light")
    script = """(selector) => { const of = (e) => getComputedStyle(e).backgroundColor;
        let e = document.querySelector(selector), ink = getComputedStyle(e).color;
        while (e && of(e) === 'rgba(0, 0, 0, 0)') e = e.parentElement;
        return [ink, of(e ?? document.body)]; }"""
    places = [
        ".question",
        "main .dim",
        "nav a",
        ".point h3",
        ".values .baseline",
        ".values .control",
        "header p",
        "header a",
    ]
    places += [
        *(f".badge.{verdict}" for verdict in ("reproduced", "contradicted", "inconclusive")),
        "td.paper",
        "td.gain",
    ]
    for place in places:
        one, other = sorted(map(luminance, page.evaluate(script, place)))
        assert (other + 0.05) / (one + 0.05) >= 4.5, f"{place} is hard to read"
