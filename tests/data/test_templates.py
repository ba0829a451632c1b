"""What reaches a chat template, and what a template may not depend on."""

import contextlib
import copy
import json
import os
import re
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from chat_tokenizers import NEED_PARTS, SHIPPED, byte_level, shipped
from poet.data.containers import BadRow
from poet.data.encoding import encode_both, encode_pairs
from poet.data.ends import turn_end
from poet.data.messages import read_options
from poet.data.template_checks import check_template
from poet.data.templates import (
    DATE,
    Chat,
    apply_template,
    refuse_losses,
    render_prompts,
    row_options,
    takes_alone,
    template_hash,
    template_of,
)
from poet.files import UserError

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
OPENS = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
DATED = "{{ strftime_now('%d %b %Y') }}" + TURNS + OPENS


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def tokenizer_of(template):
    return byte_level(template, None, "<|end|>", ["<|user|>", "<|assistant|>"])


def text_of(template, messages, kwargs=None, options=None, **how):
    (text,) = apply_template(tokenizer_of(template), kwargs or {}, [messages], [options], **how)
    return text


# Dates

DAYS = st.dates().map(lambda day: day.replace(year=max(day.year, 1000)))
CODES = ["%d", "%-d", "%b", "%B", "%Y", "%y", "%m", "%-m", "%A", "%a", "%j", "%H:%M", "%F", "%%"]


@given(DAYS, st.lists(st.sampled_from([*CODES, " ", "%%d", "th of"]), max_size=6).map("".join))
def test_a_template_writes_the_given_day_as_python_does(day, pattern):
    template = "{{ strftime_now(" + json.dumps(pattern) + ") }}" + TURNS
    text = text_of(template, [user("a")], {"strftime_now": day.isoformat()})
    assert text == day.strftime(pattern) + "<|user|>a<|end|>"


@pytest.mark.parametrize("name", [name for name, t in SHIPPED.items() if "strftime_now" in t])
def test_shipped_templates_write_what_they_do_on_that_day(name, monkeypatch):
    """transformers' own clock, set to the day."""
    tokenizer = shipped(name)

    class Clock:
        @staticmethod
        def now():
            return datetime(2025, 3, 9, 17, 30)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    expected = tokenizer.apply_chat_template([user("a")], tokenize=False)
    assert "Mar" in expected or "2025-03-09" in expected
    found = apply_template(tokenizer, {"strftime_now": "2025-03-09"}, [[user("a")]])
    assert found == [expected]
    (default,) = apply_template(tokenizer, {}, [[user("a")]])
    assert "26 Jul 2024" in default or DATE in default


@given(st.sampled_from(["", "\n", "  ", "\n\n  ", "x\n"]))
def test_fixing_the_date_changes_nothing_else(start):
    template = start + "{% if true %}\n  a{% endif %}\n" + "{{ strftime_now('%Y') }}"
    tokenizer = tokenizer_of(template)
    expected = tokenizer.apply_chat_template([user("a")], tokenize=False)
    year = f"{datetime.now():%Y}-01-01"
    assert apply_template(tokenizer, {"strftime_now": year}, [[user("a")]]) == [expected]


def test_a_variable_may_say_how_the_day_is_written():
    template = "{{ strftime_now(date_format | default('%d')) }} " + TURNS
    for variables, written in (({}, "26"), ({"date_format": "%A %-d/%m"}, "Friday 26/07")):
        assert text_of(template, [user("a")], variables) == f"{written} <|user|>a<|end|>"


@pytest.mark.parametrize("day", ["tomorrow", "2024-02-30", 3])
def test_what_is_no_date_is_refused(day):
    with pytest.raises(UserError, match="strftime_now is .* expected a date like 2024-07-26"):
        text_of(DATED, [user("a")], {"strftime_now": day})


