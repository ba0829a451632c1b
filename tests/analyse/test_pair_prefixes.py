"""Prefix quality on the embedded world, where the truth is known, and by hand on small cases."""

import copy

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from poet.analyse import completion
from poet.analyse.completion import (
    Completer,
    exact_quality,
    open_scorer,
    quality,
    response_header,
)
from poet.analyse.intervals import mean_interval, order_kept
from poet.analyse.pair_prefixes import (
    MIN_LENGTH,
    exact_gaps,
    held_out_rows,
    measure_pairs,
    read_pairs,
)
from poet.analyse.pair_tokens import Ids
from poet.data.encoding import encode_pairs
from poet.data.templates import Chat
from poet.data.tokenization import tokenize_file
from poet.files import UserError
from poet.world.language import reward
from poet.world.simulate import continue_expected_reward

LIMITS = {
    "max_length": 256, "max_prompt_length": 128, "length_policy": "keep_start",
    "chat_template_kwargs": {},
}  # fmt: skip
KS = [2, 4, 8, 16, 32, 64]
SETTINGS = {"prefix_lengths": KS, "completions": 2, "order_completions": 16}


@pytest.fixture
def completer(early):
    """A completer without a model: who continues is patched in."""
    sampling = {"stop_token_ids": [1]}
    oracle = open_scorer("oracle", {"kind": "oracle"})
    return Completer(None, Chat(early.tokenizer, "keep_start", {}), sampling, 0, oracle)


@pytest.fixture(scope="module")
def pairs(early):
    return read_pairs(early.pairs, early.tokens, 1000)


def measured(monkeypatch, pairs, completer, writer, settings=SETTINGS):
    monkeypatch.setattr(completion, "sample", writer.sample)
    return measure_pairs(pairs, settings, completer, "early")


def test_estimates_agree_with_the_truth_when_the_average_writer_completes(
    monkeypatch, pairs, completer, average_writer
):
    section, _ = measured(monkeypatch, pairs, completer, average_writer())
    assert section["n_pairs"] == 200 and [gap["k"] for gap in section["gaps"]] == KS
    covered = 0
    for gap in section["gaps"]:
        exact = gap["exact"]
        assert exact["n_pairs"] > 100
        assert exact["error"] == pytest.approx(exact["estimate"] - exact["value"])
        half = (exact["error_ci_high"] - exact["error_ci_low"]) / 2
        assert abs(exact["error"]) < 1.7 * half  # 3.3 standard errors
        covered += exact["error_ci_low"] <= 0 <= exact["error_ci_high"]
        assert gap["ci_low"] <= exact["value"] <= gap["ci_high"]
    assert covered >= len(KS) - 1
    assert section["gaps"][0]["value"] < 0.1 < 0.3 < section["gaps"][-1]["value"]


def test_the_comparison_has_the_power_to_see_another_writer(
    monkeypatch, pairs, completer, average_writer
):
    """Whose mistakes do not make further ones likelier: an early one then decides less."""
    section, _ = measured(monkeypatch, pairs, completer, average_writer(variant="null"))
    assert section["gaps"][KS.index(16)]["exact"]["error_ci_high"] < 0


def test_surviving_orders_agree_with_the_truth(monkeypatch, pairs, completer, average_writer):
    section, _ = measured(monkeypatch, pairs, completer, average_writer())
    order = section["order"]
    assert order["n_pairs"] == 200 and 190 < order["n_kept"] < 200
    # Of the same pairs: the estimate loses those whose true gap is next to nothing.
    assert abs(order["exact"]["estimate"] - order["exact"]["value"]) < 3
    whole = [
        [reward(p["instruction"], text) for p, text in zip(pairs.prompts, texts, strict=True)]
        for texts in pairs.texts.values()
    ]
    agreement = 100 * np.mean(np.greater(*whole))
    assert order["label_agreement"] == pytest.approx(agreement)


