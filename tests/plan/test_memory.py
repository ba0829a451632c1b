"""Shapes and memory: transformers' count of parameters, the arithmetic by hand, the document."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from poet.config import read
from poet.plan import memory
from poet.sizes.architecture import Architecture

ROOT = Path(__file__).parents[2]
SHAPES = yaml.safe_load((ROOT / "paper" / "models.yaml").read_text())
BASE = {name: shape for name, shape in SHAPES.items() if "Skywork" not in name}


# Of families that have norms or biases of their own; sizes as on the hub.
FAMILIES = {
    "Qwen/Qwen3-0.6B": {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128, "tie_word_embeddings": True,
    },
    "allenai/OLMo-2-0425-1B": {
        "model_type": "olmo2", "vocab_size": 100352, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-0.5B": {
        "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
BASE |= FAMILIES


def built(shape):
    """The model of a shape in transformers, without memory for its weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape))


@pytest.mark.parametrize("name", BASE)
def test_parameters_are_transformers(name):
    assert Architecture.of(BASE[name]).parameters == built(BASE[name]).num_parameters()


def test_operations_are_pytorchs():
    """Counted by torch's own flop counter on a small model that runs."""
    from torch.utils.flop_counter import FlopCounterMode

    shape = {
        "model_type": "llama", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "tie_word_embeddings": False,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**shape), attn_implementation="eager"
    )
    tokens = 40
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, tokens, dtype=torch.long))
    architecture = Architecture.of(shape)
    # Eager attention computes every position against every other; norms are no matrix products.
    norms = 2 * (2 * 3 + 1) * 64 * tokens
    counted = architecture.forward(tokens, tokens) - norms
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.01)
    scored = architecture.forward(tokens, tokens, scored=0)
    assert architecture.forward(tokens, tokens) - scored == 2 * 300 * 64 * tokens


def test_states_are_sixteen_bytes_a_parameter():
    shape = Architecture.of(SHAPES["google/gemma-2-9b-it"])
    found = memory.need(shape, 2048, 4, eager=True, gpus=1, offload=False)
    assert found.states == pytest.approx(16 * 9_241_705_984 / 2**30)
    shared = memory.need(shape, 2048, 4, eager=True, gpus=4, offload=False)
    assert shared.states == pytest.approx(found.states / 4)
    assert shared.activations == found.activations
    assert memory.need(shape, 2048, 4, eager=True, gpus=1, offload=True).states == 0


def test_eager_attention_takes_memory_with_the_square_of_the_length():
    shape = Architecture.of(SHAPES["google/gemma-2-9b-it"])

    def scores(tokens):
        one, other = (
            memory.need(shape, tokens, 1, eager, 1, False).activations for eager in (True, False)
        )
        return one - other

    assert scores(2048) == pytest.approx(4 * scores(1024))
    assert scores(2048) == pytest.approx(16 * 2048**2 * 12 / 2**30)


def test_gemma_needs_offload_or_several_gpus():
    shape = Architecture.of(SHAPES["google/gemma-2-9b-it"])
    size = {"tokens": 2048, "rows": 4, "eager": True}
    for card in ("1 x 80 GB", "1 x 141 GB"):
        assert memory.means(shape, **size, card=card).startswith("offload (")
    assert memory.means(shape, **size, card="4 x 80 GB").startswith("FSDP (")
    huge = Architecture.of({**SHAPES["google/gemma-2-9b-it"], "hidden_size": 500_000})
    assert memory.means(huge, **size, card="4 x 80 GB").startswith("does not fit (")


def test_the_document_is_the_programs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "memory.md"
    memory.main(["--configfile", "config/paper.yaml", "--output", str(out)])
    text = out.read_text()
    assert text == (ROOT / "docs" / "memory.md").read_text()
    settings = read("config/paper.yaml")["settings"]
    assert all(f"| {name} |" in text for name in settings)
    assert "gemma-2-9b-it does not fit on 1 x 141 GB without offload" in text
