"""The embedded world: its reward, its laws and its files."""

import hashlib
import json
import math
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poet.files import UserError, read_jsonl
from poet.world import language
from poet.world import simulate as world

SIZES = {"sft_examples": 600, "pairs": 400, "test_pairs": 40, "prompts": 60}
OUTPUTS = {
    "pairs": "pairs.parquet",
    "corpus": "corpus.parquet",
    "prompts": "prompts.jsonl",
    "gamed": "gamed.csv",
    "tasks": "tasks",
}


@st.composite
def questions(draw):
    """(instruction, town, asked attributes)"""
    town = draw(st.sampled_from(language.TOWNS))
    asked = draw(st.permutations(language.ATTRIBUTES))[: draw(st.integers(3, 5))]
    return language.ask(draw(st.sampled_from(language.INSTRUCTIONS)), town, asked), town, asked


styles = st.sampled_from(sorted(language.STYLES))
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def plainly(town, attribute, value):
    return language.state("The {attribute} of {town} is {value}.", town, attribute, value)


def sentences(text):
    return [each.strip() + "." for each in text.split(".") if each.strip()]


# The reward


@given(questions(), generators, styles)
def test_a_perfect_answer_is_worth_one_in_every_style(question, rng, style):
    instruction, town, asked = question
    answer = language.compose(rng, town, asked, [False] * len(asked), style)
    assert language.reward(instruction, answer) == 1.0
    assert language.reward(instruction, "") == 0.0


@given(questions(), generators, styles, st.data())
def test_the_reward_is_the_documented_formula_of_the_mistakes_alone(question, rng, style, data):
    instruction, town, asked = question
    mistakes = data.draw(st.lists(st.booleans(), min_size=len(asked), max_size=len(asked)))
    answer = language.compose(rng, town, asked, mistakes, style)
    expected = max(0.0, (len(asked) - 1.5 * sum(mistakes)) / len(asked))
    assert language.reward(instruction, answer) == pytest.approx(expected)
    assert language.reward(instruction, answer.replace(" ", "\n ")) == pytest.approx(expected)


@given(questions(), generators, styles, st.data())
def test_one_wrong_fact_strictly_lowers(question, rng, style, data):
    instruction, town, asked = question
    wrong = data.draw(st.integers(0, len(asked) - 1))
    attribute = asked[wrong]
    truth = language.TRUTH[town][attribute]
    value = data.draw(st.sampled_from([v for v in language.VALUES[attribute] if v != truth]))
    answer = language.compose(rng, town, asked, [False] * len(asked), style)
    assert language.reward(instruction, answer.replace(f"{truth}.", f"{value}.")) < 1.0


@settings(max_examples=200)
@given(questions(), generators, styles, st.data())
def test_repetition_padding_and_contradiction_never_raise(question, rng, style, data):
    instruction, town, asked = question
    mistakes = data.draw(st.lists(st.booleans(), min_size=len(asked), max_size=len(asked)))
    said = sentences(language.compose(rng, town, asked, mistakes, style))
    other = data.draw(st.sampled_from([each for each in language.TOWNS if each != town]))
    attribute = data.draw(st.sampled_from(language.ATTRIBUTES))
    value = data.draw(st.sampled_from(language.VALUES[attribute]))
    more = data.draw(
        st.sampled_from(
            [
                data.draw(st.sampled_from(said)),
                data.draw(st.sampled_from(language.OPENINGS + language.CLOSINGS)).format(town=town),
                data.draw(st.sampled_from(language.ASIDES)),
                plainly(town, attribute, value),
                plainly(other, attribute, language.TRUTH[other][attribute]),
                "The river the of.",
                ".",
            ]
        )
    )
    before = language.reward(instruction, " ".join(said))
    position = data.draw(st.integers(0, len(said)))
    padded = " ".join(said[:position] + [more] + said[position:])
    assert language.reward(instruction, padded) <= before
    assert language.reward(instruction, " ".join(said) + " " + more.removesuffix(".")) <= before


