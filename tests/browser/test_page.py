"""The page in a real headless Chromium, opened from disk."""

import random
import re

import pytest
from playwright.sync_api import expect

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
N = 30
# No text that was searched for may break out of the text that it is.
HOSTILE = [
    "<script>window.harmed = 1</script>",
    "</script><script>window.harmed = 1</script>",
    '<img src="x:" onerror="window.harmed = 1"> & more',
    '&lt;img src="x:" onerror="window.harmed = 1"&gt;',
    "</textarea></div></td></table><svg onload='window.harmed = 1'>",
    '"><iframe srcdoc="<script>parent.harmed = 1</script>"></iframe>',
    "javascript:window.harmed=1 <!-- <script> ]]> {{ 7 * 7 }} {% raw %}",
    "\u202eright to left\u202c \u200f\u2067 \u0634\u0643\u0631\u0627 \u0000 \ufeff \U0001f600",
    "x" * 1_000_000,
    "a long one " * 100_000,
]


@pytest.fixture(scope="module")
def plain(build):
    """Every answer names its method, seed and prompt; one prompt in five is a draw."""
    draw = random.Random(0)

    def texts(method, seed, i):
        words = " word" * draw.randrange(40)
        preference = 0.5 if i % 5 == 0 else draw.random()
        return f"Answer {i} by {method}, seed {seed}.{words}", preference

    return build(texts, N)


@pytest.fixture(scope="module")
def hostile(build):
    def texts(method, seed, i):
        return HOSTILE[i % len(HOSTILE)] if method == "dpo-poet" else f"Answer {i}.", i / 20

    return build(texts, 2 * len(HOSTILE), prompt=lambda i: HOSTILE[i % 8] + f" {i}")


class Tab:
    """A page opened in the browser, with everything that it complained about or asked for."""

    def __init__(self, chromium, path, size="desktop", scheme="light"):
        width, height = SIZES[size]
        viewport = {"width": width, "height": height}
        self.context = chromium.new_context(viewport=viewport, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#pairs tbody tr button")

    def counts(self) -> list[int]:
        """Pairs shown, of all, wins, losses, ties."""
        return [int(text) for text in re.findall(r"\d+", self.page.text_content("#counts"))]

    def column(self, table: str, number: int) -> list[str]:
        return self.page.locator(f"{table} tbody td:nth-child({number})").all_text_contents()

    def search(self, text: str) -> None:
        before = self.page.text_content("#counts")
        self.page.fill("#query", text)
        self.page.wait_for_function(
            "b => document.getElementById('counts').textContent != b", arg=before
        )


@pytest.fixture
def opened(chromium):
    tabs = []

    def open_(made, **how):
        tabs.append(Tab(chromium, made.path, **how))
        return tabs[-1]

    yield open_
    for tab in tabs:
        tab.context.close()


def outcomes(made, method="dpo-poet", baseline="dpo", seeds=(1, 2)):
    """Wins, losses and ties, from the annotations."""
    found = {"wins": 0, "loses": 0, "tie": 0}
    for seed in seeds:
        pairs = zip(made.annotations[method, seed], made.annotations[baseline, seed], strict=True)
        for ours, theirs in pairs:
            a, b = (round(100 * (row["preference"] - 1)) for row in (ours, theirs))
            found["wins" if a > b else "loses" if a < b else "tie"] += 1
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_quiet_and_readable(opened, plain, size, scheme, tmp_path):
    tab = opened(plain, size=size, scheme=scheme)
    tab.page.screenshot(path=tmp_path / f"{size}-{scheme}.png", full_page=True)
    assert tab.complaints == []
    assert tab.requests == [plain.path.as_uri()]
    # Nothing sticks out: wide tables scroll within their own frame.
    assert tab.page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    places = (
        "body",
        ".answer",
        ".cautions p",
        ".cautions li",
        ".caption",
        "nav a",
        ".win",
        ".loss",
        "#pairs td",
        "th",
        "select",
    )
    for place in places:
        assert contrast(tab.page, place) >= 4.5, place


def contrast(page, selector: str) -> float:
    """WCAG 2's contrast ratio of an element's text and the ground behind it."""
    colours = page.evaluate(
        """selector => {
          let at = document.querySelector(selector);
          const text = getComputedStyle(at).color;
          const ground = () => getComputedStyle(at).backgroundColor;
          while (ground() === "rgba(0, 0, 0, 0)") at = at.parentElement;
          return [text, ground()];
        }""",
        selector,
    )

    def luminance(colour):
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)


