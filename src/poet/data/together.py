"""What is wrong with pairs if it is so with all of them, and may be by chance with one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from poet.files import UserError
from poet.methods import SIDES

# How published templates begin and end a turn, and how transcripts of any kind ask for the answer.
_BEGINS = (
    r"<\|(?:im_start|start_header_id|header_start|start_of_role|start|START_OF_TURN_TOKEN|turn|user"
    r"|prompter|assistant)\|?>|<start_of_turn>|<｜(?:User|Assistant)｜>|\[INST\]"
)
_ENDS = (
    r"<\|(?:im_end|eot_id|eot|end|end_of_text|endoftext|END_OF_TURN_TOKEN|return|user)\|>"
    r"|<end_of_turn>|<turn\|>|<｜end▁of▁sentence｜>|</s>"
)
_ASKS = r"(?i:assistant|response|gpt|bot|ai) ?:"
# What may stand before a prompt that is repeated: the speaker's name (USER: ), a heading, a tag.
_LABEL = re.compile(r".{0,40}[:>*#\]]\s*|\s*", re.DOTALL)
_RENDERED = {
    "prompt": re.compile(rf"{_BEGINS}|\b{_ASKS}\s*\Z"),
    "answer": re.compile(rf"\A\s*(?:{_BEGINS}|{_ASKS})|(?:{_ENDS})\s*\Z"),
}


def check_together(pairs: Iterable[dict], source: str) -> None:
    """Refuse pairs (as :func:`poet.data.pairs.read_pair` gives them) that are all of another kind.

    They are gone through several times, each time up to the first that is not so.

    Raises:
        UserError: all answers begin with their prompts, or differ in white space only; all prompts
            or all answers have a template around them. Plain strings (``texts``) may have one.
    """
    first = [*islice(pairs, 2)]
    if not first:
        return
    if len(first) > 1 and all(map(_holds_prompt, pairs)):
        plain = all(repeats_prompt(*(pair[n] for n in ("prompt", *SIDES))) for pair in pairs)
        raise UserError(
            f"{source}: in every row chosen and rejected begin with the prompt, which would be "
            f"trained on as a part of the answer; found {_answered(first[0])[0][:100]!r}."
            + ("\nSet `format: repeated-prompt`." if plain else "\nExpected the answers alone.")
        )
    if all("texts" not in pair and differs_in_space(pair) for pair in pairs):
        raise UserError(
            f"{source}: in every row chosen and rejected differ in the white space around them "
            "only, which most chat templates trim. Expected two answers."
        )
    for name, texts_of in (("prompt", _asked), ("answer", _answered)):
        rendered = _RENDERED[name].search
        if all("texts" not in pair and all(map(rendered, texts_of(pair))) for pair in pairs):
            raise UserError(
                f"{source}: every {name} is text that a chat template has rendered already; found "
                f"{texts_of(first[0])[0][:100]!r}.\nThe model's own template would go "
                "around it. Expected messages, or the words alone."
            )


def _asked(pair: dict) -> list[str]:
    return [pair["prompt"][-1]["content"]]


def _answered(pair: dict) -> list[str]:
    return [pair[side][0]["content"] for side in SIDES]


def differs_in_space(pair: dict) -> bool:
    """Whether the responses differ in the white space around them only, which templates trim."""
    chosen, rejected = ({k: text.strip() for k, text in pair[s][0].items()} for s in SIDES)
    return chosen == rejected


def repeats_prompt(prompt: list[dict], chosen: list[dict], rejected: list[dict]) -> bool:
    """Whether both responses begin with the last message of the prompt."""
    text = prompt[-1]["content"].strip()
    return all(side[0]["content"].lstrip().startswith(text) for side in (chosen, rejected))


def _holds_prompt(pair: dict) -> bool:
    """Whether both responses begin with the last message of the prompt, perhaps behind a label."""
    found = [text.partition(_asked(pair)[0].strip()) for text in _answered(pair)]
    return all(prompt and _LABEL.fullmatch(before) for before, prompt, _ in found)
