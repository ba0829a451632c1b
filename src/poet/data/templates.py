"""Chat templates: messages to text, the same for training and for generation."""

from __future__ import annotations

import hashlib

from poet.files import UserError


def render_prompts(
    tokenizer, prompts: list[list[dict]], length_policy: str = "keep_start"
) -> list[str]:
    """The text that the model continues: chat template with generation prompt.

    Raises:
        UserError: see :func:`apply_template`.
    """
    if length_policy == "paper":
        prompts = with_system(tokenizer, prompts)
    return apply_template(tokenizer, prompts, add_generation_prompt=True)


def template_hash(tokenizer, folder: str) -> str:
    """The SHA-256 of a tokenizer's chat template.

    Raises:
        UserError: it has none.
    """
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer in {folder} has no chat template; expected one, because prompts and "
            "answers are chat messages. Save the tokenizer with `chat_template` set."
        )
    return hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()


def apply_template(tokenizer, conversations: list[list[dict]], **kwargs) -> list[str]:
    """The text of conversations; a list that occurs twice, as a pair's prompt, is rendered once.

    Raises:
        UserError: the template refuses the messages (a system message, turns out of order).
    """
    from jinja2 import TemplateError

    distinct = {id(messages): messages for messages in conversations}
    try:
        texts = tokenizer.apply_chat_template(list(distinct.values()), tokenize=False, **kwargs)
        text_of = dict(zip(distinct, texts, strict=True))
        return [text_of[id(messages)] for messages in conversations]
    except TemplateError as error:
        roles = sorted({tuple(m["role"] for m in messages) for messages in conversations})
        raise UserError(
            f"the chat template refuses some messages: {error}\n"
            f"  roles found: {'; '.join(', '.join(turns) for turns in roles[:5])}\n"
            "Change the messages, or give the tokenizer a template that takes them."
        ) from None


def with_system(tokenizer, prompts: list[list[dict]]) -> list[list[dict]]:
    """The ``paper`` policy's prompts: an empty system message first, where the template has one."""
    empty = {"role": "system", "content": ""}
    if not _takes_system(tokenizer, empty):
        return prompts
    return [p if p[0]["role"] == "system" else [empty, *p] for p in prompts]


def _takes_system(tokenizer, empty: dict) -> bool:
    """The released code's test, but for templates that name the role only to refuse it.

    Gemma-2's own is such a one. The released code replaces it by one that takes the empty message
    and trims it away, which gives the text of no message.
    """
    template = tokenizer.chat_template
    if "system" not in template and "<|im_start|>" not in template:
        return False
    try:
        apply_template(tokenizer, [[empty, {"role": "user", "content": "Hello"}]])
    except UserError:
        return False
    return True