def test_numbers_are_those_of_main_csv(opened, plain):
    page = opened(plain).page
    heading = page.locator("#table-main thead th").all_inner_texts()
    shown = [
        dict(zip(heading, row.locator("td").all_text_contents(), strict=True))
        for row in page.locator("#table-main tbody tr").all()
    ]
    assert [row["method"] for row in shown] == [row["method"] for row in plain.main]
    for seen, row in zip(shown, plain.main, strict=True):
        interval = f"[{row['lc_ci_low']}, {row['lc_ci_high']}]"
        assert seen["LC win rate %"] == f"{row['lc_win_rate']} {interval}"
        assert seen["win rate %"] == f"{row['win_rate']} [{row['wr_ci_low']}, {row['wr_ci_high']}]"
        assert (seen["prompts"], seen["length"]) == (row["n_prompts"], row["avg_length"])
        gain = f"{row['gain_lc']} [{row['gain_lc_ci_low']}, {row['gain_lc_ci_high']}]"
        assert seen["gain LC"] == (gain if row["gain_lc"] else "")
    gain = next(row for row in plain.main if row["method"] == "dpo-poet")
    signed = f"{float(gain['gain_lc']):+.2f}".replace("-", "−")
    assert signed in page.text_content(".answer")


def test_cautions_stand_before_the_answer(opened, plain):
    page = opened(plain).page
    note = page.get_by_role("note")
    assert "only 30 evaluation prompts" in note.text_content()
    assert note.bounding_box()["y"] < page.locator(".answer").bounding_box()["y"]


def test_sorting_by_mouse_and_by_keyboard(opened, plain):
    tab = opened(plain)
    heading = tab.page.locator("#table-main thead th", has_text="LC win rate %").first
    values = sorted(float(row["lc_win_rate"]) for row in plain.main)
    number = 1 + tab.page.locator("#table-main thead th").all_inner_texts().index("LC win rate %")

    cells = tab.page.locator(f"#table-main tbody td:nth-child({number})")

    def drawn(order, direction):
        """DataTables sorts after the event has been handled, so both are waited for."""
        expect(cells).to_have_text(
            [re.compile("^" + re.escape(f"{value:.2f} ")) for value in order]
        )
        expect(heading).to_have_attribute("aria-sort", direction)

    assert values != values[::-1]
    heading.click()
    drawn(values, "ascending")
    heading.get_by_role("button").focus()  # DataTables' own, within the heading
    tab.page.keyboard.press("Enter")
    drawn(values[::-1], "descending")
    assert tab.complaints == []


def test_filters_count_what_the_annotations_say(opened, plain):
    tab = opened(plain)
    both = [outcomes(plain), outcomes(plain, "simpo-poet", "simpo")]
    sums = {key: both[0][key] + both[1][key] for key in both[0]}
    assert tab.counts() == [4 * N, 4 * N, sums["wins"], sums["loses"], sums["tie"]]
    tab.page.select_option("#comparison", "world, judge: dpo-poet over dpo")
    tab.page.select_option("#seed", "2")
    of_seed = outcomes(plain, seeds=(2,))
    assert tab.counts() == [N, 4 * N, *of_seed.values()]
    for label, key in (("POET wins", "wins"), ("POET loses", "loses"), ("tie", "tie")):
        tab.page.select_option("#outcome", label)
        assert tab.counts()[0] == of_seed[key] > 0
        assert all(label in text for text in tab.column("#pairs", 2))


def test_search_looks_into_prompts_and_both_answers(opened, plain):
    tab = opened(plain)
    tab.search("ANSWER 7 BY DPO-POET, seed 2")
    assert tab.counts()[0] == 1
    tab.search("answer 7 by dpo, ")  # the baseline's
    assert tab.counts()[0] == 2
    tab.search("Question 12?")
    assert tab.counts()[0] == 4
    tab.search("(.*")  # no pattern
    assert tab.counts()[0] == 0
    tab.search("")
    assert tab.counts()[0] == 4 * N


