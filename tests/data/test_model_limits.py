"""What a model can take against what is asked of it: positions and vocabulary, before training."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS,
)

from poet import config as poet_config
from poet.data import model_limits
from poet.data.model_limits import check_class
from poet.files import UserError
from poet.train.start import check_start

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ["config.yaml", *sorted(p.name for p in (ROOT / "config").glob("*.yaml"))]
CONFIGURATIONS.remove("config.schema.yaml")


@pytest.fixture
def own():
    """config/own-data.yaml, raw."""
    return yaml.safe_load((ROOT / "config/own-data.yaml").read_text()) | {"pairs": "p.jsonl"}


@pytest.fixture
def given_model():
    """config/own-model.yaml, raw."""
    return yaml.safe_load((ROOT / "config/own-model.yaml").read_text()) | {"pairs": "p.jsonl"}


def check(config):
    model_limits.check_configuration(poet_config.load(config), "my.yaml")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_shipped_configurations_fit_their_models(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / ("." if name == "config.yaml" else "config") / name
    said = {"pairs": "p"} if "own" in name else {}
    said |= {"model": "org/model"} if "own-model" in name else {}
    check(yaml.safe_load(path.read_text()) | said)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("reward_model", "max_length", 1025),
        ("preference", "max_length", 1025),
        ("generation", "max_new_tokens", 1024),
        ("analysis", "own_prefix_lengths", [800]),
    ],
)
def test_a_model_from_scratch_has_twice_sfts_length(own, section, key, value):
    """Found before any training; it was after all of them."""
    setting = own["settings"]["own"]
    setting[section][key] = value
    with pytest.raises(UserError, match=rf"my.yaml: .*has 1024 positions.*\n(.*\n)*.*{key}"):
        check(own)
    setting["sft"]["max_length"] = 1100
    check(own)


def test_the_case_of_short_training_and_a_long_reward_model(own):
    for section in ("sft", "preference"):
        own["settings"]["own"][section]["max_length"] = 256
    own["settings"]["own"]["preference"]["max_prompt_length"] = 128
    with pytest.raises(UserError) as error:
        check(own)
    assert "has 512 positions" in str(error.value)
    assert "settings.own.reward_model.max_length: 1024 tokens" in str(error.value)
    assert "preference.max_length: 256" not in str(error.value)
    own["annotators"]["reward_model"]["name"] = "org/published"  # then none is trained
    check(own)


def test_a_model_that_writes_no_text_is_refused_by_its_class(given_model, tmp_path, start):
    """It would get a head of random weights, be trained and judged, and nothing would say so."""
    llama = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, vocab_size=9,
                        num_attention_heads=1)  # fmt: skip
    bert = BertConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, vocab_size=9,
                      num_attention_heads=1)  # fmt: skip
    t5 = T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    for make, config in (
        (LlamaForSequenceClassification, llama), (LlamaModel, llama), (BertForMaskedLM, bert),
        (T5ForConditionalGeneration, t5),
    ):  # fmt: skip
        make(config).save_pretrained(tmp_path / "m")
        said = f"{tmp_path}/m is a {make.__name__} .*; expected a causal language model"
        with pytest.raises(UserError, match=f"my.yaml: settings.own.model.name: the model {said}"):
            check({**given_model, "model": str(tmp_path / "m")})
        record = {"model": f"{tmp_path}/m"}
        with pytest.raises(UserError, match=said):
            check_start(record, tmp_path / "m", start[1], [])
    LlamaForCausalLM(llama).save_pretrained(tmp_path / "m")
    check({**given_model, "model": str(tmp_path / "m")})


def test_every_class_that_transformers_takes_for_a_causal_model_is_one():
    taken, refused = (
        {c for each in names.values() for c in ([each] if isinstance(each, str) else each)}
        for names in (CAUSAL, CLASSIFIERS)
    )
    assert len(taken) > 100 and len(refused) > 50
    for name in sorted(taken):
        check_class({"architectures": [name]}, "m", "x")
    for name in sorted(refused):
        with pytest.raises(UserError, match=f"x: the model m is a {name} "):
            check_class({"architectures": [name]}, "m", "x")
    of_its_own = {"architectures": ["ChatModel"], "auto_map": {"AutoModelForCausalLM": "a.b"}}
    for other in ({}, {"architectures": None}, of_its_own):
        check_class(other, "m", "x")


@pytest.mark.parametrize("make", ["llama", "gpt2", "nested"])
@pytest.mark.parametrize("n", [64, 2048])
def test_a_local_models_positions_are_known_from_its_folder(given_model, tmp_path, make, n):
    if make == "gpt2":
        GPT2Config(n_positions=n).save_pretrained(tmp_path)
    else:
        LlamaConfig(max_position_embeddings=n).save_pretrained(tmp_path)
        if make == "nested":
            text = json.loads((tmp_path / "config.json").read_text())
            (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    if n == 2048:
        return check({**given_model, "model": str(tmp_path)})
    with pytest.raises(UserError, match=f"the model {tmp_path} has 64 positions") as error:
        check({**given_model, "model": str(tmp_path)})
    for key in (
        "preference.max_length: 160",
        "reward_model.max_length: 192",
        "a prompt of 1 + 128",
    ):
        assert key in str(error.value)
    assert "settings.own.sft" not in str(error.value)  # a given model is not fine-tuned


@pytest.mark.parametrize("nested", [False, True])
def test_a_token_that_ends_answers_is_the_models(own, given_model, tmp_path, nested):
    """A mistyped one ended nothing; the answers ran on to the limit."""
    ends = own["settings"]["own"]["generation"].setdefault("stop_token_ids", [3, 2047])
    check(own)
    ends.append(2048)
    with pytest.raises(UserError, match="own.generation.stop_token_ids has 2048, expected .* 2048"):
        check(own)
    given_model["settings"]["own"]["generation"]["stop_token_ids"] = ends
    text = {"vocab_size": 2049, "max_position_embeddings": 4096}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text} if nested else text))
    check({**given_model, "model": str(tmp_path)})
    ends.append(128009)
    with pytest.raises(UserError, match=f"has 128009, .* below 2049, .* the model {tmp_path}"):
        check({**given_model, "model": str(tmp_path)})


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 8192),
        # Qwen 2.5's, stretched by hand as its card says; and Llama 3.1's, which says the whole.
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                           "original_max_position_embeddings": 4096}}, 16384),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0,
                           "original_max_position_embeddings": 512}}, 4096),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0},
                              "sliding_attention": {"rope_type": "default"}}}, 32768),
        ({"rope_scaling": None}, 4096),
    ],
)  # fmt: skip
def test_stretched_rotary_positions_count(rope, expected):
    assert model_limits.positions({"max_position_embeddings": 4096, **rope}) == expected
    assert model_limits.positions({"model_type": "bloom", **rope}) is None


def test_class_defaults_are_known_once_transformers_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert model_limits.positions({"model_type": "llama"}) is None
    found = model_limits.text_config(tmp_path)
    assert model_limits.positions(found) == LlamaConfig().max_position_embeddings


@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 9000), st.booleans())
def test_refused_exactly_where_the_sum_is_too_large(prompt, tokens, found, after):
    asked = [("settings.a.key", tokens, after)]
    total = tokens + (prompt if after else 0)
    if total <= found:
        return model_limits.check_positions(found, asked, "m", "s", prompt)
    with pytest.raises(UserError, match=f"settings.a.key: .*{tokens} tokens"):
        model_limits.check_positions(found, asked, "m", "s", prompt)


def test_a_tokenizer_larger_than_the_embedding_is_refused(start):
    _, tokenizer = start
    for rows in (len(tokenizer), len(tokenizer) + 50):
        model_limits.check_vocabulary(tokenizer, {"vocab_size": rows}, "m")
    with pytest.raises(UserError, match=rf"with the id {len(tokenizer) - 1}, .* has 200 rows"):
        model_limits.check_vocabulary(tokenizer, {"vocab_size": 200}, "m")


def test_an_added_token_beyond_the_embedding_counts_where_it_occurs(start):
    """Gemma 3 1B has one, for images, which no text uses; a padding token is used in each batch."""
    folder, tokenizer = start
    n = len(tokenizer)
    more = AutoTokenizer.from_pretrained(folder)
    more.add_tokens(["<image>"], special_tokens=True)
    model_limits.check_vocabulary(more, {"vocab_size": n}, "m")
    with pytest.raises(UserError, match="pairs: found the token '<image>'"):
        model_limits.check_ids(more, n, {"vocab_size": n}, "pairs")
    more.pad_token = "<image>"
    with pytest.raises(UserError, match="the tokenizer of m: found the token '<image>'"):
        model_limits.check_vocabulary(more, {"vocab_size": n}, "m")
    assert isinstance(more, PreTrainedTokenizerFast)


@pytest.mark.parametrize(
    ("longest", "largest", "message"),
    [
        (20, 5, None),
        (100, 5, r"evaluation prompt 1 \('.*has 128 positions.*\n.*a prompt of 100 \+ 30"),
        (20, 999, "999"),
    ],
)
def test_prompts_and_pairs_are_checked_once_they_are_tokens(
    start, tmp_path, longest, largest, message
):
    folder, tokenizer = start
    columns = {name: [[3, 4], [5]] for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    columns["rejected_ids"] = [[3], [largest]]
    pq.write_table(pa.table(columns), tmp_path / "tokens.parquet")
    asked = [("settings.a.generation.max_new_tokens", 30, True)]

    def check():
        model_limits.check_prompts(folder, tokenizer, asked, [[4] * 3, [4] * longest])
        model_limits.check_tokens(folder, tokenizer, tmp_path / "tokens.parquet")

    if message is None:
        return check()
    with pytest.raises(UserError, match=message):
        check()