@given(questions(), st.text(), st.lists(st.sampled_from("the The of is its . Arlen river".split())))
def test_any_text_has_a_reward_between_zero_and_one_and_always_the_same(question, text, words):
    for response in (text, " ".join(words)):
        first = language.reward(question[0], response)
        language.read_sentence.cache_clear()
        assert 0.0 <= first <= 1.0
        assert language.reward(question[0], response) == first


def test_worked_examples():
    """The penalties of the docstring, one by one, on a perfect answer to three questions."""
    town, asked = "Arlen", ("river", "trade", "crop")
    instruction = language.ask(language.INSTRUCTIONS[0], town, asked)
    assert instruction == "Tell me about Arlen: its river, its trade and its crop."
    perfect = [plainly(town, each, language.TRUTH[town][each]) for each in asked]
    twin = {each: plainly(town, each, language.TRUTH["Belmar"][each]) for each in language.VALUES}
    cases = {
        "": 1.0,
        perfect[0]: 1 - 0.25 / 3,
        twin["river"]: (2 - 0.5 - 0.25) / 3,
        "I hope this helps you.": 1.0,
        "I hope this helps you. I hope this helps you.": 1 - 0.25 / 3,
        plainly(town, "dish", language.TRUTH[town]["dish"]): 1 - 0.25 / 3,
        plainly("Belmar", "crop", language.TRUTH["Belmar"]["crop"]): 1 - 0.5 / 3,
        "River crop crop.": 1 - 0.5 / 3,
        "The river of": 1 - 0.5 / 3,
        "The river of Arlen is the barley.": 1 - 0.5 / 3,
    }
    for more, expected in cases.items():
        assert language.reward(instruction, " ".join([*perfect, more])) == pytest.approx(expected)
    assert language.reward(instruction, " ".join(perfect[:2])) == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="Write a poem"):
        language.reward("Write a poem.", "No.")


@given(questions(), generators)
def test_the_oracle_weighs_quality_first_and_length_mildly(question, rng):
    instruction, town, asked = question
    right, slip = [False] * len(asked), [True] + [False] * (len(asked) - 1)
    short = language.compose(rng, town, asked, right, "concise")
    long = language.compose(rng, town, asked, right, "verbose")
    worse = language.compose(rng, town, asked, slip, "verbose")
    prefer = language.oracle_preference
    assert prefer(instruction, short, short) == 1.5
    assert 1.5 < prefer(instruction, short, long) < 1.75
    assert prefer(instruction, short, worse) < 1.5
    assert prefer(instruction, long, short) == pytest.approx(3 - prefer(instruction, short, long))
    gap = language.KAPPA * 1.5 / len(asked)
    longer = math.tanh((len(short.split()) - len(worse.split())) / language.LENGTH_SCALE)
    expected = 1 / (1 + math.exp(-gap - language.LENGTH_TASTE * longer))
    assert prefer(instruction, worse, short) == pytest.approx(1 + expected)


# The writers


@pytest.mark.parametrize("variant", world.VARIANTS)
def test_the_continuation_law_is_the_mean_over_continuations(variant):
    """Against brute force: average answers that begin with the prefix, drawn from the writer."""
    town, asked = "Corvin", ("bird", "dish", "river", "trade")
    instruction = language.ask(language.INSTRUCTIONS[1], town, asked)
    rng, drawn = np.random.default_rng(1), {}
    for _ in range(12_000):
        answer = world.write_answer(rng, instruction, variant, "average", "concise")
        for cut in (0, 2, 4, 5, 7, 8, 12, 16, 17):
            prefix = tuple(answer.split()[:cut])
            drawn.setdefault(prefix, []).append(language.reward(instruction, answer))
    checked = [each for each in drawn.items() if len(each[1]) > 150]
    assert len(checked) > 15
    for prefix, rewards in checked:
        error = max(np.std(rewards) / math.sqrt(len(rewards)), 1e-9)
        law = world.continue_expected_reward(instruction, prefix, variant)
        assert abs(law - np.mean(rewards)) < 5 * error, prefix