def test_a_pair_side_by_side_by_keyboard(opened, plain):
    tab = opened(plain)
    tab.search("Question 3?")
    tab.page.locator("#pairs tbody button").first.focus()
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "pair"
    ours, theirs = (plain.annotations[m, 1][3] for m in ("dpo-poet", "dpo"))
    for place, row in (("method", ours), ("baseline", theirs)):
        assert tab.page.text_content(f"#{place}-text") == row["output_2"]
        facts = tab.page.text_content(f"#{place}-facts")
        assert f"at {round(100 * (row['preference'] - 1))} %" in facts
        assert f"{len(row['output_2'])} characters" in facts
    assert tab.page.text_content("#prompt") == "Question 3?"
    assert tab.page.text_content("#reference") == ours["output_1"]
    tab.page.click("#next")
    assert "seed 2" in tab.page.text_content("#method-text")
    tab.page.click("#previous")
    assert "seed 1" in tab.page.text_content("#method-text")


def test_every_control_is_reached_with_tab(opened, plain):
    tab = opened(plain)
    reached = set()
    for _ in range(150):
        tab.page.keyboard.press("Tab")
        reached |= set(
            tab.page.evaluate(
                """() => {
                  const at = document.activeElement;
                  return [at.id, at.tagName, at.closest("th") ? "heading" : ""];
                }"""
            )
        )
    expected = {"query", "outcome", "comparison", "seed", "A", "BUTTON", "SUMMARY", "heading"}
    assert expected <= reached


def test_hostile_answers_harm_nothing(opened, hostile):
    tab = opened(hostile)
    tab.page.select_option("#comparison", "world, judge: dpo-poet over dpo")
    tab.page.select_option("#seed", "1")
    tab.page.locator("#pairs thead th").first.click()  # sorts by prompts
    tab.search("onerror")
    tab.search("")
    seen = set()
    tab.page.locator("#pairs tbody button").first.click()
    for _ in range(2 * len(HOSTILE)):
        more = tab.page.locator("#method-text button")
        if more.count():
            more.click()
        seen.add(tab.page.evaluate("document.getElementById('method-text').textContent"))
        tab.page.click("#next")
    assert seen == set(HOSTILE)
    assert tab.page.evaluate("window.harmed") is None
    assert (
        tab.page.locator("iframe, main svg, #answers img, #answers script:not(#data)").count() == 0
    )
    assert tab.complaints == []
    assert tab.requests == [hostile.path.as_uri()]


def test_an_injected_script_would_not_run(opened, plain):
    """The second wall: even as HTML, a model's script is refused by the page's own policy."""
    tab = opened(plain)

    def refused(directive):
        """Chromium's words around the directive change; the policy's own do not."""
        return tab.page.expect_console_message(
            lambda message: {"Policy", directive} <= set(re.findall(r"[\w-]+", message.text))
        )

    with refused("script-src"):
        tab.page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x: onerror=\"harmed=1\">')"
        )
    with refused("default-src"):
        tab.page.evaluate("fetch('data:,x').catch(() => {})")
    assert tab.page.evaluate("window.harmed") is None


def test_805_prompts_by_16_sets_of_answers(opened, build):
    texts = [f"word {i} " * 150 for i in range(50)]
    big = build(
        lambda method, seed, i: (f"{method} {seed} {i} {texts[i % 50]}", i % 11 / 10), 805 * 2
    )
    tab = opened(big)
    assert tab.counts()[:2] == [4 * 1610] * 2
    assert tab.page.locator("#pairs tbody tr").count() == 25  # the rest waits for its turn
    tab.search("dpo-poet 2 1609 ")
    assert tab.counts()[0] == 1
    assert tab.complaints == []


def test_print_shows_tables_without_controls(opened, plain):
    tab = opened(plain)
    tab.page.emulate_media(media="print")
    assert tab.page.locator("#table-main").is_visible()
    assert not tab.page.locator("#filters").is_visible()
    assert not tab.page.locator("nav").first.is_visible()
    tab.page.set_viewport_size({"width": 1046, "height": 718})  # A4 across, less its margins
    fits = "at => at.scrollWidth <= at.parentElement.clientWidth"
    assert all(table.evaluate(fits) for table in tab.page.locator("table").all())
    assert len(tab.page.pdf()) > 10_000
