"""Chat templates: messages to text, the same on every day, for training and for generation.

A template sees the messages, the tokenizer's special tokens, a setting's ``chat_template_kwargs``
and those of the row, with its ``tools``, as in TRL. Of the clock it sees nothing: the function
``strftime_now``, with which Llama-3.2's and others write today's date, writes a fixed one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from poet.data.messages import OPTIONS, REASONING
from poet.files import UserError

DATE = "2024-07-26"  # Llama-3.2's own, for those who have no clock
# A conversation that shows what a template does.
PROBE = [{"role": "user", "content": "Hello"}]
PROBE_ANSWER = [{"role": "assistant", "content": "Xyzzy"}]
Options = Sequence[dict | None] | None  # of rows, see row_options


@dataclass(frozen=True)
class Chat:
    """How a model's conversations become text and tokens.

    Attributes:
        length_policy: ``keep_start`` or ``paper``, see :mod:`poet.data.tokenization`.
        template_kwargs: variables of the template; ``strftime_now`` is the date (ISO) that its
            function of that name writes, DATE if absent. A row's own take precedence.
    """

    tokenizer: object
    length_policy: str
    template_kwargs: dict

    @classmethod
    def of(cls, tokenizer, record: dict) -> Chat:
        """With a record's ``length_policy`` and, where it has some, ``chat_template_kwargs``."""
        return cls(tokenizer, record["length_policy"], record.get("chat_template_kwargs", {}))

    def text(self, conversations: list[list[dict]], options: Options = None, **how) -> list[str]:
        """See :func:`apply_template`."""
        return apply_template(self.tokenizer, self.template_kwargs, conversations, options, **how)


def row_options(row: dict) -> dict | None:
    """What a row says to its template: its ``chat_template_kwargs`` and ``tools``; None if nothing.

    The loader checked them (:func:`poet.data.messages.read_options`); in a table they are JSON.
    """
    given = {name: row[name] for name in OPTIONS if row.get(name)}
    found = {
        n: json.loads(value) if isinstance(value, str) else value for n, value in given.items()
    }
    return {**found.pop("chat_template_kwargs", {}), **found} or None


def render_prompts(chat: Chat, prompts: list[list[dict]], options: Options = None) -> list[str]:
    """The text that the model continues: chat template with generation prompt.

    Raises:
        UserError: see :func:`apply_template` and :func:`refuse_losses`.
    """
    if chat.length_policy == "paper":
        prompts = with_system(chat, prompts)
    texts = chat.text(prompts, options, add_generation_prompt=True)
    refuse_losses(prompts, texts)
    return texts


def refuse_losses(conversations: list[list[dict]], texts: list[str]) -> None:
    """Refuse texts that lack what a message says, but for white space.

    Some templates know no system role and skip its messages, cut the thoughts off an answer, or
    read only contents that are lists of parts. Earlier answers may lose their thoughts.

    Raises:
        UserError: naming the message.
    """
    for messages, text in zip(conversations, texts, strict=True):
        written = "".join(text.split())
        for message in messages:
            if message["role"] == "assistant" and message is not messages[-1]:
                continue
            for name in ("content", *REASONING):
                value = message.get(name)
                if isinstance(value, str) and "".join(value.split()) not in written:
                    raise UserError(
                        f"the chat template leaves out what a message says: {name} of the role "
                        f"{message['role']}, {value[:100]!r}\n  found:    ...{text[-200:]!r}\n"
                        "Leave it out of the messages, or give the tokenizer a template that "
                        "writes it. (One for images may read lists of parts only.)"
                    )


def apply_template(
    tokenizer,
    template_kwargs: dict,
    conversations: list[list[dict]],
    options: Options = None,
    **how,
) -> list[str]:
    """The text of conversations; a list that occurs twice, as a pair's prompt, is rendered once.

    Args:
        template_kwargs: for all of them, see :class:`Chat`; ``options``: each one's own.
        how: ``apply_chat_template``'s, add_generation_prompt.

    Raises:
        UserError: the template refuses the messages (a system message, turns out of order), or is
            given what is no variable of a template.
    """
    options = [None] * len(conversations) if options is None else options
    names = [json.dumps(row or {}, sort_keys=True) for row in options]
    groups: dict[str, dict] = defaultdict(dict)
    for name, messages in zip(names, conversations, strict=True):
        groups[name][id(messages)] = messages
    text_of = {}
    for name, distinct in groups.items():
        arguments = template_arguments(tokenizer, {**template_kwargs, **json.loads(name)})
        try:
            texts = tokenizer.apply_chat_template(
                list(distinct.values()), tokenize=False, **arguments, **how
            )
        except Exception as error:  # a template is other people's code
            roles = sorted({tuple(m["role"] for m in messages) for messages in distinct.values()})
            raise UserError(
                f"the chat template refuses some messages: {error}\n"
                f"  roles found: {'; '.join(', '.join(turns) for turns in roles[:5])}\n"
                "Change the messages, or give the tokenizer a template that takes them."
            ) from None
        text_of |= {(name, key): text for key, text in zip(distinct, texts, strict=True)}
    return [
        text_of[name, id(messages)] for name, messages in zip(names, conversations, strict=True)
    ]


