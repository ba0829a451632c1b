"""Where an answer ends: the tokens that end one, and texts in it that would become such tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from poet.data.containers import BadRow
from poet.data.templates import PROBE, PROBE_ANSWER, Chat
from poet.files import UserError, read_json
from poet.methods import SIDES

_REASONING = re.compile("think|thought|reason", re.IGNORECASE)  # tags that belong to an answer


def turn_end(chat: Chat) -> int | None:
    """The token with which the template ends an assistant's turn; None if it is no special one.

    Raises:
        UserError: see :func:`poet.data.templates.apply_template`.
    """
    rest, ids = _after_answer(chat), chat.tokenizer.added_tokens_encoder
    found = [token for token in ids if rest.lstrip().startswith(token)]
    return ids[max(found, key=len)] if found else None


def closing_text(chat: Chat) -> str:
    """The text with which the template ends an assistant's turn where no token does; mostly empty.

    As of a ChatML whose ``<|im_end|>`` the tokenizer does not know, or of ``### End``. White space
    alone is none: an answer may have it.

    Raises:
        UserError: see :func:`poet.data.templates.apply_template`.
    """
    rest = _after_answer(chat)
    tokens = (rest.find(token) for token in chat.tokenizer.added_tokens_encoder)
    return rest[: min((place for place in tokens if place >= 0), default=len(rest))].rstrip()


def _after_answer(chat: Chat) -> str:
    """What the template writes after an answer's content."""
    (text,) = chat.text([PROBE + PROBE_ANSWER])
    return text.rpartition(PROBE_ANSWER[0]["content"])[2]


def with_ends(sampling: dict, chat: Chat, folder: str | Path) -> dict:
    """``sampling`` with all that end an answer as its ``stop_token_ids``, sorted.

    They are those that it names, the tokenizer's EOS, the end of the template's turn, and those of
    the model's ``folder``, see :func:`configured_ends`.

    Raises:
        UserError: see :func:`configured_ends`.
    """
    named = configured_ends(folder)
    ends = {*sampling["stop_token_ids"], *named, chat.tokenizer.eos_token_id, turn_end(chat)}
    return {**sampling, "stop_token_ids": sorted(ends - {None})}


def configured_ends(folder: str | Path) -> list[int]:
    """``eos_token_id`` of a model's folder that was checked, as transformers' generate reads it.

    It stands in ``generation_config.json``; without that file, in ``config.json``.

    Raises:
        UserError: it is no token id and no list of them.
    """
    files = (Path(folder) / f"{name}.json" for name in ("generation_config", "config"))
    path = next(filter(Path.is_file, files), None)
    if path is None:
        return []
    found = read_json(path)
    ends = found.get("eos_token_id", (found.get("text_config") or {}).get("eos_token_id"))
    ends = ends if isinstance(ends, list) else [ends]
    if any(type(end) not in (int, type(None)) for end in ends):
        raise UserError(
            f"{path}: eos_token_id is {ends}; expected a token id, a list of them or null. Mend it "
            "there."
        )
    return [end for end in ends if end is not None and end >= 0]  # -1 stands for none


def control_tokens(chat: Chat) -> dict[str, int]:
    """Text -> id of the tokens that give a conversation its form, which no answer should hold.

    They are the special ones and the end of a turn, but not tags around a model's reasoning.
    """
    tokenizer = chat.tokenizer
    ids = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    end = turn_end(chat)
    for token, added in tokenizer.added_tokens_decoder.items():
        if added.special or token == end:
            ids[added.content] = token
    return {text: token for text, token in ids.items() if not _REASONING.search(text)}


class Stray:
    """Finds texts that the tokenizer would make control tokens of."""

    def __init__(self, chat: Chat):
        self.tokenizer, self.ids = chat.tokenizer, control_tokens(chat)
        longest_first = sorted(self.ids, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def in_text(self, text: str) -> str | None:
        """The first such text; None if there is none."""
        found = {match[0] for match in self.pattern.finditer(text)}
        if found:  # a token may ask for a word's end around it
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            found = {token for token in found if self.ids[token] in ids}
        return min(found, key=text.index, default=None)

    def in_messages(self, messages: Sequence[dict]) -> str | None:
        """The first such text in what a template writes of messages: content and reasoning."""
        values = (value for m in messages for name, value in m.items() if name != "role")
        return next(filter(None, (self.in_text(v) for v in values if isinstance(v, str))), None)


def ended(tokenizer, text: str) -> str:
    """A plain response without the white space after its EOS, which would get another one."""
    eos = tokenizer.eos_token
    return text.rstrip() if eos and text.rstrip().endswith(eos) else text


def early_eos(tokenizer, text: str) -> str | None:
    """EOS before the end of a plain response, which has its template in it already."""
    eos = tokenizer.eos_token
    return eos if eos in text.rstrip().removesuffix(eos) else None


def defect(
    stray: Callable[[object], str | None], pair: dict, ids: tuple | None = None
) -> BadRow | None:
    """Why a pair's tokens would not be its answers; None if they are.

    Args:
        stray: what finds control tokens' texts in a response, :meth:`Stray.in_messages`.
        pair: with the responses ``chosen`` and ``rejected``.
        ids: token ids of prompt, chosen and rejected; without them only texts are looked at.
    """
    for side in SIDES:
        if token := stray(pair[side]):
            reason = f"{side} has the text of a special token, which would be that token"
            return BadRow(reason, token)
    if ids and ids[1] == ids[2]:
        text = pair["chosen"] if isinstance(pair["chosen"], str) else pair["chosen"][-1]["content"]
        return BadRow("chosen and rejected have the same tokens", text)
    return None
