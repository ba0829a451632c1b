"""The page's HTML and the answer in text, read without a browser."""

import json
import re
from html.parser import HTMLParser

import pytest

from poet.report import page

OLD = {"git_commit": "a" * 40, "git_dirty": False, "code": "1" * 16}
NEW = OLD | {"git_commit": "b" * 40, "git_dirty": True, "code": "2" * 16}
HARMFUL = "<script>window.harmed = 1</script>"
METHODS = {
    "sft": {}, "dpo": {"objective": "dpo"},
    "dpo-poet": {"objective": "dpo", "truncation": {"strategy": "poet"}},
}  # fmt: skip
GAIN = {
    "method": "dpo-poet", "baseline": "dpo", "gain_lc": 1.5, "ci_low": -2.0, "ci_high": 5.0,
    "p_value": 0.4, "p_holm": 0.4, "interval": "over prompts and seeds", "n_prompts": 12,
    "n_prompts_needed": 400, "not_measured": None, "share_identical": 0.0,
    "gain_true_reward": 0.25, "true_reward_ci_low": 0.125, "true_reward_ci_high": 0.375,
}  # fmt: skip
NOTHING = {
    "ci_low": None, "ci_high": None, "p_value": None, "p_holm": None, "n_prompts_needed": None,
    "not_measured": "identical answers", "share_identical": 1.0, "true_reward_ci_low": None,
    "true_reward_ci_high": None,
}  # fmt: skip


class Text(HTMLParser):
    """What a reader sees, and the roles in the order they begin."""

    def __init__(self, html: str):
        super().__init__()
        self.texts, self.notes, self.hidden = [], [], 0
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.hidden += tag in ("script", "style")
        if dict(attributes).get("role") == "note":
            self.notes.append(len(self.texts))

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden:
            self.texts.append(data)


@pytest.fixture
def made(tmp_path):
    """The program on one gain; returns what a reader sees, the HTML, and the text file."""

    def run(gain=GAIN, cautions=(), share_as_start=0.0, judge=None, **manifest):
        methods = {name: {"n_seeds": 3, "share_as_start": share_as_start} for name in METHODS}
        comparison = {
            "setting": "own", "annotator": "judge", "methods": methods, "gains": [gain],
        }  # fmt: skip
        config = {
            "methods": METHODS, "gains": {"dpo-poet": "dpo"}, "seeds": [1, 2, 3],
            "annotators": {"judge": {"kind": "reward_model"}, HARMFUL: {"kind": "reward_model"}},
        }  # fmt: skip
        made_of = OLD | {
            "versions": {"python": "3"}, "config": config, "config_digest": "0", "seconds": 1.5,
            "hardware": {"cpu": "a CPU", "cores": 2, "memory_gib": 8.0, "gpus": []},
            "sha256": {"main.csv": "0"}, "rules": {},
        } | manifest  # fmt: skip
        files = {
            "comparison": comparison, "manifest": made_of, "cautions": list(cautions),
            "train": judge,
        }  # fmt: skip
        for name, value in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value))
        (tmp_path / "main.csv").write_text(
            f"setting,method,annotator\nown,dpo,judge\nown,dpo,{HARMFUL}\n"
        )
        (tmp_path / "win-rates.svg").write_text("<svg/>")
        (tmp_path / "win-rates.csv").write_text("a\n")

        def path(name):
            return str(tmp_path / name)

        page.main(
            ["--manifest", path("manifest.json"), "--comparison", path("comparison.json"),
             "--cautions", path("cautions.json"), "--tables", path("main.csv"),
             "--judges", *([path("train.json")] if judge else []),
             "--figures", path("win-rates.svg"), "--output", path("index.html"),
             "--answer", path("answer.txt")]
        )  # fmt: skip
        html = (tmp_path / "index.html").read_text()
        return Text(html), html, (tmp_path / "answer.txt").read_text().splitlines()

    return run


