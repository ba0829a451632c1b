"""The reference cache: prefixes of full passes, and refusal of whatever does not belong to it."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from poet.data.tokenization import pair_hash, tokenize_file
from poet.data.truncation import truncate_table
from poet.files import UserError
from poet.methods.truncation import name_of
from poet.train.reference import MODEL_KEY, PRODUCTS_KEY, attach, compute, main, model_digest
from poet.train.scratch import train_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(start):
    return start[0]


@pytest.fixture(scope="module")
def model(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    add_fused_lm_head(model)
    return model


@pytest.fixture(scope="module")
def tokens():
    random.seed(1)

    def draw(low, high):
        return [random.randrange(10, 250) for _ in range(random.randint(low, high))]

    rows = [(draw(1, 10), draw(1, 30), draw(1, 30)) for _ in range(20)]
    ids = pa.list_(pa.int32())
    return pa.table(
        {
            "prompt_ids": pa.array([p for p, _, _ in rows], ids),
            "chosen_ids": pa.array([c for _, c, _ in rows], ids),
            "rejected_ids": pa.array([r for _, _, r in rows], ids),
            "pair_hash": [pair_hash(*row) for row in rows],
        }
    )


@pytest.fixture(scope="module")
def cache(model, folder, tokens):
    columns = compute(model, tokens, 8, 0, "reference")
    table = pa.table({"pair_hash": tokens["pair_hash"], **columns})
    return table.replace_schema_metadata({MODEL_KEY: model_digest(folder)})


def truncations():
    """Those of all shipped configurations."""
    found = {name_of({"strategy": "none"}): {"strategy": "none"}}
    for path in [ROOT / "config.yaml", *(ROOT / "config").glob("*.yaml")]:
        for method in filter(None, yaml.safe_load(path.read_text()).get("methods", {}).values()):
            choice = method.get("truncation", {"strategy": "none"})
            found[name_of(choice)] = choice
    return [pytest.param(choice, id=name) for name, choice in sorted(found.items())]


@pytest.mark.parametrize("choice", truncations())
def test_cached_prefix_is_a_fresh_pass(model, folder, tokens, cache, choice):
    short = truncate_table(tokens, **choice)
    attached = attach(short, cache, folder)
    # A pass of its own per response, batch size 1: nothing is padded.
    fresh = compute(model, short, 1, 0, "fresh")
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        assert attached.schema.field(name).type == pa.list_(pa.float32())
        for mine, expected in zip(attached[name].to_pylist(), fresh[name].to_pylist(), strict=True):
            assert mine == pytest.approx(expected, abs=1e-5)
            assert sum(mine) == pytest.approx(sum(expected), rel=1e-5)


def test_values_are_log_softmax(model, tokens, cache):
    row = tokens.slice(3, 1).to_pydict()
    prompt, chosen = row["prompt_ids"][0], row["chosen_ids"][0]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + chosen])).logits[0, len(prompt) - 1 : -1].double()
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(chosen)[:, None])[:, 0]
    assert cache["ref_chosen_logps"][3].as_py() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("forward", ["padded", "packed"])
def test_the_program_writes_what_is_attached(folder, tokens, cache, tmp_path, forward):
    pq.write_table(tokens, tmp_path / "tokens.parquet", row_group_size=7)
    record = {"setting": "s", "torch_threads": 1, "reference_batch_size": 8}
    record |= {"forward": forward, "token_budget": 100, "dtype": "float32"}
    record |= {"matrix_products": "torch"}
    main(
        ["--record", json.dumps(record), "--tokens", str(tmp_path / "tokens.parquet")]
        + ["--model", str(folder), "--output", str(tmp_path / "reference.parquet")]
    )
    written = pq.read_table(tmp_path / "reference.parquet")
    products = json.loads(written.schema.metadata[PRODUCTS_KEY])
    assert products == {"asked": "torch", "by": "torch"}
    assert written.schema == cache.schema and written["pair_hash"].equals(cache["pair_hash"])
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        for found, expected in zip(written[name].to_pylist(), cache[name].to_pylist(), strict=True):
            assert found == pytest.approx(expected, abs=1e-5)
    attached = attach(truncate_table(tokens), written, folder)
    lengths = [len(ids) for ids in truncate_table(tokens)["chosen_ids"].to_pylist()]
    assert [len(logps) for logps in attached["ref_chosen_logps"].to_pylist()] == lengths


def test_other_rows_are_refused(folder, tokens, cache, planted):
    with pytest.raises(UserError, match="19 rows in the cache, 20 pairs"):
        attach(tokens, cache.slice(1), folder)
    with pytest.raises(UserError, match="20 rows in the cache, 19 pairs"):
        attach(tokens.slice(1), cache, folder)
    reordered = cache.take([0, 2, 1, *range(3, 20)])
    with pytest.raises(UserError, match="row 1 is pair") as error:
        attach(tokens, reordered, folder)
    planted("training: the reference's rows are in another order", error.value, "no wrong loss")
    short = pa.array([logps[:-1] for logps in cache["ref_chosen_logps"].to_pylist()])
    with pytest.raises(UserError, match="row 0 has .* chosen tokens, the cache"):
        attach(tokens, cache.set_column(1, "ref_chosen_logps", short), folder)


def test_another_tokenizer_is_refused(folder, start, model, tmp_path):
    """The same pairs, tokenized by a tokenizer that has learned other merges."""
    messages = [
        {"prompt": f"What is river {i}?", "chosen": f"The Morin of {i}.", "rejected": "A river."}
        for i in range(4)
    ]
    rows = {"prompt_id": [str(i) for i in range(4)], "split": ["train"] * 4}
    for name in ("prompt", "chosen", "rejected"):
        role = "user" if name == "prompt" else "assistant"
        rows[name] = [[{"role": role, "content": pair[name]}] for pair in messages]
    pq.write_table(pa.table(rows), tmp_path / "pairs.parquet")
    record = {"setting": "s", "max_length": 64, "max_prompt_length": 32}
    record |= {"length_policy": "keep_start", "chat_template_kwargs": {}, "bad_rows": "error"}
    tables = []
    for tokenizer in (start[1], train_tokenizer(["What is the river? A river. Morin."], 320)):
        tokenize_file(tmp_path / "pairs.parquet", tmp_path / "tokens.parquet", tokenizer, record)
        tables.append(pq.read_table(tmp_path / "tokens.parquet"))
    cache = pa.table(
        {"pair_hash": tables[0]["pair_hash"], **compute(model, tables[0], 8, 0, "reference")}
    ).replace_schema_metadata({MODEL_KEY: model_digest(folder)})
    attach(tables[0], cache, folder)
    with pytest.raises(UserError, match="another tokenizer"):
        attach(tables[1], cache, folder)


def test_another_model_is_refused(folder, tokens, cache, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data[0, 0] += 1e-3
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is another"):
        attach(tokens, cache, tmp_path)
