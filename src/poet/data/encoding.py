"""Chat messages to token ids: a prompt as generation sees it, and a response with its end.

The length policies ``keep_start`` and ``paper`` differ here in what a response is, see
:mod:`poet.data.tokenization`.
"""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonprefix

from poet.data.templates import (
    Chat,
    Options,
    refuse_losses,
    render_prompts,
    row_options,
    takes_alone,
    with_system,
)
from poet.files import UserError
from poet.methods import SIDES


def encode(tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of texts that open a sequence: BOS once, written by the template or added here.

    It is added where the tokenizer itself puts one before a plain text. A text that occurs twice,
    as a pair's prompt does, is tokenized once.
    """
    distinct = list(dict.fromkeys(texts))
    only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
    found = tokenizer(distinct, add_special_tokens=False, **only_ids)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer("")["input_ids"][:1] == [bos]:
        found = [ids if ids[:1] == [bos] else [bos, *ids] for ids in found]
    ids_of = dict(zip(distinct, found, strict=True))
    return [ids_of[text] for text in texts]


def encode_prompts(chat: Chat, rows: list[dict]) -> list[list[int]]:
    """Token ids of rows of prompts.jsonl, as the model reads them before it answers."""
    texts = render_prompts(chat, [row["prompt"] for row in rows], [*map(row_options, rows)])
    return encode(chat.tokenizer, texts)


def encode_pairs(
    chat: Chat,
    prompts: list[list[dict]],
    responses: list[list[dict]],
    options: Options = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of chat messages, prompts and their responses, before length limits.

    Raises:
        UserError: see :func:`poet.data.templates.apply_template`, :func:`refuse_losses` there and,
            with the policy ``paper``, :func:`poet.data.templates.takes_alone`.
    """
    render = _render_paper if chat.length_policy == "paper" else _render
    prompt_texts, response_texts = render(chat, prompts, responses, options)
    refuse_losses(responses, response_texts)
    return encode_texts(chat, prompt_texts, response_texts)


def encode_texts(
    chat: Chat, prompt_texts: list[str], response_texts: list[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of prompts and of the responses that continue them; a response ends with EOS.

    Prompt and response are tokenized together and split after the prompt's own tokens. Where the
    tokenizer merges across the boundary, ``keep_start`` tokenizes the response by itself, so that
    training sees the prompt as generation does; ``paper`` moves the boundary back to before the
    merged tokens (TRL 0.9.6 does so by one token, and stops with an error where that is too few).

    Raises:
        UserError: the tokenizer has no EOS.
    """
    tokenizer = chat.tokenizer
    if tokenizer.eos_token is None:
        raise UserError(
            f"the tokenizer in {tokenizer.name_or_path or 'memory'} has no EOS token; expected "
            "one, because responses end with it. Set `eos_token`."
        )
    prompt_ids = encode(tokenizer, prompt_texts)
    joined = [p + r for p, r in zip(prompt_texts, response_texts, strict=True)]
    response_ids = []
    for row, full in enumerate(encode(tokenizer, joined)):
        start = len(prompt_ids[row])
        if full[:start] != prompt_ids[row]:
            if chat.length_policy == "paper":
                prompt_ids[row] = commonprefix([full, prompt_ids[row]])
                start = len(prompt_ids[row])
            else:
                full, start = _encode_alone(tokenizer, response_texts[row]), 0
        ids, eos = full[start:], tokenizer.eos_token_id
        response_ids.append(ids if ids[-1:] == [eos] else [*ids, eos])
    return prompt_ids, response_ids


def encode_both(chat: Chat, rows: Sequence[dict]) -> list[tuple[list[int], list[int], list[int]]]:
    """Token ids of prompt, chosen and rejected of every pair, before length limits."""
    n = len(rows)
    prompts = [row["prompt"] for row in rows]
    responses = [row[side] for side in SIDES for row in rows]
    options = [*map(row_options, rows)]
    prompts, responses = encode_pairs(chat, prompts * 2, responses, options * 2)
    pairs = []
    for p, q, c, r in zip(prompts[:n], prompts[n:], responses[:n], responses[n:], strict=True):
        if p != q:  # a boundary that merged: what both have in common is the prompt
            shared = len(commonprefix([p, q]))
            c, r, p = p[shared:] + c, q[shared:] + r, p[:shared]
        pairs.append((p, c, r))
    return pairs


def _render(chat: Chat, prompts, responses, options) -> tuple[list[str], list[str]]:
    prompt_texts = render_prompts(chat, prompts, options)
    answers = _after(prompt_texts, chat, prompts, responses, options)
    return prompt_texts, [_ended(text, chat.tokenizer.eos_token) for text in answers]


def _ended(text: str, eos: str | None) -> str:
    """A response without what its template writes after the end of the turn: nobody generates it.

    That is a newline, mostly, and EOS after a turn that EOS has ended, as of Phi-3's template.
    """
    text = text.rstrip()
    before = text.removesuffix(eos or "").rstrip()
    return before if eos and before.endswith(eos) else text


def _render_paper(chat: Chat, prompts, responses, options) -> tuple[list[str], list[str]]:
    prompts = with_system(chat, prompts)
    prompt_texts = chat.text(prompts, options)
    refuse_losses(prompts, prompt_texts)
    # A row's tools or variables may be written before a message that stands alone.
    if not takes_alone(chat) or (options and any(options)):
        return prompt_texts, _after(prompt_texts, chat, prompts, responses, options)
    bos = chat.tokenizer.bos_token or ""
    return prompt_texts, [text.removeprefix(bos) for text in chat.text(responses, options)]


def _after(prompt_texts: list[str], chat: Chat, prompts, responses, options) -> list[str]:
    """What conversations have after their prompts' texts."""
    whole = chat.text([p + r for p, r in zip(prompts, responses, strict=True)], options)
    for prompt, text in zip(prompt_texts, whole, strict=True):
        if not text.startswith(prompt):
            raise UserError(
                "the chat template renders a prompt differently once it has an answer, so training "
                f"and generation would see different prompts.\n  alone:    ...{prompt[-80:]!r}\n"
                f"  answered: ...{text[max(0, len(prompt) - 80) : len(prompt)]!r}\n"
                "Give the tokenizer a template whose generation prompt opens the assistant turn, "
                "or set a variable by which this one does in chat_template_kwargs (mostly "
                "enable_thinking)."
            )
    return [text[len(prompt) :] for prompt, text in zip(prompt_texts, whole, strict=True)]


def _encode_alone(tokenizer, text: str) -> list[int]:
    """Tokens of ``text`` in the middle of a sequence: no BOS, no invented leading space."""
    for anchor in "\n.a":  # whichever does not merge with the text
        before = tokenizer(anchor, add_special_tokens=False)["input_ids"]
        full = tokenizer(anchor + text, add_special_tokens=False)["input_ids"]
        if full[: len(before)] == before:
            return full[len(before) :]
    return tokenizer(text, add_special_tokens=False)["input_ids"]
