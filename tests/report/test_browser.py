"""The page in a real browser: headless Chromium from Debian, driven by playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_kit import kernel_report, loop_report

from tilec.report import differences, page

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install tilec[test]"
)


def executable() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} (apt-get install chromium-headless-shell)")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        yield made
        made.close()


class Opened:
    """A page with what its console said."""

    def __init__(self, browser: Any, html: str, folder: Path, **options: Any) -> None:
        file = folder / "page.html"
        file.write_text(html, encoding="utf-8")
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.seconds = self.load(file.as_uri())

    def load(self, url: str) -> float:
        """Seconds until the page says that it is drawn."""
        start = time.perf_counter()
        self.page.goto(url)
        self.page.wait_for_selector("body[data-ready]")
        return time.perf_counter() - start

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found

    def count(self, selector: str) -> int:
        found: int = self.page.locator(selector).count()
        return found


@pytest.fixture
def attention(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(browser, page([kernel_report("attention")]), tmp_path)
    yield opened
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("file:")] == []
    opened.context.close()


def test_it_opens_quickly_with_all_charts(attention: Opened) -> None:
    again = [attention.load(attention.page.url) for _ in range(3)]
    assert min(attention.seconds, *again) < 2  # the machine may be busy with other things
    made = kernel_report("attention")["loops"][0]
    plan = made["plans"][0]
    assert attention.count("#chart-gantt g.bar") == len(plan["bars"]) * (plan["stages"] + 3)
    for chart in ("wheel", "rings"):
        assert attention.count(f"#chart-{chart} g.bar") > 0
    assert attention.count("#chart-front circle") == len(made["plans"])
    assert attention.count("#chart-roof circle") == len(made["plans"])
    assert attention.texts("#why .head") == ["An iteration every 2080 cycles, and no plan has fewer."]


def marked(opened: Opened) -> list[str]:
    return [text.split(None, 1)[-1] for text in opened.texts("#lines .row.on")]


def test_hovering_a_bar_marks_its_line_and_its_other_bars(attention: Opened) -> None:
    attention.page.locator('#chart-wheel g.bar[aria-label^="dot.42,"]').first.hover()
    assert marked(attention) == ["s = tl.dot(q, tl.trans(k)) * (LOG2E / D**0.5)"]
    on = attention.page.locator("g.bar.on").evaluate_all("bars => [...new Set(bars.map(b => b.dataset.op))]")
    assert on == ["dot.42"]
    attention.page.locator("#why h2").hover()
    assert marked(attention) == []


def test_hovering_a_line_marks_its_bars(attention: Opened) -> None:
    attention.page.locator("#lines .row", has_text="acc = tl.dot(").first.hover()
    on = attention.page.locator("g.bar.on").evaluate_all(
        "bars => [...new Set(bars.map(b => b.dataset.op))].sort()"
    )
    assert {"dot.52", "dot.52b"} <= set(on) and "dot.42" not in on


@pytest.mark.parametrize(
    ("form", "word"), [("TILE", "dot"), ("AREF", "dot"), ("SCHEDULED", "dot"), ("PTX", "wgmma")]
)
def test_a_kept_op_is_marked_in_every_form(attention: Opened, form: str, word: str) -> None:
    attention.page.locator('#chart-wheel g.bar[aria-label^="dot.42b,"]').first.click()
    attention.page.get_by_role("tab", name=form).click()
    lines = marked(attention)
    assert any(word in line for line in lines)
    if form == "SCHEDULED":
        assert all("part=0" not in line for line in lines)  # the other group's product
    attention.page.keyboard.press("Escape")
    assert marked(attention) == []


def test_choosing_a_point_changes_the_schedule(attention: Opened) -> None:
    plans = kernel_report("attention")["loops"][0]["plans"]
    index = next(i for i, p in enumerate(plans) if p["kind"] == "front")
    attention.page.locator(f'#chart-front circle[aria-label^="{plans[index]["name"]}"]').click()
    [head] = attention.texts("#why .head")
    assert f"every {plans[index]['ii']} cycles" in head and "the least under" in head
    assert attention.count("#chart-gantt g.bar") == len(plans[index]["bars"]) * (plans[index]["stages"] + 3)
    [plain] = [p for p in plans if p["name"] == "plain pipeline"]
    attention.page.get_by_role("button", name="plain pipeline").first.click()
    assert f"every {plain['ii']} cycles" in attention.texts("#why .head")[0]


def test_keys_walk_over_bars_and_keep_one(attention: Opened) -> None:
    attention.page.locator('#chart-gantt g.bar[tabindex="0"]').focus()
    first = attention.page.evaluate("document.activeElement.getAttribute('aria-label')")
    attention.page.keyboard.press("ArrowRight")
    second = attention.page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first != second
    attention.page.keyboard.press("Enter")
    attention.page.locator("#why h2").hover()
    assert attention.count("g.bar.on") > 0


def test_zoom_and_steady_state(attention: Opened) -> None:
    def widest() -> float:
        found: float = attention.page.locator("#chart-gantt g.bar rect").evaluate_all(
            "r => Math.max(...r.map(x => +x.getAttribute('width')))"
        )
        return found

    before = widest()
    attention.page.get_by_role("button", name="Zoom in").click()
    attention.page.wait_for_timeout(50)
    assert widest() > 1.5 * before
    attention.page.get_by_role("button", name="Steady state").click()
    assert widest() > 2 * before


def test_a_recurrence_is_drawn_as_a_path(browser: Any, tmp_path: Path) -> None:
    opened = Opened(browser, page([loop_report("fa3-1tile")]), tmp_path)
    steps = loop_report("fa3-1tile")["loops"][0]["plans"][0]["proof"]["path"]
    assert opened.count("#chart-gantt path.path") == len(steps) > 2
    assert opened.said == [] and not opened.page.locator("aside").is_visible()


def test_two_compilations_beside_each_other(browser: Any, tmp_path: Path) -> None:
    a, b = kernel_report("gemm"), kernel_report("attention")
    opened = Opened(browser, page([a, b], ("one", "two"), differences(a, b)), tmp_path)
    assert opened.page.locator("#compare").is_visible()
    assert opened.count("#chart-compare-0 g.bar") and opened.count("#chart-compare-1 g.bar")
    opened.page.select_option("#pick-report", label="two")
    assert "2080" in opened.texts("#why .head")[0] and opened.said == []


def test_a_kernel_without_loops(browser: Any, tmp_path: Path) -> None:
    from report_kit import compiled

    from tilec.report import of_compiled

    opened = Opened(browser, page([of_compiled(compiled("softmax"))]), tmp_path)
    assert "nothing to schedule" in opened.texts("#log")[0] and opened.said == []


@pytest.mark.parametrize(("name", "width", "scheme"), [("gemm", 1280, "light"), ("attention", 390, "dark")])
def test_axe_finds_nothing(browser: Any, tmp_path: Path, name: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    opened = Opened(browser, page([kernel_report(name)]), tmp_path, viewport={"width": width, "height": 800},
                    color_scheme=scheme, bypass_csp=True)  # fmt: skip
    found = axe.Axe().run(opened.page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in found] == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.evaluate("document.documentElement.dataset.theme") == scheme