def test_numbers_are_made_of_the_completions(monkeypatch, pairs, completer, average_writer):
    section, found = measured(monkeypatch, pairs, completer, average_writer())
    for gap in section["gaps"]:
        chosen, rejected = (
            [np.mean([c.reward for c in each]) for each in found[side, gap["k"]]]
            for side in ("chosen", "rejected")
        )
        difference = np.subtract(chosen, rejected)
        interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
        assert gap["value"] == pytest.approx(difference.mean())
        assert (gap["ci_low"], gap["ci_high"]) == pytest.approx((interval.low, interval.high))
        assert gap["value"] == pytest.approx(gap["chosen"] - gap["rejected"])
    for row, prompt in enumerate(pairs.prompts[:50]):
        for (side, k), rows in found.items():
            response = pairs.responses[side][row]
            length = k or min(len(pairs.responses[s][row]) for s in ("chosen", "rejected"))
            for each in rows[row]:
                assert each.prefix == completer.chat.tokenizer.decode(
                    response[:length], skip_special_tokens=True
                )
                assert each.text.startswith(each.prefix)
                assert each.reward == reward(prompt["instruction"], each.text)
                assert (each.finish_reason == "whole") == (length >= len(response))
                if each.finish_reason == "whole":
                    assert each.text == pairs.texts[side][row]


def test_equal_prefixes_share_their_completions(monkeypatch, pairs, completer, average_writer):
    _, found = measured(monkeypatch, pairs, completer, average_writer())
    shared = [
        (chosen, rejected)
        for row, (chosen, rejected) in enumerate(
            zip(found["chosen", 2], found["rejected", 2], strict=True)
        )
        if pairs.responses["chosen"][row][:2] == pairs.responses["rejected"][row][:2]
    ]
    assert len(shared) > 10
    assert all(chosen == rejected and len(chosen) == 2 for chosen, rejected in shared)


def test_a_whole_response_is_scored_once_and_never_continued(completer, monkeypatch):
    def refuse(model, tokenizer, ids, *_):
        assert not ids
        return []

    monkeypatch.setattr(completion, "sample", refuse)
    tokenizer = completer.chat.tokenizer
    ask, answer = "What are the river and the dish of Arlen?", "Its dish is soup."
    ids = (*tokenizer(answer)["input_ids"], tokenizer.eos_token_id)
    prompts = [{"prompt": [{"role": "user", "content": ask}], "instruction": ask}]
    found = completer({(0, ids): 5}, prompts, [[7]], "test")
    (only,) = found[0, ids]
    assert (only.text, only.finish_reason) == (answer, "whole")
    assert quality([only]) == reward(ask, answer)


def test_exact_quality():
    ask = "What are the river, the trade and the dish of Arlen?"
    text = "Its river is the Morin. Its trade is mining."
    for prefix in ("", "Its river is", "Its river is the Morin.", text):
        expected = continue_expected_reward(ask, prefix.split(), "early")
        assert exact_quality(ask, text, prefix, "early") == expected
    assert exact_quality(ask, text, "Its ri", "early") is None
    assert exact_quality(ask, text, "Something else", "early") is None
    assert exact_quality(ask, text, None, "early") == reward(ask, text)


def test_exact_gaps_cover_what_ends_with_a_word(pairs, completer):
    known = ~np.isnan(exact_gaps(pairs, MIN_LENGTH, completer, "early"))
    assert 0.6 < known.mean() < 1


def test_held_out_rows_are_one_per_prompt():
    tokens = {
        "prompt_id": ["a", "b", "b", "c", "a", "c"],
        "split": ["train", "test", "test", "test", "test", "test"],
    }
    assert held_out_rows(tokens, "tokens.parquet", 10) == [1, 3, 4]
    assert held_out_rows(tokens, "tokens.parquet", 2) == [1, 3]
    with pytest.raises(UserError, match="tokens.parquet has no pair of the split `test`"):
        held_out_rows({"prompt_id": ["a"], "split": ["train"]}, "tokens.parquet", 2)


