"""Models from their folders: whole ones, which can be saved again, or an error."""

import re

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)

from poet.data.ends import configured_ends
from poet.files import UserError, read_json, write_json
from poet.hub.folders import whole_model

SHAPE = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}


def saved(kind, folder, **config):
    torch.manual_seed(0)
    model = kind(LlamaConfig(**SHAPE, num_attention_heads=2, **config))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("tied", [False, True])
def test_a_whole_model_is_that_of_the_folder(tmp_path, tied):
    model = saved(LlamaForCausalLM, tmp_path, tie_word_embeddings=tied)
    found = whole_model(AutoModelForCausalLM, tmp_path, dtype=torch.float32)
    assert found.state_dict().keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight)


def test_weights_below_tied_embeddings_are_enough(tmp_path):
    model = saved(LlamaModel, tmp_path, tie_word_embeddings=True)
    found = whole_model(AutoModelForCausalLM, tmp_path, dtype=torch.float32)
    assert torch.equal(found.lm_head.weight, model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("kind", "changes", "n", "first"),
    [
        (LlamaModel, {}, 1, "lm_head.weight"),
        (LlamaForSequenceClassification, {}, 1, "lm_head.weight"),
        (LlamaForCausalLM, {"num_hidden_layers": 3}, 9, "model.layers.2.input_layernorm.weight"),
        (LlamaForCausalLM, {"vocab_size": 21}, 2, "lm_head.weight"),
    ],
)
def test_weights_that_would_be_random_are_named(tmp_path, kind, changes, n, first, planted):
    folder = tmp_path / "model"
    saved(kind, folder)
    config = read_json(folder / "config.json")
    write_json({**config, **changes}, folder / "config.json")
    said = (
        rf"{folder}: {n} of the weights of LlamaForCausalLM are not in it, .* the first is {first}"
    )
    with pytest.raises(UserError, match=said) as error:
        whole_model(AutoModelForCausalLM, folder)
    assert re.search(rf"config.json names {kind.__name__}\.", str(error.value))
    if kind is LlamaModel:
        planted("a start model without the head that writes", error.value, "no training starts")


def test_a_reward_models_head_is_no_random_one(tmp_path):
    saved(LlamaForCausalLM, tmp_path, num_labels=1)
    with pytest.raises(
        UserError, match=r"1 of the weights of LlamaFor\w+ are .* first is score.weight"
    ):
        whole_model(AutoModelForSequenceClassification, tmp_path)


def test_what_cannot_be_loaded_is_a_message(tmp_path):
    saved(LlamaForCausalLM, tmp_path)
    config = read_json(tmp_path / "config.json")
    write_json({**config, "model_type": "t5"}, tmp_path / "config.json")
    with pytest.raises(UserError, match=f"the model {tmp_path} cannot be loaded: .*T5Config"):
        whole_model(AutoModelForCausalLM, tmp_path)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, False),  # Llama-2's
        ({"temperature": 0.9, "top_p": 0.6, "do_sample": True}, True),
    ],
)
def test_a_changed_model_can_be_saved_and_ends_where_it_did(tmp_path, said, kept):
    saved(LlamaForCausalLM, tmp_path / "old")
    ends = {"eos_token_id": [2, 7], "bos_token_id": 1}
    write_json({**said, **ends}, tmp_path / "old" / "generation_config.json")
    model = whole_model(AutoModelForCausalLM, tmp_path / "old")
    model.generation_config.pad_token_id = 3  # as the trainer does
    model.save_pretrained(tmp_path / "new")
    assert configured_ends(tmp_path / "new") == [2, 7]
    again = GenerationConfig.from_pretrained(tmp_path / "new")
    assert (again.bos_token_id, again.pad_token_id) == (1, 3)
    assert (again.temperature == 0.9) == kept
