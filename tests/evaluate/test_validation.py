"""The validation of a sweep: prompts, the choice, and what the table makes of it."""

import csv
import json

import pytest

from poet.data.encoding import encode
from poet.data.preferences import write_parquet
from poet.data.templates import Chat, render_prompts
from poet.evaluate import validation
from poet.evaluate.sampling import described, load_model, sample
from poet.files import UserError, read_json, write_json
from poet.report import tables
from poet.train.scratch import make_model
from poet.world.language import reward

SAMPLING = {
    "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "stop_token_ids": [1], "batch_size": 4,
}  # fmt: skip
RECORD = {"setting": "world", "method": "dpo", "torch_threads": 1, "generation": SAMPLING}
RECORD |= {"length_policy": "keep_start", "chat_template_kwargs": {}}
QUESTIONS = [f"What is the {asked} of Arlen?" for asked in ("river", "mayor", "river", "dish")]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    messages = [[{"role": "user", "content": question}] for question in QUESTIONS]
    rows = [
        {"prompt": prompt, "prompt_id": str(i % 3), "split": "train" if i == 1 else "test"}
        | {"instruction": prompt[0]["content"]}
        for i, prompt in enumerate(messages)
    ]
    write_parquet(rows, path, ["prompt"], ("prompt_id", "split", "instruction"))
    return path


def trained(start, folder, seed):
    """A model folder with what the program reads of train.json."""
    shape = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }  # fmt: skip
    make_model(start[1], shape, 64, seed).save_pretrained(folder)
    start[1].save_pretrained(folder)
    log = [{"rewards/accuracies": 0.5}, {"eval_rewards/accuracies": 0.75}]
    write_json(
        {"record": {"parameters": {"beta": 0.1 * seed}, "learning_rate": 2e-4}, "log_history": log},
        folder / "train.json",
    )
    return str(folder)


def run(pairs, models, output):
    validation.main(
        ["--record", json.dumps(RECORD), "--arm", "dpo", "--pairs", str(pairs), "--seed", "5"]
        + ["--cells", *models, "--models", *models.values(), "--output", str(output)]
    )
    return read_json(output)


def test_chooses_by_true_reward_on_held_out_prompts(start, pairs, tmp_path, monkeypatch):
    models = {f"cell-{seed}": trained(start, tmp_path / str(seed), seed) for seed in (1, 2)}
    # A true reward that a random model can earn: the share of a letter.
    monkeypatch.setattr(
        "poet.world.language.reward",
        lambda question, text: (question == QUESTIONS[3]) + text.count("e") / 8,
    )
    found = run(pairs, models, tmp_path / "dpo.json")
    prompts = [[{"role": "user", "content": QUESTIONS[i]}] for i in (2, 3)]  # row 2 has row 0's id
    assert (found["arm"], found["n_prompts"]) == ("dpo", 2)
    expected = {}
    for name, folder in models.items():
        tokenizer, model = load_model(folder, RECORD)
        chat = Chat.of(tokenizer, RECORD)
        ids = encode(tokenizer, render_prompts(chat, prompts))
        answers = described(chat, sample(model, tokenizer, ids, SAMPLING, 5, "expected"))
        shares = [answer["output"].count("e") / 8 for answer in answers]
        expected[name] = (1 + sum(shares)) / 2
    assert {c["method"]: c["validation_reward"] for c in found["cells"]} == pytest.approx(expected)
    assert found["chosen"] == max(expected, key=expected.get)
    assert [cell["beta"] for cell in found["cells"]] == [0.1, 0.2]
    assert {cell["pair_accuracy"] for cell in found["cells"]} == {0.75}


def test_models_are_loaded_as_the_setting_says(start, pairs, tmp_path, monkeypatch):
    loaded = []

    def load(*asked):
        loaded.append(load_model(*asked))
        return loaded[-1]

    monkeypatch.setattr("poet.evaluate.sampling.load_model", load)
    monkeypatch.setitem(RECORD, "attn_implementation", "eager")
    run(pairs, {"only": trained(start, tmp_path / "1", 1)}, tmp_path / "dpo.json")
    assert [model.config._attn_implementation for _, model in loaded] == ["eager"]


def test_true_reward_is_the_worlds(start, pairs, tmp_path):
    found = run(pairs, {"only": trained(start, tmp_path / "1", 1)}, tmp_path / "dpo.json")
    (cell,) = found["cells"]
    assert cell["validation_reward"] == reward(QUESTIONS[2], "no sentence of the world") == 0
    with pytest.raises(UserError, match="no pair of the split `test`"):
        validation.held_out_prompts([{"split": "train"}], "pairs.parquet")


def test_table_has_every_cell_and_scores_of_the_chosen(tmp_path):
    def cell(method, beta, mean):
        return {"method": method, "beta": beta, "learning_rate": 2e-4, "pair_accuracy": 0.6,
                "validation_reward": mean, "validation_reward_se": 0.01}  # fmt: skip

    validations = []
    for arm in ("dpo", "dpo-poet"):
        cells = [cell(arm, 0.1, 0.25), cell(f"{arm}-beta-x3-lr-x1", 0.3, 0.5)]
        found = {"setting": "world", "arm": arm, "n_prompts": 9, "chosen": cells[1]["method"]}
        write_json({**found, "cells": cells}, tmp_path / f"{arm}.json")
        validations.append(str(tmp_path / f"{arm}.json"))
    chosen = ["dpo-beta-x3-lr-x1", "dpo-poet-beta-x3-lr-x1"]
    scores = {name: {"lc_win_rate": 50.0 + i, "interval": "x"} for i, name in enumerate(chosen)}
    gain = {"method": chosen[1], "baseline": chosen[0], "gain_lc": 1.0, "ci_low": -1, "ci_high": 3}
    comparison = {"setting": "world", "annotator": "oracle", "lc_kind": "k", "methods": scores}
    write_json({**comparison, "gains": [gain]}, tmp_path / "sweep.json")
    outputs = [str(tmp_path / f"sweep.{ending}") for ending in ("csv", "md", "tex")]
    flags = ["--validations", *validations, "--comparison", str(tmp_path / "sweep.json")]
    judge = {"kind": "reward_model"}
    flags += ["--judged-by", json.dumps({"annotators": {"oracle": judge}}), "--judges"]
    tables.main(["sweep", *flags, "--output", *outputs])
    caution = "Caution: world: judged by oracle, a reward model trained on these pairs, whose"
    assert caution in (tmp_path / "sweep.md").read_text()
    assert caution in (tmp_path / "sweep.tex").read_text()
    with open(outputs[0]) as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["dpo", chosen[0], "dpo-poet", chosen[1]]
    assert [row["chosen"] for row in rows] == ["", "yes", "", "yes"]
    assert [row["lc_win_rate"] for row in rows] == ["", "50.00", "", "51.00"]
    assert (rows[3]["gain_lc"], rows[3]["gain_lc_ci_low"], rows[1]["gain_lc"]) == (
        "1.00",
        "-1.00",
        "",
    )
    assert "| 1.00 [-1.00, 3.00]" in (tmp_path / "sweep.md").read_text()