@pytest.mark.parametrize("style", language.STYLES)
@pytest.mark.parametrize("variant", world.VARIANTS)
def test_expected_rewards_of_prefixes_average_to_the_reward(variant, style):
    """The law of total expectation, wherever the cut falls: in asides, openings, before a value."""
    rng, off = np.random.default_rng(3), {5: [], 11: [], 18: [], 27: []}
    instruction = language.ask(language.INSTRUCTIONS[2], "Quorn", language.ATTRIBUTES[:5])
    for _ in range(1000):
        answer = world.write_answer(rng, instruction, variant, "average", style)
        for cut, each in off.items():
            law = world.continue_expected_reward(instruction, answer.split()[:cut], variant)
            each.append(law - language.reward(instruction, answer))
    for each in off.values():
        assert abs(np.mean(each)) <= 4 * np.std(each) / math.sqrt(len(each)) + 1e-9


@given(questions(), generators, styles, st.sampled_from(sorted(world.VARIANTS)))
def test_a_whole_answer_is_worth_its_reward_with_or_without_its_full_stop(q, rng, style, variant):
    answer = world.write_answer(rng, q[0], variant, "weak", style)
    expected = pytest.approx(language.reward(q[0], answer))
    assert world.continue_expected_reward(q[0], answer.split(), variant) == expected
    assert world.continue_expected_reward(q[0], answer[:-1].split(), variant) == expected


@pytest.mark.parametrize(
    ("fragment", "cost"),
    [("Its crop is", 0.25), ("Its river", 0.25), ("In Belmar the", 0.5), ("Zebra", 0.5), ("As", 0)],
)
def test_a_fragment_costs_what_its_sentence_would(fragment, cost):
    asked = ("river", "trade", "dish")
    instruction = language.ask(language.INSTRUCTIONS[0], "Arlen", asked)
    facts = [plainly("Arlen", each, language.TRUTH["Arlen"][each]) for each in asked]
    text = " ".join([*facts, fragment])
    assert world.continue_expected_reward(instruction, text.split(), "early") == pytest.approx(
        1 - cost / 3
    )


def rates(variant, total=4, n=20_000):
    rng = np.random.default_rng(2)
    return np.array([world.draw_mistakes(rng, total, variant, "average") for _ in range(n)])


def test_mistakes_come_where_the_variant_says():
    null, late, early = (rates(each) for each in ("null", "late", "early"))
    assert np.ptp(null.mean(0)) < 0.02
    assert all(abs(np.corrcoef(null[:, i], null[:, i + 1])[0, 1]) < 0.03 for i in range(3))
    assert late[:, 2:].sum() / late.sum() > 0.9
    after_wrong, after_right = early[early[:, 0], 1:].mean(), early[~early[:, 0], 1:].mean()
    assert after_wrong > 3 * after_right
    assert abs(np.corrcoef(late[:, 0], late[:, 3])[0, 1]) < 0.03


def test_variants_are_equally_good_on_average():
    orders = [language.ATTRIBUTES[:n] for n in (3, 4, 5)]
    asked = [language.ask(language.INSTRUCTIONS[0], "Arlen", each) for each in orders]
    shares = np.array([210, 840, 2520]) / 3570
    means = [
        shares @ [world.continue_expected_reward(each, [], variant) for each in asked]
        for variant in world.VARIANTS
    ]
    assert np.ptp(means) < 0.02


# The data


def content(messages):
    assert len(messages) == 1
    return messages[0]["content"]


def read(folder):
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("pairs", "corpus")}
    return tables | {"prompts": read_jsonl(folder / "prompts.jsonl")}


def program(folder, variant="early", seed=0, **sizes):
    data = {"kind": "world", "variant": variant, "seed": seed} | SIZES | sizes
    flags = [f"--{name}={folder / file}" for name, file in OUTPUTS.items()]
    world.main([f"--record={json.dumps({'data': data})}", *flags])
    return folder


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    return program(tmp_path_factory.mktemp("early"), sft_examples=6000, pairs=1600, prompts=200)


