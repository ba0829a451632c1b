"""The reference cache: prefixes of full passes, and refusal of whatever does not belong to it."""

import random

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from poet.data.tokenization import pair_hash
from poet.data.truncation import truncate_table
from poet.files import UserError
from poet.train.reference import MODEL_KEY, attach, compute, model_digest


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
    columns = compute(model, tokens.to_pydict(), 8, 0, "reference")
    table = pa.table({"pair_hash": tokens["pair_hash"], **columns})
    return table.replace_schema_metadata({MODEL_KEY: model_digest(folder)})


@pytest.mark.parametrize(
    ("strategy", "keep"), [("none", 1.0), ("poet", 1.0), ("poet", 0.25), ("own", 0.5)]
)
def test_cached_prefix_is_a_fresh_pass(model, folder, tokens, cache, strategy, keep):
    short = truncate_table(tokens, strategy, keep)
    attached = attach(short, cache, folder).to_pydict()
    # A pass of its own per response, batch size 1: nothing is padded.
    fresh = compute(model, short.to_pydict(), 1, 0, "fresh")
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        for mine, expected in zip(attached[name], fresh[name], strict=True):
            assert mine == pytest.approx(expected, abs=1e-5)
            assert sum(mine) == pytest.approx(sum(expected), rel=1e-5)


def test_values_are_log_softmax(model, tokens, cache):
    row = tokens.slice(3, 1).to_pydict()
    prompt, chosen = row["prompt_ids"][0], row["chosen_ids"][0]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + chosen])).logits[0, len(prompt) - 1 : -1].double()
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(chosen)[:, None])[:, 0]
    assert cache["ref_chosen_logps"][3].as_py() == pytest.approx(expected.tolist(), abs=1e-5)


def test_mismatches_are_refused(folder, tokens, cache, tmp_path):
    metadata = cache.schema.metadata
    with pytest.raises(UserError, match="19 rows in the cache, 20 pairs"):
        attach(tokens, cache.slice(1), folder)
    reordered = cache.take([1, 0, *range(2, 20)]).replace_schema_metadata(metadata)
    with pytest.raises(UserError, match="row 0 is pair"):
        attach(tokens, reordered, folder)
    other = pa.array(["0" * 16] * 20)  # another tokenizer gives other hashes
    with pytest.raises(UserError, match="another tokenizer"):
        attach(tokens.set_column(3, "pair_hash", other), cache, folder)
    short = pa.array([logps[:-1] for logps in cache["ref_chosen_logps"].to_pylist()])
    broken = cache.set_column(1, "ref_chosen_logps", short)
    with pytest.raises(UserError, match="chosen tokens, the cache"):
        attach(tokens, broken.replace_schema_metadata(metadata), folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data[0, 0] += 1e-3
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is another"):
        attach(tokens, cache, tmp_path)
