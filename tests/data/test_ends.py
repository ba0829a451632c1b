"""What ends an answer, and texts that would become such a token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM

from chat_tokenizers import NEED_PARTS, SHIPPED, byte_level, shipped, turn_end_of
from poet.data.ends import (
    Stray,
    closing_text,
    configured_ends,
    control_tokens,
    early_eos,
    turn_end,
    with_ends,
)
from poet.data.templates import Chat
from poet.files import UserError, write_json

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
ROLES = ["<|user|>", "<|assistant|>", "<|end|>"]


def chat_of(tokenizer):
    return Chat(tokenizer, "keep_start", {})


@pytest.mark.parametrize("own_eos", [False, True])
@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - NEED_PARTS))
def test_a_turn_ends_with_the_token_after_its_content(name, own_eos):
    tokenizer = shipped(name, own_eos)
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "QQ"}]
    ids = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
    q = tokenizer.convert_tokens_to_ids("Q")
    after = ids[len(ids) - ids[::-1].index(q) :]
    found = turn_end(chat_of(tokenizer))
    assert found == (after[0] if after else None)
    assert found == (tokenizer.convert_tokens_to_ids(turn_end_of(name)) if after else None)


@pytest.mark.parametrize(
    "template", [TURNS.replace("<|end|>", "\n### End\n"), TURNS.replace("<|end|>", "")]
)
def test_where_no_token_follows_an_answer_none_is_found(template):
    assert turn_end(chat_of(byte_level(template, "<s>", "</s>"))) is None


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ("", ""), ("\n", ""), ("</s>", ""), (" </s>\n", ""), ("\n### End\n", "\n### End"),
        ("<|im_end|>\n", "<|im_end|>"), (" [/A]</s>", " [/A]"), ("<|end|>\n### End", ""),
    ],
)  # fmt: skip
def test_text_closes_a_turn_where_no_token_does(ends, text):
    tokenizer = byte_level(TURNS.replace("<|end|>", ends), "<s>", "</s>", ["<|end|>"])
    assert closing_text(chat_of(tokenizer)) == text


@given(
    st.one_of(st.none(), st.integers(0, 400), st.lists(st.integers(0, 400), max_size=4)),
    st.sampled_from(["generation_config.json", "config.json", "text_config"]),
    st.lists(st.integers(0, 400), max_size=3),
)
def test_an_answer_ends_at_the_union(tmp_path_factory, configured, place, chosen):
    tokenizer = UNION
    folder = tmp_path_factory.mktemp("model")
    if configured is not None:
        said = {"eos_token_id": configured, "temperature": 0.1}
        if place == "text_config":
            said, place = {"text_config": said}, "config.json"
        write_json(said, folder / place)
    found = with_ends({"stop_token_ids": chosen, "top_p": 1.0}, chat_of(tokenizer), folder)
    named = {configured} if isinstance(configured, int) else {*(configured or [])}
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert found["stop_token_ids"] == sorted({*named, *chosen, tokenizer.eos_token_id, end})
    assert found["top_p"] == 1.0


UNION = byte_level(TURNS, None, "</s>", ROLES)


@pytest.mark.parametrize("generation", [None, {}, {"eos_token_id": 9}, {"eos_token_id": [9, None]}])
@pytest.mark.parametrize("eos", [7, [7, 8]])
def test_ends_that_a_folder_names_are_those_that_transformers_reads(tmp_path, eos, generation):
    LlamaForCausalLM(
        LlamaConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                    num_attention_heads=1, eos_token_id=eos)
    ).save_pretrained(tmp_path)  # fmt: skip
    (tmp_path / "generation_config.json").unlink()
    if generation is not None:
        write_json(generation, tmp_path / "generation_config.json")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path).generation_config.eos_token_id
    theirs = theirs if isinstance(theirs, list) else [theirs]
    assert configured_ends(tmp_path) == [token for token in theirs if token is not None]


def test_a_negative_end_is_none(tmp_path):
    """As some configurations say that there is none; no token has such an id."""
    write_json({"eos_token_id": [9, -1]}, tmp_path / "generation_config.json")
    assert configured_ends(tmp_path) == [9]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"eos_token_id": "</s>"}', r"eos_token_id is \['</s>'\]; expected a token id"),
        ('{"eos_token_id": [[1]]}', r"eos_token_id is \[\[1\]\]; expected"),
    ],
)
def test_a_generation_configuration_that_cannot_be_read(tmp_path, text, said):
    path = tmp_path / "generation_config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path}: {said}"):
        configured_ends(tmp_path)


PIECES = [
    "a",
    " ",
    "\n",
    "<",
    "|",
    ">",
    "end",
    "<|end|>",
    "</s>",
    "<|user|>",
    "<think>",
    "</think>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_strays_are_what_becomes_a_control_token(text):
    tokenizer = STRAY.tokenizer
    ids = {*tokenizer(text, add_special_tokens=False)["input_ids"]}
    control = {*tokenizer.convert_tokens_to_ids(["<|end|>", "</s>", "<|user|>", "<|assistant|>"])}
    found = STRAY.in_text(text)
    assert (found is not None) == bool(ids & control)
    assert found is None or text.startswith(
        found, min(map(text.index, [t for t in CONTROL if t in text]))
    )
    assert STRAY.in_messages([{"role": "assistant", "content": text}]) == found
    reasoning = {"reasoning_content": text, "thinking": None}
    assert STRAY.in_messages([{"role": "assistant", "content": "a", **reasoning}]) == found


CONTROL = ["<|end|>", "</s>", "<|user|>", "<|assistant|>", "<pad>"]
_TOKENIZER = byte_level(TURNS, None, "</s>", [*ROLES, "<think>", "</think>"])
STRAY = Stray(chat_of(_TOKENIZER))


def test_a_turns_end_that_is_not_special_counts_and_other_added_tokens_do_not():
    tokenizer = byte_level(TURNS, None, "</s>")
    tokenizer.add_tokens([AddedToken("<|end|>"), AddedToken("<tool>")])
    assert control_tokens(chat_of(tokenizer)).keys() == {"</s>", "<pad>", "<|end|>"}
    word = AddedToken("END", single_word=True, special=True)
    tokenizer.add_special_tokens({"additional_special_tokens": [word]})
    stray = Stray(chat_of(tokenizer))
    assert stray.in_text("the END of") == "END"
    assert stray.in_text("WEEKENDS") is None


def test_eos_may_end_a_plain_response_but_not_stand_in_it():
    tokenizer = byte_level(TURNS, None, "</s>")
    assert [early_eos(tokenizer, text) for text in ("a", "a</s>", "a</s>\n")] == [None] * 3
    assert [early_eos(tokenizer, text) for text in ("a</s>b", "a</s></s>")] == ["</s>"] * 2