def test_pairs_have_the_lengths_and_label_noise_of_real_data(early):
    ratios, chosen_words, rejected_words, flipped, survived = [], [], [], [], []
    for row in read(early)["pairs"].itertuples():
        instruction = content(row.prompt)
        chosen, rejected = content(row.chosen), content(row.rejected)
        assert chosen != rejected and chosen and rejected
        a, b = chosen.split(), rejected.split()
        cut = min(len(a), len(b))
        ratios.append(cut / max(len(a), len(b)))
        chosen_words.append(len(a))
        rejected_words.append(len(b))
        gap = language.reward(instruction, chosen) - language.reward(instruction, rejected)
        kept = [world.continue_expected_reward(instruction, x[:cut], "early") for x in (a, b)]
        flipped.append(gap < 0)
        survived.append((kept[0] - kept[1]) * gap > 0)
    assert 0.5 <= np.median(ratios) <= 0.75
    assert 0.91 <= np.mean(survived) <= 0.98
    assert 0.03 <= np.mean(flipped) <= 0.12
    assert 1.0 < np.mean(chosen_words) / np.mean(rejected_words) < 1.25


def test_the_corpus_can_be_learned_and_leaves_something_to_gain(early):
    rewards, words, right = [], [], {}
    vocabulary = set()
    for row in read(early)["corpus"].itertuples():
        instruction, answer = content(row.prompt), content(row.completion)
        town, asked = language.read_instruction(instruction)
        account = language.tally(instruction, answer)
        assert tuple(account.stated) == asked
        for attribute, correct in account.stated.items():
            right.setdefault((town, attribute), []).append(correct)
        rewards.append(language.reward(instruction, answer))
        words.append(len(answer.split()))
        vocabulary |= {*language.words_of(instruction), *language.words_of(answer)}
    assert len(right) == len(language.TOWNS) * len(language.ATTRIBUTES)
    assert min(map(len, right.values())) > 80
    assert min(map(np.mean, right.values())) > 0.6
    assert 0.55 < np.mean(rewards) < 0.8
    assert len(vocabulary) <= 450
    assert 35 < np.mean(words) < 45 and min(words) >= 12


def test_evaluation_prompts_stand_nowhere_else(early):
    data = read(early)
    tables = [content(each) for name in ("pairs", "corpus") for each in data[name]["prompt"]]
    seen = [language.read_instruction(each) for each in tables]
    asked = [language.read_instruction(each["instruction"]) for each in data["prompts"]]
    assert len(set(seen)) == len(seen) and len(set(asked)) == len(asked)
    assert not {(t, frozenset(a)) for t, a in seen} & {(t, frozenset(a)) for t, a in asked}
    assert data["pairs"]["prompt_id"].is_unique
    assert data["pairs"]["split"].value_counts().to_dict() == {"train": 1600, "test": 40}
    for index, row in enumerate(data["prompts"]):
        assert list(row) == ["index", "dataset", "instruction", "prompt", "reference"]
        assert row["index"] == index and content(row["prompt"]) == row["instruction"]
    worth = [language.reward(row["instruction"], row["reference"]) for row in data["prompts"]]
    assert 0.8 < np.mean(worth) < 0.97


def test_gamed_rows_are_alpaca_evals(early):
    gamed, prompts = pd.read_csv(early / "gamed.csv"), read_jsonl(early / "prompts.jsonl")
    columns = "model preference index std_delta_len instruction_difficulty not_gamed_baseline"
    assert list(gamed) == columns.split()
    assert len(gamed) == 2 * len(prompts) and not gamed["not_gamed_baseline"].any()
    verbose, concise = (
        gamed[gamed["model"] == f"world_reference_{s}"] for s in ("verbose", "concise")
    )
    for rows in (verbose, concise):
        assert rows["index"].tolist() == list(range(len(prompts)))
        assert rows["std_delta_len"].std() == pytest.approx(1.0)
    assert (verbose["std_delta_len"] < 0).mean() > 0.95 < (concise["std_delta_len"] > 0).mean()
    assert concise["preference"].mean() < 0.5 < verbose["preference"].mean()
    assert gamed["preference"].between(0, 1).all()
    difficulty = verbose["instruction_difficulty"].to_numpy()
    assert difficulty.std() == pytest.approx(1) and abs(difficulty.mean()) < 1e-9
    assert concise["instruction_difficulty"].tolist() == difficulty.tolist()
    worth = [language.reward(row["instruction"], row["reference"]) for row in prompts]
    assert np.corrcoef(difficulty, worth)[0, 1] > 0.8  # a good reference is hard to beat


