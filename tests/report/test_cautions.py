"""Cautions: each stands where its reason does, and nowhere else."""

import json
import re

import pytest

from poet.report import cautions

METHOD = {"n_seeds": 3, "share_ended": 0.98, "lc_degenerate_seeds": 0, "share_as_start": 0.01}


def comparison(**changes) -> dict:
    methods = {"sft": METHOD | {"share_as_start": None}, "dpo": METHOD, "dpo-poet": METHOD}
    gain = {"method": "dpo-poet", "baseline": "dpo", "share_identical": 0.02}
    return {
        "setting": "own", "annotator": "judge", "n_prompts": 100, "methods": methods,
        "gains": [gain],
    } | changes  # fmt: skip


def changed(name: str, **changes) -> dict:
    methods = comparison()["methods"]
    return comparison(methods=methods | {name: methods[name] | changes})


def said(found: dict, *, annotator=None, model=None, judges=(), summaries=()) -> list[str]:
    config = {
        "annotators": {"judge": annotator or {"kind": "oracle"}},
        "settings": {"own": {"model": model or {"name": "a/model"}}},
    }
    return cautions.cautions([found], config, judges, summaries)


def judge(accuracy: float, low: float, high: float, n: int, alone: float = 0.5) -> dict:
    of = {"accuracy": accuracy, "ci_low": low, "ci_high": high, "n": n, "n_prompts": n // 2}
    lengths = {"by_length": {"chosen longer": of}, "length_alone": of | {"accuracy": alone}}
    return {"record": {"setting": "own"}, "test_accuracy": {**of, **lengths}}


def test_a_run_without_a_reason_has_none():
    assert said(comparison()) == []


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (comparison(n_prompts=99), "own: only 99 evaluation prompts"),
        (changed("dpo", share_ended=0.89), r"cut off at max_new_tokens: dpo 11 %\. Scores"),
        (changed("dpo", lc_degenerate_seeds=2), r"degenerate for dpo \(2 of 3 seeds\)"),
        (changed("dpo", share_as_start=1.0), "every answer of dpo is the very same .* learning"),
        (changed("dpo", share_as_start=0.95), r"start model's to the letter \(dpo 95 %\)"),
        (
            comparison(gains=[comparison()["gains"][0] | {"share_identical": 1.0}]),
            "every answer of dpo-poet is the very same as dpo's",
        ),
        (
            comparison(methods={n: m | {"n_seeds": 1} for n, m in comparison()["methods"].items()}),
            "own: one seed only",
        ),
    ],
)
def test_each_reason_is_said_alone(found, text):
    (sentence,) = said(found)
    assert re.search(text, sentence)


def test_where_answers_end_is_named():
    runs = [{"stop_token_ids": [7, 32007]}, {"stop_token_ids": [7]}]
    summary = {"record": {"setting": "own", "method": "dpo"}, "runs": runs}
    (sentence,) = said(changed("dpo", share_ended=0.5), summaries=[summary])
    assert "dpo 50 % (an answer ends at the token ids 7, 32007)" in sentence
    older = {"record": {"setting": "own", "method": "dpo"}, "runs": [{}]}
    assert "token ids" not in said(changed("dpo", share_ended=0.5), summaries=[older])[0]


def test_thoughts_in_answers_are_told():
    runs = [{"n_prompts": 50, "n_with_thoughts": 30}, {"n_prompts": 50}]
    summary = {"record": {"setting": "own", "method": "dpo"}, "runs": runs}
    (sentence,) = said(comparison(), summaries=[summary])
    assert "answers hold thoughts (<think>)" in sentence and "of them: dpo 30 %." in sentence
    assert said(comparison(), summaries=[{**summary, "runs": runs[1:]}]) == []


OWN = {"kind": "reward_model"}


@pytest.mark.parametrize(
    ("annotator", "judges", "text"),
    [
        (OWN, [judge(0.81, 0.66, 0.91, 32)],
         r"judge, a reward model .* right on 0\.81 \[0\.66, 0\.91\] of 32 .*\. That is too low"),
        (OWN, [judge(0.81, 0.75, 0.86, 400)],
         r"0\.81 \[0\.75, 0\.86\] of 400 held-out pairs of 200 prompts \(chosen longer 0\.81 "
         r"\[0\.75, 0\.86\], n 400\); the longer answer alone would be right on 0\.50\.$"),
        (OWN, [judge(0.81, 0.75, 0.86, 400, alone=0.78)], r"told from one that counts tokens\.$"),
        (OWN, [judge(0.66, 0.6, 0.72, 261, alone=0.64)],
         r"trust its verdicts\. It cannot be told from one that counts tokens\.$"),
        (OWN, [{"record": {"setting": "own"}, "test_accuracy": 0.8}], "accuracy is unknown"),
        (OWN, [], "accuracy is unknown"),
        (OWN | {"name": "b/reward"}, [], r"judge \(b/reward\), whose accuracy .* unknown"),
        ({"kind": "local_judge", "name": "c/lm"}, [], r"\(c/lm\), whose accuracy .* unknown"),
    ],
)  # fmt: skip
def test_the_annotator_is_named_with_its_accuracy(annotator, judges, text):
    (sentence,) = said(comparison(), annotator=annotator, judges=judges)
    assert re.search(text, sentence)


def test_a_model_from_scratch_shows_the_mechanism_only():
    (sentence,) = said(comparison(), model={"scratch": {}})
    assert "from scratch, which shows the mechanism" in sentence


def test_scores_of_an_older_run_alone_are_enough():
    """An archive of a release that did not count equal answers, without generations."""
    methods = {name: {"n_seeds": 3, "share_ended": None} for name in ("sft", "dpo")}
    older = comparison(methods=methods, gains=[{"method": "dpo", "baseline": "sft"}])
    assert said(older) == []


def test_the_program_says_each_sentence_once(tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_text(json.dumps(comparison(n_prompts=12)))
    files[1].write_text(json.dumps(comparison(n_prompts=12, annotator="other")))
    config = {
        "annotators": {"judge": {"kind": "oracle"}, "other": OWN},
        "settings": {"own": {"model": {"scratch": {}}}},
    }
    (tmp_path / "train.json").write_text(json.dumps(judge(0.8, 0.7, 0.9, 90)))
    cautions.main(
        ["--comparison", *map(str, files), "--config-json", json.dumps(config), "--judges",
         str(tmp_path / "train.json"), "--output", str(tmp_path / "c.json")]
    )  # fmt: skip
    found = json.loads((tmp_path / "c.json").read_text())
    assert [text.split(" ", 2)[1] for text in found] == ["only", "judged", "the"]


def test_a_judge_not_to_trust_is_said_before_all_else():
    found = comparison(n_prompts=12)
    for low, first in ((0.5, "judged"), (0.75, "only")):
        sentences = said(found, annotator=OWN, judges=[judge(0.8, low, 0.9, 90)])
        assert sentences[0].startswith(f"own: {first}")
