"""Prefixes of generated answers: behind generation's own prompt, in the tokens as sampled."""

import pytest

from chat_tokenizers import byte_level, shipped
from poet.analyse.completion import Completer
from poet.analyse.own_prefixes import read_prefixes
from poet.data.encoding import encode
from poet.data.ends import with_ends
from poet.data.templates import Chat, render_prompts, row_options
from poet.evaluate.sampling import described
from poet.files import UserError

SYSTEM = (
    "{{ mood | default('') }}{% for m in messages %}"
    "<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    "{# knows the role system #}"
)
CLOSED = SYSTEM.replace("<|end|>", "\n### End")  # no token ends a turn
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
PROMPTS = [
    {"instruction": "a", "prompt": [{"role": "user", "content": "a"}]},
    {
        "instruction": "b",
        "prompt": [{"role": "user", "content": "b"}],
        "chat_template_kwargs": {"mood": "sad"},
    },
]
TEXTS = {"the mill is old": "stop", "the mi": "length"}


def letters(tokenizer, text: str) -> list[int]:
    """Token ids of a text letter by letter, which no tokenizer would give of the whole."""
    found = [i for c in text for i in tokenizer(c, add_special_tokens=False)["input_ids"]]
    assert found != tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


@pytest.mark.parametrize("policy", ["keep_start", "paper"])
@pytest.mark.parametrize("name", ["another EOS", "gemma", "closing text"])
def test_prefixes_are_the_sampled_tokens_behind_the_prompt_of_generation(policy, name, tmp_path):
    tokenizer, end = {
        "another EOS": (byte_level(SYSTEM, None, "</s>", ROLES), "<|end|>"),
        "gemma": (shipped("gemma", own_eos=True), "<end_of_turn>"),
        "closing text": (byte_level(CLOSED, None, "</s>", ROLES[:3]), "\n### End"),
    }[name]
    chat = Chat(tokenizer, policy, {})
    sampling = with_ends({"stop_token_ids": []}, chat, tmp_path)
    completer = Completer(None, chat, sampling, 0, None)
    end = tokenizer(end, add_special_tokens=False)["input_ids"]
    sampled = [
        (letters(tokenizer, text) + (end if reason == "stop" else []), reason)
        for text, reason in TEXTS.items()
    ]
    rows = [
        {"instruction": prompt["instruction"], **row}
        for prompt, row in zip(PROMPTS, described(chat, sampled), strict=True)
    ]
    found, prompt_ids = read_prefixes(completer, PROMPTS, {"dpo": [rows]}, [3, 99])
    options = [*map(row_options, PROMPTS)]
    assert prompt_ids == encode(
        tokenizer, render_prompts(chat, [p["prompt"] for p in PROMPTS], options)
    )
    for (_, prefix), (ids, reason), text in zip(found["dpo", 0, 99], sampled, TEXTS, strict=True):
        assert [*prefix][: len(ids)] == ids
        assert [*prefix][len(ids) :] in ([], [tokenizer.eos_token_id])  # after a closing text
        assert completer.text(prefix) == text
        # A word that the header begins with is none of it here.
        assert completer.text(letters(tokenizer, "assis")) == "assis"
        assert completer.is_whole(prefix) == (reason == "stop")
    assert found["dpo", 0, 3] == [(row, ids[:3]) for row, ids in found["dpo", 0, 99]]
    old = [{key: row[key] for key in row if key != "token_ids"} for row in rows]
    with pytest.raises(UserError, match="answers of dpo .generate again., row 0: no token_ids"):
        read_prefixes(completer, PROMPTS, {"dpo": [old]}, [3])
