"""Our tokens beside TRL's for the templates that TRL ships: what docs/library.md says of them."""

from datetime import datetime
from types import SimpleNamespace

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils
from trl import DPOConfig, DPOTrainer

from chat_tokenizers import NEED_PARTS, SHIPPED, byte_level, shipped
from poet.data.encoding import encode, encode_both
from poet.data.ends import turn_end
from poet.data.templates import Chat, render_prompts
from poet.files import UserError
from poet.methods.truncation import truncate_pair

# Their generation prompt begins a thought that the answer then does not have. TRL shortens the
# prompt to what both have in common; this project refuses, unless a variable turns it off.
THINKING = {
    "deepseek": None, "deepseekv3": None, "nemotron": {"enable_thinking": False},
    "qwen3_5_think": {"enable_thinking": False}, "qwen3_6": {"enable_thinking": False},
    "qwen3_8": {"enable_thinking": False},
}  # fmt: skip
NAMES = sorted(SHIPPED.keys() - NEED_PARTS)  # vision templates need contents as lists of parts
PIECES = [
    "a",
    "B",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    ".",
    "'s",
    "42",
    "\u00e9",
    "\u6771",
    "\U0001f642",
]
PIECES += ["[INST]", "<b>", "user", "assistant", "\u00a0", "\u2028"]
words = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
contents = st.builds("{}x{}".format, words, words)  # not empty once trimmed


def messages(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


@st.composite
def pairs(draw):
    turns = draw(st.sampled_from([1, 3]))
    prompt = messages(*draw(st.lists(contents, min_size=turns, max_size=turns)))
    sides = draw(st.lists(contents, min_size=2, max_size=2, unique_by=str.strip))
    return prompt, *([{"role": "assistant", "content": text}] for text in sides)


def trls(tokenizer, rows):
    """TRL's own preparation of rows (prompt, chosen, rejected)."""
    data = Dataset.from_list(rows).to_iterable_dataset()
    trainer = SimpleNamespace(_tokenizer=tokenizer)
    args = DPOConfig("out", max_length=None, use_cpu=True)
    prepared = DPOTrainer._prepare_dataset(trainer, data, tokenizer, args, "train")
    return [[row[f"{part}_ids"] for part in ("prompt", "chosen", "rejected")] for row in prepared]


class Clock:
    """Of transformers, on the day that is the default here."""

    @staticmethod
    def now():
        return datetime(2024, 7, 26)


def variables_of(name):
    families = [family for family in THINKING if name.startswith(family)]
    return THINKING[families[0]] if families else {}


CASES = [(name, own_eos) for name in NAMES for own_eos in (False, True)]


@pytest.mark.parametrize(("name", "own_eos"), CASES)
def test_tokens_are_trls_but_for_what_follows_the_turns_end(name, own_eos, monkeypatch):
    tokenizer, kwargs = shipped(name, own_eos), variables_of(name)
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    if kwargs is None:
        chat = Chat(tokenizer, "keep_start", {})
        with pytest.raises(UserError, match="renders a prompt differently once it has an answer"):
            encode_both(chat, [dict.fromkeys(("prompt", "chosen", "rejected"), messages("a"))])
        return
    chat = Chat(tokenizer, "keep_start", kwargs)
    eos, end = tokenizer.eos_token_id, turn_end(chat)

    @settings(max_examples=2, suppress_health_check=list(HealthCheck))
    @given(st.lists(pairs(), min_size=4, max_size=8))
    def check(rows):
        rows = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows]
        ours = encode_both(chat, rows)
        generation = encode(tokenizer, render_prompts(chat, [row["prompt"] for row in rows]))
        theirs = trls(tokenizer, [{**row, "chat_template_kwargs": kwargs} for row in rows])
        twice = tokenizer.encode(f"{tokenizer.eos_token}\n{tokenizer.eos_token}")[-3:]  # Phi-3's
        for mine, their, asked in zip(ours, theirs, generation, strict=True):
            assert mine[0] == asked
            kept = truncate_pair(*mine[1:])
            assert len(kept[0]) == len(kept[1]) == min(map(len, mine[1:]))
            merged = their[0] != asked  # across the boundary: TRL shortens the prompt
            assert not merged or asked[: len(their[0])] == their[0]
            for answer, trl_answer in zip(mine[1:], their[1:], strict=True):
                trl_answer = trl_answer[:-2] if trl_answer[-3:] == twice else trl_answer
                assert answer[-1] == eos and eos not in answer[:-1]
                if merged or end is None:
                    found = tokenizer.decode(mine[0] + answer)
                    expected = tokenizer.decode(their[0] + trl_answer).rstrip()
                    assert found == expected.removesuffix(tokenizer.eos_token) + tokenizer.eos_token
                else:
                    while tokenizer.decode(trl_answer[-1]).isspace():
                        trl_answer.pop()
                    assert answer == trl_answer + [eos] * (trl_answer[-1] != eos)

    check()


def test_trl_leaves_out_a_bos_that_the_template_does_not_write():
    """As Zephyr's: the tokenizer puts BOS before every text, so it stands here."""
    template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    tokenizer = byte_level(template, "<s>", "</s>", ["<|user|>", "<|assistant|>"])
    (ours,), (theirs,) = both(tokenizer, "the mill", "old", "new")
    assert ours[0] == [tokenizer.bos_token_id, *theirs[0]]
    for answer, trl_answer in zip(ours[1:], theirs[1:], strict=True):
        assert answer == trl_answer[:-1] and tokenizer.decode(trl_answer[-1:]) == "\n"


def test_trl_shortens_a_prompt_whose_end_merges_with_an_answer():
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    template += "{% if not add_generation_prompt %}</s>{% endif %}"
    tokenizer = byte_level(template, None, "</s>")
    (ours,), (theirs,) = both(tokenizer, "the mi", "ll", " old")
    asked = tokenizer("the mi", add_special_tokens=False)["input_ids"]
    assert ours[0] == asked and theirs[0] == asked[: len(theirs[0])] != asked
    texts = [[tokenizer.decode(ids[0] + answer) for answer in ids[1:]] for ids in (ours, theirs)]
    assert texts[0] == texts[1] == ["the mill</s>", "the mi old</s>"]


def both(tokenizer, asked, chosen, rejected):
    """Our tokens of one pair, and TRL's."""
    sides = [[{"role": "assistant", "content": text}] for text in (chosen, rejected)]
    row = dict(zip(("prompt", "chosen", "rejected"), [messages(asked), *sides], strict=True))
    return encode_both(Chat(tokenizer, "keep_start", {}), [row]), trls(tokenizer, [row])