def template_arguments(tokenizer, template_kwargs: dict) -> dict:
    """``apply_chat_template``'s keyword arguments for a template's variables.

    Raises:
        UserError: there is no template, or no variable of a template among them.
    """
    variables = dict(template_kwargs)
    day = variables.pop("strftime_now", DATE)
    taken = {"messages", *inspect.signature(tokenizer.apply_chat_template).parameters}
    if wrong := sorted(variables.keys() & (taken - {"tools", "documents"})):
        raise UserError(
            f"chat_template_kwargs has the key {', '.join(wrong)}, which says how a template is "
            "applied; expected variables of the chat template. Leave it out."
        )
    template = template_of(tokenizer, variables.get("tools"))
    return {"chat_template": _dated(template, variables, day), **variables}


def _dated(template: str, variables: dict, day: str) -> str:
    """A template whose ``strftime_now`` writes that day, as the first moment of it.

    transformers passes no functions to a template, so the function is a macro before it. It knows
    the codes (%d, %B) that the template or its variables name.
    """
    if "strftime_now" not in template:
        return template
    try:
        moment = date.fromisoformat(day)
    except (TypeError, ValueError):
        raise UserError(
            f"chat_template_kwargs.strftime_now is {day!r}; expected a date like {DATE}"
        ) from None
    found = {*re.findall(r"%[-_0^#]?[A-Za-z]", f"{template}{variables}")}
    codes = sorted(found - {"%s"})  # which depends on the time zone
    written = [("%%", "\0"), *((code, moment.strftime(code)) for code in codes), ("\0", "%")]
    steps = "".join(f"|replace({json.dumps(a)}, {json.dumps(b)})" for a, b in written)
    # Jinja drops the newline after a block, so the template begins a line, as it does alone.
    return f"{{% macro strftime_now(format) %}}{{{{ format{steps} }}}}{{% endmacro %}}\n{template}"


def template_of(tokenizer, tools: list | None = None) -> str:
    """The chat template as transformers chooses it: of several named ones ``default``.

    With ``tools`` it is the one named ``tool_use``, if there is such.

    Raises:
        UserError: there is none, or several without a ``default``.
    """
    found = tokenizer.chat_template
    if not found:
        raise UserError(
            f"the tokenizer in {tokenizer.name_or_path or 'memory'} has no chat template; expected "
            "one, because prompts and answers are chat messages. Save the tokenizer with "
            "`chat_template` set."
        )
    if isinstance(found, dict) and "default" not in found:
        raise UserError(
            f"the tokenizer in {tokenizer.name_or_path or 'memory'} has several chat templates, "
            f"named {', '.join(sorted(found))}; expected one named default, which is the one that "
            "is used. Save the tokenizer with `chat_template` set to the template you mean."
        )
    return tokenizer.get_chat_template(tools=tools)


def template_hash(tokenizer) -> str:
    """The SHA-256 of a tokenizer's chat template, and of the one for tools if that is another.

    Raises:
        UserError: see :func:`template_of`.
    """
    texts = dict.fromkeys(template_of(tokenizer, tools) for tools in (None, [{}]))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def with_system(chat: Chat, prompts: list[list[dict]]) -> list[list[dict]]:
    """The ``paper`` policy's prompts: an empty system message first, where the template has one."""
    empty = {"role": "system", "content": ""}
    if not _takes_system(chat, empty):
        return prompts
    return [p if p[0]["role"] == "system" else [empty, *p] for p in prompts]


def _takes_system(chat: Chat, empty: dict) -> bool:
    """The released code's test, but for templates that name the role only to refuse it.

    Gemma-2's own is such a one. The released code replaces it by one that takes the empty message
    and trims it away, which gives the text of no message.
    """
    template = template_of(chat.tokenizer)
    if "system" not in template and "<|im_start|>" not in template:
        return False
    try:
        chat.text([[empty, *PROBE]])
    except UserError:
        return False
    return True


def takes_alone(chat: Chat) -> bool:
    """Does the template take an assistant's message without a prompt, as ``paper`` gives it one?

    Gemma-2's own does not. The released code replaces it by one that does.

    Raises:
        UserError: alone, it is not what it is after a prompt: a default system text, a date, an end
            of thoughts is more or less.
    """
    (prompt,) = with_system(chat, [PROBE])
    asked, whole = chat.text([prompt, prompt + PROBE_ANSWER])
    try:
        (alone,) = chat.text([PROBE_ANSWER])
    except UserError:
        return False
    alone = alone.removeprefix(chat.tokenizer.bos_token or "")
    if asked + alone == whole:
        return True
    raise UserError(
        "length_policy: paper takes a response from the chat template of the assistant's message "
        "alone, which this template writes otherwise than after a prompt.\n"
        f"  prompt, then answer: {asked + alone!r}\n"
        f"  both in one:         {whole!r}\n"
        "Set `length_policy: keep_start`, or give the tokenizer a template that does not."
    )
