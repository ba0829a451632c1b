"""Prefixes of generated answers: behind generation's own prompt, up to the answer's end."""

import pytest

from chat_tokenizers import byte_level, shipped
from poet.analyse.completion import Completer
from poet.analyse.own_prefixes import read_prefixes
from poet.data.encoding import encode
from poet.data.ends import with_ends
from poet.data.templates import Chat, render_prompts, row_options

SYSTEM = (
    "{{ mood | default('') }}{% for m in messages %}"
    "<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    "{# knows the role system #}"
)
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
PROMPTS = [
    {"instruction": "a", "prompt": [{"role": "user", "content": "a"}]},
    {
        "instruction": "b",
        "prompt": [{"role": "user", "content": "b"}],
        "chat_template_kwargs": {"mood": "sad"},
    },
]
ANSWERS = [
    {"instruction": "a", "output": "the mill is old", "finish_reason": "stop"},
    {"instruction": "b", "output": "the mi", "finish_reason": "length"},
]


@pytest.mark.parametrize("policy", ["keep_start", "paper"])
@pytest.mark.parametrize("name", ["another EOS", "gemma"])
def test_prefixes_stand_behind_the_prompt_of_generation(policy, name, tmp_path):
    tokenizer = (
        shipped("gemma", own_eos=True)
        if name == "gemma"
        else byte_level(SYSTEM, None, "</s>", ROLES)
    )
    chat = Chat(tokenizer, policy, {})
    sampling = with_ends({"stop_token_ids": []}, chat, tmp_path)
    completer = Completer(None, chat, sampling, 0, None)
    found, prompt_ids = read_prefixes(completer, PROMPTS, {"dpo": [ANSWERS]}, [3, 99])
    options = [*map(row_options, PROMPTS)]
    seen = encode(tokenizer, render_prompts(chat, [p["prompt"] for p in PROMPTS], options))
    for row, (prompt, generated) in enumerate(zip(prompt_ids, seen, strict=True)):
        (_, ended), (_, cut) = found["dpo", 0, 99]
        prefix = [[*ended], [*cut]][row]
        # With `paper` the assistant's header is the response's; together they are the same tokens.
        assert [*prompt, *prefix][: len(generated)] == generated
        assert (policy == "keep_start") == (prompt == generated)
        text = completer.text(prefix)
        assert text.strip() == ANSWERS[row]["output"]
        assert completer.is_whole(prefix) == (ANSWERS[row]["finish_reason"] == "stop")
    assert found["dpo", 0, 3] == [(row, ids[:3]) for row, ids in found["dpo", 0, 99]]