def test_cautions_stand_before_the_answer_in_page_and_text(made):
    few = "own: only 12 evaluation prompts"
    seen, html, lines = made(cautions=[few, f"judged by {HARMFUL}"])
    assert len(seen.notes) == 1
    before = " ".join(seen.texts[: seen.notes[0]])
    assert "No effect of POET is shown" not in before
    assert seen.text.index(few) < seen.text.index("No effect of POET is shown: +1.50")
    assert HARMFUL in seen.text and HARMFUL not in html
    assert lines[0].startswith("No effect of POET is shown: +1.50 [−2.00, +5.00] points")
    assert lines[1:3] == [f"Caution: {few}", f"Caution: judged by {HARMFUL}"]
    assert lines[-2] == f"Code: commit {'a' * 12}, code {'1' * 16}."
    assert lines[-1].startswith("Page: ") and lines[-1].endswith("index.html")


def test_judges_stand_below_their_table(made):
    share = {"accuracy": 0.66, "ci_low": 0.6, "ci_high": 0.72, "n": 261, "n_prompts": 87}
    lengths = {"by_length": {"chosen shorter": share | {"n": 60}}, "length_alone": share}
    judge = {"record": {"setting": "own"}, "test_accuracy": share | lengths}
    for given, said in ((judge, "[0.60, 0.72], n 60); the longer answer"), (None, "is unknown.")):
        seen, html, _ = made(judge=given)
        below = seen.text[seen.text.index("Main table") : seen.text.index("Win rates against")]
        for name in ("judge", HARMFUL):
            assert f"Caution: own: judged by {name}, a reward model" in below
        assert said in below and HARMFUL not in html


def test_without_a_caution_there_is_no_note(made):
    seen, _, lines = made()
    assert seen.notes == [] and not [line for line in lines if line.startswith("Caution")]
    assert "True reward: +0.2500 [+0.1250, +0.3750]." in seen.text


def test_the_same_answers_are_no_verdict(made):
    seen, _, lines = made(gain=GAIN | NOTHING, share_as_start=1.0)
    assert lines[0].startswith("Whether POET helps was not measured.")
    assert "the very same as the start model's" in lines[0] and "+1.50" not in lines[0]
    assert re.search(r"not measured; \+1\.50 points, 12 prompts, 3 seeds: with and", seen.text)
    assert "[" not in lines[0] and "None" not in seen.text
    assert "True reward: +0.2500. " in seen.text


def test_a_manifest_that_names_no_code(made):
    _, _, lines = made(git_commit=None, code=None)
    assert "Caution: These results do not say which version of the code made them" in lines[1]


@pytest.mark.parametrize(
    ("made_by", "several"),
    [
        ([OLD], False),
        ([OLD, OLD | {"git_commit": "c" * 40}], False),  # only documents changed
        ([OLD, NEW], True),
        ([NEW], True),  # the page is made by another version than the results
        ([OLD, dict.fromkeys(OLD)], False),  # from a release that did not say
        ([OLD | {"code": None}], True),
        (None, False),
    ],
)
def test_several_versions_of_the_code_are_told_with_what_to_do(made, made_by, several):
    rows = made_by and [row | {"files": [f"{i}.json"]} for i, row in enumerate(made_by)]
    seen, _, lines = made(**({} if rows is None else {"made_by": rows}))
    found = [line for line in lines if "several versions of the code" in line]
    unnamed = [line for line in lines if "not say which version of the code made them" in line]
    assert len(unnamed) == bool(rows and dict.fromkeys(OLD).items() <= rows[-1].items())
    assert len(found) == several and len(seen.notes) == bool(found or unnamed)
    if several:
        assert "--forceall" in found[0] and "remove results/" in found[0]
        assert found[0].removeprefix("Caution: ") in seen.text
    if rows:
        assert "Results made by" in seen.text and "0.json" in seen.text
    if rows and NEW.items() <= rows[-1].items():
        assert f"commit {'b' * 12}, with uncommitted changes, code {'2' * 16}" in seen.text