def test_tokens_are_the_same_on_another_day():
    chat = Chat(tokenizer_of(DATED), "keep_start", {})
    rows = [{"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]}]
    found = []
    before = os.environ.get("TZ")
    for zone in ("POET12", "POET-14"):
        os.environ["TZ"] = zone
        time.tzset()
        found.append(encode_both(chat, rows))
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()
    assert found[0] == found[1]


class Clocked:
    """Stands in for a tokenizer whose code writes the date itself."""

    name_or_path = "folder"
    chat_template = TURNS

    def get_chat_template(self, tools=None):
        return self.chat_template

    def apply_chat_template(self, conversations, tokenize, chat_template, **how):
        return [f"{time.strftime('%F')} {c[0]['content']}" for c in conversations]


def test_a_tokenizer_that_writes_the_date_by_itself_is_refused():
    zone = os.environ.get("TZ")
    with pytest.raises(UserError, match="writes another prompt on another day") as error:
        check_template(Clocked(), {})
    assert os.environ.get("TZ") == zone
    assert len(set(str(error.value).splitlines()[1:3])) == 2


@pytest.mark.parametrize("name", sorted(NEED_PARTS))
def test_a_template_that_leaves_out_texts_is_refused(name):
    with pytest.raises(UserError, match="leaves out what a message says"):
        check_template(byte_level(SHIPPED[name], "<bos>", "<eos>"), {})


# As Phi-3-mini's first, which knows no system role; as DeepSeek's, which cuts off the thoughts.
SKIPS = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|>"
    "{% elif m.role == 'assistant' %}<|assistant|>{{ m.content.split('</think>')[-1] }}<|end|>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SYSTEM = {"role": "system", "content": "Answer  in\nrhyme."}


@pytest.mark.parametrize("policy", ["keep_start", "paper"])
@pytest.mark.parametrize(
    ("prompt", "answer", "said"),
    [
        ([SYSTEM, user("a")], {}, "content of the role system, 'Answer "),
        ([user("a")], {"content": "<think>hm</think>b"}, "content of the role assistant, '<think>"),
        ([user("a")], {"reasoning_content": "hm"}, "reasoning_content of the role assistant, 'hm'"),
        ([user("a")], {"thinking": "hm"}, "thinking of the role assistant, 'hm'"),
    ],
)
def test_what_a_template_would_leave_out_is_refused(prompt, answer, said, policy, planted):
    chat = Chat(tokenizer_of(SKIPS), policy, {})
    with pytest.raises(UserError, match="leaves out what a message says: " + said) as error:
        encode_pairs(chat, [prompt], [[assistant("b") | answer]])
    if prompt[0] is SYSTEM:
        if policy == "keep_start":
            planted("a system message for a template without", error.value, "no training starts")
        with pytest.raises(UserError, match=said):
            render_prompts(chat, [prompt])
        return
    # Earlier answers may lose their thoughts.
    whole = assistant("b") | answer
    encode_pairs(chat, [[user("a"), whole, user("c")]], [[assistant("d")]])


@given(
    st.sampled_from(sorted(SHIPPED.keys() - NEED_PARTS)),
    st.lists(st.text(min_size=1, max_size=20), min_size=4, max_size=4),
)
def test_shipped_templates_leave_out_nothing(name, texts):
    """But for white space, which some trim, and system messages, which some refuse."""
    system, asked, before, answered = texts
    tokenizer = shipped(name)
    prompt = [user(asked), assistant(before), user(asked)]
    told = [{"role": "system", "content": system}, *prompt]
    for messages in ([*prompt, assistant(answered)], [*told, assistant(answered)]):
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError:
            assert messages[0]["role"] == "system"
            continue
        refuse_losses([messages], [text])
        written = "".join(text.split())
        assert all("".join(message["content"].split()) in written for message in messages)


# Variables of a setting and of rows

SAYS = "{{ mood | default('none') }}|{{ tools | length if tools else 0 }}|" + TURNS


def test_a_rows_variables_go_before_the_settings():
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    rows = [
        {"chat_template_kwargs": {"mood": "glad"}, "tools": [tool]},
        {"chat_template_kwargs": '{"mood": "sad"}', "tools": json.dumps([tool, tool])},
        {"chat_template_kwargs": {"mood": None}, "tools": []},
        {"chat_template_kwargs": None},
        {},
    ]
    options = [row_options(read_options(row)) for row in rows]
    assert options[2:] == [None, None, None]
    conversations = [[user("a")]] * len(rows)
    for setting, rest in (({}, "none|0|"), ({"mood": "calm"}, "calm|0|")):
        texts = apply_template(tokenizer_of(SAYS), setting, conversations, options)
        heads = [text.removesuffix("<|user|>a<|end|>") for text in texts]
        assert heads == ["glad|1|", "sad|2|", rest, rest, rest]


def test_a_row_of_a_table_has_options_only_where_a_column_holds_some():
    assert row_options({"prompt": 1}) is None
    assert row_options({"tools": "", "chat_template_kwargs": None}) is None
    assert row_options({"tools": '[{"a": 1}]', "prompt": 2}) == {"tools": [{"a": 1}]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tools": "[{"}, "tools is not valid JSON; found '\\[\\{'"),
        ({"tools": {"a": 1}}, "tools is no list of objects; found"),
        ({"chat_template_kwargs": "[1]"}, "chat_template_kwargs is no object; found"),
    ],
)
def test_options_of_another_kind_are_refused(row, said):
    with pytest.raises(BadRow, match=said):
        read_options(row)


@pytest.mark.parametrize("key", ["tokenize", "add_generation_prompt", "chat_template", "messages"])
def test_what_is_no_variable_is_refused(key):
    with pytest.raises(UserError, match=f"chat_template_kwargs has the key {key}, which says how"):
        text_of(TURNS, [user("a")], {}, {key: "x"})


def test_reasoning_reaches_the_template_and_absent_fields_do_not():
    template = (
        "{% for m in messages %}{% if m.reasoning_content is defined %}"
        "<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|end|>{% endfor %}"
    )
    messages = [user("a"), assistant("b", reasoning_content=None)]
    assert text_of(template, messages) == "a<|end|>b<|end|>"
    for name in ("reasoning_content", "thinking", "reasoning"):
        messages = [user("a"), assistant("b", **{name: "hm"})]
        assert text_of(template, messages) == "a<|end|><think>hm</think>b<|end|>"


def test_errors_of_a_templates_code_name_the_roles():
    for template in ("{{ messages[9].content }}", "{{ messages[0].content + 1 }}", "{{ 1 / 0 }}"):
        with pytest.raises(UserError, match="refuses some messages: .*\n  roles found: user"):
            text_of(template, [user("a")])


# Named templates


def test_of_named_templates_the_default_is_used(tmp_path):
    tokenizer = tokenizer_of(None)
    tokenizer.chat_template = {"default": TURNS + OPENS, "tool_use": "tools" + TURNS, "rag": "no"}
    alone = tokenizer_of(TURNS + OPENS)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for each in (tokenizer, again):
        chat = Chat(each, "keep_start", {})
        check_template(each, {})
        assert render_prompts(chat, [[user("a")]]) == ["<|user|>a<|end|><|assistant|>"]
        pairs = [[user("a")]], [[assistant("b")]]
        assert encode_pairs(chat, *pairs) == encode_pairs(Chat(alone, "keep_start", {}), *pairs)
        assert turn_end(chat) == each.eos_token_id
        with_tools = apply_template(each, {}, [[user("a")]], [{"tools": [{"name": "f"}]}])
        assert with_tools == ["tools<|user|>a<|end|>"]
    hashes = {template_hash(each) for each in (tokenizer, again)}
    assert len(hashes) == 1 and hashes != {template_hash(alone)}  # rows with tools have another


def test_named_templates_without_a_default_are_refused(tmp_path, planted):
    tokenizer = tokenizer_of(None)
    tokenizer.chat_template = {"chat": TURNS, "rag": TURNS}
    tokenizer.save_pretrained(tmp_path / "model")
    for use in (template_of, template_hash, lambda t: check_template(t, {})):
        with pytest.raises(
            UserError, match="several chat templates, named chat, rag; expected one"
        ):
            use(AutoTokenizer.from_pretrained(tmp_path / "model"))
    with pytest.raises(UserError) as error:
        template_of(AutoTokenizer.from_pretrained(tmp_path / "model"))
    planted(
        "a model with several named chat templates, none of them `default`",
        error.value,
        "the start model is not made",
    )


# length_policy: paper


# Alone, these write a system text, a date, another opening, or an answer without its thoughts.
REFUSED = re.compile("gptoss|phi3|llama3_[12]|muse|nemotron|qwen2_5|qwen3$|glm4moe")


@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - NEED_PARTS))
def test_paper_takes_a_response_from_the_assistants_header_or_refuses(name):
    tokenizer = shipped(name, own_eos=True)
    prompt, answer = [user("One two")], [assistant("Three.")]
    try:
        (asked,), (response,) = encode_pairs(Chat(tokenizer, "paper", {}), [prompt], [answer])
    except UserError as error:
        assert "writes otherwise than after a prompt" in str(error) and REFUSED.match(name)
        return
    assert not REFUSED.match(name)
    asked, response = tokenizer.decode(asked), tokenizer.decode(response)
    empty = {"role": "system", "content": ""}
    whole = []
    for system in ([], [empty]):
        with contextlib.suppress(TemplateError):
            whole.append(tokenizer.apply_chat_template(system + prompt + answer, tokenize=False))
    assert (asked + response).removesuffix("<eos>") in whole
    role = re.compile("assistant|model|Assistant|CHATBOT_TOKEN")
    head, _, tail = response.partition("Three.")
    assert len(role.findall(head)) == 1 and not role.search(asked.partition("One two")[2])
    assert "One two" not in head
    assert tail.endswith("<eos>")


def test_papers_gemma_needs_no_other_template():
    """Its own takes no answer without a prompt; the released code's, which does, says the same."""
    own = shipped("gemma", own_eos=True)
    released = copy.deepcopy(own)
    released.chat_template = re.sub(
        r"\{%-? if \(message.*?raise_exception\(.Conversation.*?endif -?%\}",
        "",
        SHIPPED["gemma"],
        flags=re.S,
    )
    assert released.chat_template != own.chat_template
    prompts = [[user("a")], [user("a"), assistant("b"), user("c")]]
    pairs = prompts, [[assistant("d")], [assistant(" e")]]
    texts = [encode_pairs(Chat(t, "paper", {}), *pairs) for t in (own, released)]
    assert texts[0] == texts[1]
    assert takes_alone(Chat(released, "paper", {})) and not takes_alone(Chat(own, "paper", {}))


def test_a_default_system_text_in_a_response_is_named(planted):
    with pytest.raises(UserError, match="writes otherwise than after a prompt") as error:
        takes_alone(Chat(shipped("qwen2_5"), "paper", {}))
    assert "You are Qwen" in str(error.value)
    planted("`length_policy: paper` with a default system text", error.value, "no training starts")


def test_a_template_without_a_generation_prompt_is_refused_where_answers_would_begin_with_it():
    turns = "{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}"
    opened = turns + "{% if add_generation_prompt %}### assistant: {% endif %}"
    marked = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    inst = "{% for m in messages %}{{ '[I]' if m.role == 'user' }}{{ m.content }}{% endfor %}"
    check_template(byte_level(opened, None, "</s>"), {})
    check_template(byte_level(marked, None, "</s>", ["<|user|>", "<|assistant|>"]), {})
    check_template(byte_level(inst, None, "</s>"), {})
    with pytest.raises(UserError, match="no generation prompt, .* begin with '### assistant: '"):
        check_template(byte_level(turns, None, "</s>"), {})