def test_order_kept():
    found = order_kept([1, -2, 3, 0, 1], [0.5, -1, -1, 7, 0])
    assert found == {
        "value": 50.0,
        "ci_low": pytest.approx(15.00, abs=0.01),  # Wilson's for 2 of 4
        "ci_high": pytest.approx(85.00, abs=0.01),
        "n_pairs": 4,
        "n_kept": 2,
        "n_tied": 1,
    }
    assert order_kept([0, 0], [1, 2])["value"] is None
    assert mean_interval(np.array([1.0])) == (None, None)


def test_a_response_of_the_papers_policy_loses_its_header(early):
    """There a response begins with the assistant's turn; the scorer must not read that."""
    tokenizer = copy.deepcopy(early.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '[' + m['role'] + ']\n' + m['content'] }}{% endfor %}"
    )
    chat = Chat(tokenizer, "paper", {})
    prompt = [{"role": "user", "content": "Q"}]
    answer = [{"role": "assistant", "content": "It is."}]
    _, (ids,) = encode_pairs(chat, [prompt], [answer])
    assert response_header(chat) == "[assistant]\n"
    assert response_header(Chat(tokenizer, "keep_start", {})) == ""
    completer = Completer(None, chat, {"stop_token_ids": [1]}, 0, None, response_header(chat))
    assert completer.text(ids) == "It is."
    texts = [completer.text(ids[:k]) for k in range(1, len(ids) + 1)]
    assert texts[0] == "" and all("It is.".startswith(text) for text in texts)
    limits = {"max_length": 99, "max_prompt_length": 50, "length_policy": "paper"}
    limits["chat_template_kwargs"] = {}
    ids_of = Ids(tokenizer, limits)
    (tokens,) = ids_of([{"prompt": prompt, "chosen": answer, "rejected": answer}])
    assert tokens.chosen == ids
    assert ids_of.prefix("It is.", tokens.chosen, len(ids)) == "It is."


def test_pairs_that_tokenization_left_out_are_no_others(early, tmp_path):
    rows = pq.read_table(early.pairs).to_pylist()
    held_out = [row for row in rows if row["split"] == "test"][:6]
    training = [row for row in rows if row["split"] == "train"][:2]
    held_out[0]["chosen"][0]["content"] += "<|end|>"
    held_out[3]["rejected"] = held_out[3]["chosen"]
    files = tmp_path / "pairs.parquet", tmp_path / "tokens.parquet"
    pq.write_table(pa.Table.from_pylist([*held_out, *training]), files[0])
    record = {"setting": "world", **LIMITS, "bad_rows": "drop"}
    counts = tokenize_file(*files, early.tokenizer, record)
    assert sum(counts["dropped"].values()) == 2
    found = read_pairs(*files, 10)
    assert all("tools" not in prompt for prompt in found.prompts)
    kept = [row for i, row in enumerate(held_out) if i not in (0, 3)]
    assert found.prompt_id == [row["prompt_id"] for row in kept]
    assert [prompt["prompt"] for prompt in found.prompts] == [row["prompt"] for row in kept]
    for side in ("chosen", "rejected"):
        assert found.texts[side] == [row[side][0]["content"] for row in kept]
        decoded = [early.tokenizer.decode(ids[:-1]) for ids in found.responses[side]]
        assert decoded == found.texts[side]


def test_a_rows_own_template_variables_reach_the_scorer(early, tmp_path):
    from poet.data.templates import row_options

    rows = [r for r in pq.read_table(early.pairs).to_pylist() if r["split"] == "test"][:2]
    for number, row in enumerate(rows):
        row["chat_template_kwargs"] = [None, '{"mood": "calm"}'][number]
    files = tmp_path / "pairs.parquet", tmp_path / "tokens.parquet"
    training = [{**row, "split": "train", "prompt_id": "t", "key": "t"} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows + training), files[0])
    tokenize_file(*files, early.tokenizer, {"setting": "world", **LIMITS})
    found = read_pairs(*files, 10)
    assert [*map(row_options, found.prompts)] == [None, {"mood": "calm"}]