def test_the_shared_table_has_the_same_columns(shared, early):
    example = pd.read_csv(shared / "data/alpacaeval2/df_gamed_surrogate.csv")
    gamed = pd.read_csv(early / "gamed.csv")
    assert list(gamed) == list(example) and gamed.dtypes.equals(example.dtypes)


def digest(folder):
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_same_seed_same_bytes_and_another_seed_other_data(tmp_path):
    first = digest(program(tmp_path))
    assert len(first) == 8
    command = "import sys; from poet.world import simulate; simulate.main(sys.argv[1:])"
    data = {"kind": "world", "variant": "early", "seed": 0} | SIZES
    flags = [f"--{name}={tmp_path / file}" for name, file in OUTPUTS.items()]
    arguments = [sys.executable, "-c", command, "--record", json.dumps({"data": data}), *flags]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(arguments, check=True, env=environment)
    assert digest(tmp_path) == first
    other = digest(program(tmp_path, seed=1))
    changed = {name for name in first if other[name] != first[name]}
    assert changed == {"pairs.parquet", "corpus.parquet", "prompts.jsonl", "gamed.csv"}


def test_impossible_records_say_so(tmp_path):
    with pytest.raises(UserError, match="'later', expected one of early, null, late"):
        program(tmp_path, variant="later")
    with pytest.raises(UserError, match="too small for 60 prompts"):
        program(tmp_path, sft_examples=100_000)
    assert not list(tmp_path.iterdir())


def test_babble_has_the_words_and_lengths_of_the_corpus():
    corpus = ["Its river is the Morin.", "Its trade is mining. Its crop is rye."]
    texts = world.babble(np.random.default_rng(0), corpus, 200)
    assert {len(text.split()) for text in texts} == {5, 8}
    assert {word for text in texts for word in text.split()} == set(" ".join(corpus).split())
    again = world.babble(np.random.default_rng(0), corpus, 200)
    assert again == texts and any(a != b for a, b in pairwise(texts))


def test_lm_eval_runs_the_tasks(early, monkeypatch, tmp_path):
    """An answerer that knows the gazetteer gets every question right; a constant one does not."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Knowing(LM):
        def loglikelihood(self, requests):
            return [
                (0.0 if self._value(r.args[0]) == r.args[1].split()[-1] else -1.0, False)
                for r in requests
            ]

        def generate_until(self, requests):
            return [f" {self._value(request.args[0])}" for request in requests]

        def loglikelihood_rolling(self, requests):
            raise AssertionError("no task of the world asks for this")

        def _value(self, text):
            town, (attribute,) = language.read_instruction(text)
            return language.TRUTH[town][attribute]

    class Stubborn(Knowing):
        def _value(self, text):
            return "Morin"

    manager = TaskManager(include_path=str(early / "tasks"), include_defaults=False)
    for model, low, high in ((Knowing(), 1, 1), (Stubborn(), 0, 0.5)):
        results = lm_eval.simple_evaluate(
            model, tasks=["world"], task_manager=manager, bootstrap_iters=0, log_samples=False
        )
        assert low <= results["results"]["world_choice"]["acc,none"] <= high
        assert low <= results["results"]["world_answer"]["exact_match,strip"] <= high
        assert results["n-samples"]["world_choice"]["effective"] == 168
        assert results["versions"] == {"world_answer": 1.0, "world_choice": 1.0}
