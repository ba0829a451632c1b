"""Tokenization with three kinds of tokenizers and templates shaped like the paper's models'.

What is expected is written out by hand or recomputed here; nothing is taken from the module.
"""

import copy
import json
import random
from concurrent.futures import Future
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_tokenizers import byte_level, metaspace, prepending
from poet.data.encoding import encode, encode_pairs
from poet.data.templates import Chat, render_prompts
from poet.data.tokenization import (
    BATCH,
    _in_order,
    limit_lengths,
    main,
    pair_hash,
    tokenize_file,
)
from poet.files import UserError, read_json

# As zephyr-7b-sft-full has it: the generation prompt is a line of its own.
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
LLAMA = (
    "{% for message in messages %}"
    "{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# What the paper's Gemma-2 configurations put in its place.
GEMMA_RELEASED = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set system_message = messages[0]['content'] | trim + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system_message = '' %}{% endif %}"
    "{% for message in messages %}{% if loop.index0 == 0 %}"
    "{% set content = system_message + message['content'] %}{% else %}"
    "{% set content = message['content'] %}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
    "{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
# Written for tests: nothing stands between a prompt and its answer, so tokens merge.
BARE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


HEADERS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TURNS = ["<start_of_turn>", "<end_of_turn>"]
TOKENIZERS = {
    "zephyr": lambda: prepending(ZEPHYR),
    "zephyr-bytes": lambda: byte_level(ZEPHYR, "<s>", "</s>"),
    "zephyr-no-bos": lambda: byte_level(ZEPHYR, None, "</s>"),
    "llama-base": lambda: byte_level(LLAMA, "<|begin|>", "<|end_of_text|>", HEADERS),
    "llama-instruct": lambda: byte_level(LLAMA, "<|begin|>", "<|eot_id|>", HEADERS[:2]),
    "gemma": lambda: metaspace(GEMMA, TURNS),
    "gemma-bytes": lambda: byte_level(GEMMA, "<bos>", "<eos>", TURNS),
}
NAMES = list(TOKENIZERS)
SUPPORTS_SYSTEM = [name for name in NAMES if "gemma" not in name]


@pytest.fixture(scope="module")
def tokenizers():
    return {name: make() for name, make in TOKENIZERS.items()}


def chat(tokenizer, policy="keep_start", **template_kwargs):
    return Chat(tokenizer, policy, template_kwargs)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


PROMPTS = [
    [user("What is the mill?")],
    [user("the river"), assistant("It is the Morin."), user("and the mill?")],
    [user("a\n\n b")],
]
RESPONSES = [[assistant("It is old.")], [assistant("old\n\n\nand told twice")], [assistant("a")]]


def pieces(name):
    """Texts around a turn, by hand: opening of a user's, of the answer's, end of a turn."""
    if "zephyr" in name:
        return "", "<|user|>\n", "<|assistant|>\n", "</s>\n"
    if "llama" in name:
        header = "<|start_header_id|>{}<|end_header_id|>\n\n".format
        return "<|begin|>", header("user"), header("assistant"), "<|eot_id|>"
    turn = "<start_of_turn>{}\n".format
    return "<bos>", turn("user"), turn("model"), "<end_of_turn>\n"


def by_hand(name, prompt):
    start, asked, answered, end = pieces(name)
    opening = {"user": asked, "assistant": answered}
    return start + "".join(opening[m["role"]] + m["content"] + end for m in prompt)


def bos_of(tokenizer):
    return [] if tokenizer.bos_token is None else [tokenizer.bos_token_id]


def ids_of(tokenizer, text):
    """Tokens of a text that opens a sequence, without BOS."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def assert_bos_once(tokenizer, prompt_ids, response_ids):
    bos = tokenizer.bos_token_id
    assert (prompt_ids + response_ids).count(bos) == (bos is not None)
    assert bos is None or prompt_ids[0] == bos


def text_of(tokenizer, ids):
    """The text of token ids; spaces that a prefix-space tokenizer puts after special tokens out."""
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    for token in tokenizer.all_special_tokens:
        text = text.replace(f"{token} ", token)
    return text


@pytest.mark.parametrize("name", NAMES)
def test_keep_start_is_the_template_up_to_the_end_of_the_answer(tokenizers, name):
    tokenizer = tokenizers[name]
    prompt_ids, response_ids = encode_pairs(chat(tokenizer), PROMPTS, RESPONSES)
    generating = encode(tokenizer, render_prompts(chat(tokenizer), PROMPTS))
    assert prompt_ids == generating
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token or ""
    _, _, answered, end = pieces(name)
    for prompt, [answer], p, r in zip(PROMPTS, RESPONSES, prompt_ids, response_ids, strict=True):
        assert_bos_once(tokenizer, p, r)
        assert r.count(eos) == 1 and r[-1] == eos
        assert not tokenizer.decode(r[-2]).isspace()
        head = by_hand(name, prompt).removeprefix(bos) + answered
        tail = answer["content"] + end.rstrip().removesuffix(tokenizer.eos_token)
        assert text_of(tokenizer, p + r) == bos + head + tail + tokenizer.eos_token
        assert p + r == [*bos_of(tokenizer), *ids_of(tokenizer, head + tail), eos]


@pytest.mark.parametrize("name", NAMES)
def test_paper_is_the_released_codes_text(tokenizers, name):
    tokenizer = tokenizers[name]
    prompt_ids, response_ids = encode_pairs(chat(tokenizer, "paper"), PROMPTS, RESPONSES)
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token or ""
    _, _, answered, end = pieces(name)
    for prompt, [answer], p, r in zip(PROMPTS, RESPONSES, prompt_ids, response_ids, strict=True):
        assert_bos_once(tokenizer, p, r)
        # An empty system message where the template speaks of the role and takes it: Zephyr's.
        system = "<|system|>\n</s>\n" if "zephyr" in name else ""
        head = system + by_hand(name, prompt).removeprefix(bos)
        # The answer's header belongs to the answer; so does what ends the turn.
        tail = answered + answer["content"] + end
        # EOS is appended unless the last token already is EOS.
        already = ids_of(tokenizer, tail)[-1] == eos
        assert r[-1] == eos
        assert r.count(eos) == (2 if "zephyr" in name else 1)
        assert text_of(tokenizer, p) == bos + head
        assert text_of(tokenizer, r).lstrip() == tail + ("" if already else tokenizer.eos_token)
        assert already == (name == "llama-instruct")
        whole = bos_of(tokenizer) + ids_of(tokenizer, head + tail)
        assert p + r == (whole if already else [*whole, eos])


def test_the_empty_system_message_of_gemma_changes_nothing(tokenizers):
    """The released template takes it and trims it away; Gemma's own refuses it."""
    own = tokenizers["gemma"]
    released = copy.deepcopy(own)
    released.chat_template = GEMMA_RELEASED
    empty = [[{"role": "system", "content": ""}, *prompt] for prompt in PROMPTS]
    assert encode_pairs(chat(own, "paper"), PROMPTS, RESPONSES) == encode_pairs(
        chat(released, "paper"), empty, RESPONSES
    )


@pytest.mark.parametrize("policy", ["keep_start", "paper"])
def test_a_system_message_of_the_pairs_is_kept(tokenizers, policy):
    prompts = [[{"role": "system", "content": "hello"}, user("a")]]
    for name in SUPPORTS_SYSTEM:
        ids, _ = encode_pairs(chat(tokenizers[name], policy), prompts, [[assistant("b")]])
        text = text_of(tokenizers[name], ids[0])
        assert text.count("system") == 1 and text.count("hello") == 1
    with pytest.raises(UserError, match="System role not supported\n  roles found: system, user"):
        encode_pairs(chat(tokenizers["gemma"], policy), prompts, [[assistant("b")]])


def test_arguments_stay_as_they_are(tokenizers):
    before = json.dumps([PROMPTS, RESPONSES])
    encode_pairs(chat(tokenizers["zephyr"], "paper"), PROMPTS, RESPONSES)
    assert json.dumps([PROMPTS, RESPONSES]) == before


def test_rows_do_not_depend_on_their_batch(tokenizers):
    for policy in ("keep_start", "paper"):
        together = encode_pairs(chat(tokenizers["llama-base"], policy), PROMPTS, RESPONSES)
        alone = [
            encode_pairs(chat(tokenizers["llama-base"], policy), [p], [r])
            for p, r in zip(PROMPTS, RESPONSES, strict=True)
        ]
        assert together == ([p for [p], _ in alone], [r for _, [r] in alone])


def test_bos_where_the_template_and_the_tokenizer_both_write_it():
    both = byte_level(LLAMA, "<|begin|>", "<|eot_id|>", HEADERS[:2])
    template_only = byte_level(LLAMA, "<|begin|>", "<|eot_id|>", HEADERS[:2], adds_bos=False)
    neither = byte_level(ZEPHYR, "<s>", "</s>", adds_bos=False)
    for tokenizer, n in ((both, 1), (template_only, 1), (neither, 0)):
        (ids,) = encode(tokenizer, render_prompts(chat(tokenizer), PROMPTS[:1]))
        assert ids.count(tokenizer.bos_token_id) == n


def test_one_token_for_bos_and_eos_is_no_bos():
    """As GPT-2: <|endoftext|> is both, ends turns, and opens nothing."""
    template = BARE.replace("['content'] ", "['content'] + '<|endoftext|>' ")
    tokenizer = byte_level(template, None, "<|endoftext|>")
    tokenizer.bos_token = "<|endoftext|>"
    pair = [[user("the mill")]], [[assistant("is old")]]
    prompts, responses = encode_pairs(chat(tokenizer), *pair)
    assert prompts == [ids_of(tokenizer, "the mill") + [tokenizer.eos_token_id]]
    assert responses == [ids_of(tokenizer, "is old") + [tokenizer.eos_token_id]]


MERGING = [
    ("the mi", "ll"),
    ("a\n", "\nb"),
    ("old", " told"),
    ("tw", "o"),
    ("x", ""),
    ("a", "\n\n."),
]


@pytest.mark.parametrize(("asked", "answer"), MERGING)
@pytest.mark.parametrize(
    "make", [lambda: byte_level(BARE, "<s>", "</s>"), lambda: prepending(BARE)]
)
def test_boundary_merges(make, asked, answer):
    tokenizer = make()
    eos, pair = tokenizer.eos_token_id, ([[user(asked)]], [[assistant(answer)]])
    (p,), (r,) = encode_pairs(chat(tokenizer), *pair)
    assert p == [tokenizer.bos_token_id, *ids_of(tokenizer, asked)]  # as generation has it
    assert r.count(eos) == 1 and r[-1] == eos
    assert tokenizer.decode((p + r)[1:-1]) == (asked + answer).rstrip()
    (p,), (r,) = encode_pairs(chat(tokenizer, "paper"), *pair)  # as the released code has it
    whole = [tokenizer.bos_token_id, *ids_of(tokenizer, asked + answer), eos]
    assert p + r == whole
    alone = [tokenizer.bos_token_id, *ids_of(tokenizer, asked)]
    same = [a == b for a, b in zip(whole[:-1], alone, strict=False)]
    assert len(p) == [*same, False].index(False)  # up to the first token that merged


def test_merges_do_happen():
    tokenizer = byte_level(BARE, "<s>", "</s>")
    alone = ids_of(tokenizer, "the mi")
    assert ids_of(tokenizer, "the mill")[: len(alone)] != alone


def test_a_template_that_rewrites_the_prompt_is_refused():
    rewriting = byte_level("{{ messages | length }}" + BARE, None, "</s>")
    with pytest.raises(UserError, match="renders a prompt differently once it has an answer"):
        encode_pairs(chat(rewriting), PROMPTS, RESPONSES)


# Length limits


def released_limits(prompt, chosen, rejected, max_length, max_prompt_length):
    """TRL 0.9.6's steps, in its order: three prompts are cut, then two responses."""
    longer = max(len(chosen), len(rejected))
    prompts = [list(prompt), list(prompt)]
    answers = [list(chosen), list(rejected)]
    for i, ids in enumerate(prompts):
        if len(ids) + longer > max_length:
            prompts[i] = ids[max(0, len(ids) - max_prompt_length) :]
    for i, ids in enumerate(answers):
        if len(prompts[i]) + longer > max_length:
            answers[i] = ids[: max_length - max_prompt_length]
    assert prompts[0] == prompts[1]
    return prompts[0], *answers


def ids(n):
    return st.integers(1, n).map(lambda n: list(range(n)))


limits = st.integers(2, 24).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1)))


@given(ids(40), ids(40), ids(40), limits)
def test_paper_limits_are_the_released_codes(prompt, chosen, rejected, limits):
    got = limit_lengths(prompt, chosen, rejected, *limits, "paper")
    assert got == released_limits(prompt, chosen, rejected, *limits)
    p, c, r = got
    assert len(p) + max(len(c), len(r)) <= limits[0]
    assert c and r


@given(ids(40), ids(40), ids(40), limits)
def test_keep_start_limits_are_a_plain_cut(prompt, chosen, rejected, limits):
    max_length, max_prompt_length = limits
    p, c, r = limit_lengths(prompt, chosen, rejected, *limits, "keep_start")
    kept = prompt if len(prompt) < max_length else prompt[len(prompt) - max_prompt_length :]
    assert p == kept
    assert (p + c, p + r) == ((kept + chosen)[:max_length], (kept + rejected)[:max_length])
    assert c and r
    # A response that fits does not depend on the other one.
    assert limit_lengths(prompt, chosen, chosen, *limits, "keep_start")[1] == c


def test_the_papers_numbers():
    def lengths(prompt, chosen, rejected):
        rows = [list(range(n)) for n in (prompt, chosen, rejected)]
        return [len(row) for row in limit_lengths(*rows, 2048, 1800, "paper")]

    assert lengths(1900, 100, 148) == [1900, 100, 148]  # 2048 fit
    assert lengths(1900, 100, 149) == [1800, 100, 149]
    assert lengths(1900, 100, 300) == [1800, 100, 248]
    assert lengths(1900, 270, 300) == [1800, 248, 248]
    assert lengths(1000, 1048, 500) == [1000, 1048, 500]
    assert lengths(1000, 1049, 500) == [1000, 248, 248]  # the fifth of what would fit
    assert limit_lengths(list(range(1900)), [0], [0] * 200, 2048, 1800, "paper")[0][0] == 100


@given(ids(9), ids(9), ids(9))
def test_pair_hash_names_each_part(prompt, chosen, rejected):
    name = pair_hash(prompt, chosen, rejected)
    assert len(name) == 16
    others = {
        pair_hash([*prompt, 1], chosen, rejected),
        pair_hash(prompt + chosen[:1], chosen[1:], rejected),
        pair_hash(prompt, chosen + rejected[:1], rejected[1:]),
        pair_hash(prompt, chosen, [*rejected, 0]),
    }
    assert name not in others


# Files


def pair_file(path, pairs):
    """pairs.parquet of (prompt messages, chosen text, rejected text)."""
    rows = [
        {
            "prompt": prompt,
            "chosen": [assistant(chosen)],
            "rejected": [assistant(rejected)],
            "prompt_id": f"p{i}",
            "split": "test" if i % 5 == 0 else "train",
        }
        for i, (prompt, chosen, rejected) in enumerate(pairs)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def record(policy, max_length=40, max_prompt_length=30):
    return {
        "setting": "world",
        "max_length": max_length,
        "max_prompt_length": max_prompt_length,
        "length_policy": policy,
        "chat_template_kwargs": {},
        "bad_rows": "error",
    }


@pytest.fixture(scope="module")
def many():
    """More pairs than a batch holds, of all lengths."""
    draw = random.Random(0)

    def text(n):
        return " ".join(draw.choice(["the", "mill", "is", "old", "two"]) for _ in range(n))

    return [
        ([user(text(draw.randint(1, 40)))], text(draw.randint(1, 40)), text(draw.randint(1, 40)))
        for _ in range(BATCH + 10)
    ]


@pytest.mark.parametrize("policy", ["keep_start", "paper"])
def test_file_holds_limited_pairs_and_counts_the_cuts(tmp_path, tokenizers, many, policy):
    tokenizer = tokenizers["zephyr-bytes"]
    pair_file(tmp_path / "pairs.parquet", many)
    source, target = tmp_path / "pairs.parquet", tmp_path / "tokens.parquet"
    counts = tokenize_file(source, target, tokenizer, record(policy))
    got = pq.read_table(target)
    assert [str(got.schema.field(f"{n}_ids").type.value_type) for n in ("prompt", "chosen")] == [
        "int32",
        "int32",
    ]
    prompts = [prompt for prompt, _, _ in many]
    sides = [[[assistant(pair[side])] for pair in many] for side in (1, 2)]
    (p, c), (_, r) = (encode_pairs(chat(tokenizer, policy), prompts, side) for side in sides)
    expected = [limit_lengths(*pair, 40, 30, policy) for pair in zip(p, c, r, strict=True)]
    names = ["prompt_ids", "chosen_ids", "rejected_ids"]
    columns = [got[name].to_pylist() for name in names]
    assert list(zip(*columns, strict=True)) == expected
    assert got["pair_hash"].to_pylist() == [pair_hash(*pair) for pair in expected]
    assert got["prompt_id"].to_pylist() == [f"p{i}" for i in range(len(many))]
    assert got["split"].to_pylist()[:6] == ["test", *["train"] * 4, "test"]

    touched = 0
    for name, before, after in zip(names, (p, c, r), columns, strict=True):
        assert counts[f"{name}_tokens"] == sum(map(len, before))
        assert counts[f"{name}_tokens_dropped"] == sum(map(len, before)) - sum(map(len, after))
        assert counts[f"{name}_tokens_dropped"] > 0
    for full, kept in zip(zip(p, c, r, strict=True), expected, strict=True):
        touched += list(full) != list(kept)
    assert (counts["pairs"], counts["pairs_touched"]) == (len(many), touched)
    assert counts["length_policy"] == policy


def test_a_boundary_that_merged_on_one_side_is_shared(tmp_path):
    """The prompt is what both sequences have in common; no token is lost or seen twice."""
    tokenizer = byte_level(BARE, "<s>", "</s>")
    pairs = [([user("the mi")], "ll is old", " two"), ([user("the mi")], "x", "ll")]
    pair_file(tmp_path / "pairs.parquet", pairs)
    target = tmp_path / "tokens.parquet"
    tokenize_file(tmp_path / "pairs.parquet", target, tokenizer, record("paper", 99, 50))
    for row, (prompt, chosen, rejected) in zip(
        pq.read_table(target).to_pylist(), pairs, strict=True
    ):
        for name, text in (("chosen_ids", chosen), ("rejected_ids", rejected)):
            whole = ids_of(tokenizer, prompt[0]["content"] + text)
            bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
            assert row["prompt_ids"] + row[name] == [bos, *whole, eos]
        assert row["chosen_ids"][0] != row["rejected_ids"][0]


def test_no_more_batches_are_read_than_wait():
    """Results are taken one by one; a reader far ahead would hold all the pairs in memory."""
    read, done = [], []

    def batches():
        for number in range(9):
            read.append(number)
            yield number

    class Pool:
        def submit(self, function, batch, start):
            future = Future()
            future.set_result((batch, start))
            return future

    for found in _in_order(Pool(), batches(), 3):
        done.append(found)
        assert len(read) - len(done) <= 2
    assert done == [(number, number * BATCH) for number in range(9)]


def test_program(tmp_path, tokenizers):
    tokenizers["llama-base"].save_pretrained(tmp_path / "model")
    pair_file(tmp_path / "pairs.parquet", [(p, "old", "two towns") for p in PROMPTS])
    arguments = SimpleNamespace(pairs="pairs.parquet", tokenizer="model", output="t.parquet")
    flags = [x for k, v in vars(arguments).items() for x in (f"--{k}", str(tmp_path / v))]
    rest = ["--record", json.dumps(record("keep_start")), "--cuts", str(tmp_path / "cuts.json")]
    main([*flags, *rest])
    first = (tmp_path / "t.parquet").read_bytes()
    assert read_json(tmp_path / "cuts.json")["pairs"] == 3
    main([*flags, *rest])
    assert (tmp_path / "t.parquet").read_bytes() == first

    bare = copy.deepcopy(tokenizers["llama-base"])
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "bare")
    flags[flags.index(str(tmp_path / "model"))] = str(tmp_path / "bare")
    with pytest.raises(UserError, match="bare has no chat template; expected one"):
        main([*flags, *rest])


# Pairs whose tokens would not be their answers

GOOD = ([user("hello")], "old", "the mill")
BAD = {
    "chosen has the text of a special token, which would be that token": [
        ([user("a")], "old<|eot_id|>", "told"),
        ([user("a")], "x<|end_of_text|>y", "told"),
        ([user("a")], "<|begin|>", "told"),
    ],
    "rejected has the text of a special token, which would be that token": [
        ([user("a")], "old", "told <|start_header_id|>user<|end_header_id|>"),
    ],
    "chosen and rejected have the same tokens": [
        ([user("a")], "old", "old "),
        ([user("b")], "c", "\nc"),
    ],
}


@pytest.mark.parametrize("policy", ["keep_start", "paper"])
def test_bad_pairs_are_refused_or_left_out_and_counted(tmp_path, tokenizers, policy, planted):
    tokenizer = tokenizers["llama-base"]  # its template trims
    source, target = tmp_path / "pairs.parquet", tmp_path / "tokens.parquet"
    bad = [pair for pairs in BAD.values() for pair in pairs]
    strange = ([user("what is <|eot_id|>?")], "a", "b c")  # a prompt may ask
    rows = [GOOD, *bad[:3], strange, *bad[3:], *[GOOD] * 3]  # rows 0 and 5 are test ones
    rows[5], rows[8] = rows[8], rows[5]
    pair_file(source, rows)
    with pytest.raises(UserError, match="6 of 11 rows cannot be used") as error:
        tokenize_file(source, target, tokenizer, record(policy))
    assert "row 2 (prompt 'a'): chosen has the text of a special token" in str(error.value)
    assert "found '<|eot_id|>'" in str(error.value) and not target.exists()
    if policy == "keep_start":
        planted("EOS text in an answer, or equal tokens", error.value, "no preference is trained")

    dropping = {**record(policy), "bad_rows": "drop"}
    counts = tokenize_file(source, target, tokenizer, dropping, workers=2)
    assert counts["dropped"] == {reason: len(pairs) for reason, pairs in sorted(BAD.items())}
    assert (counts["pairs"], counts["prompts_with_special_tokens"]) == (5, 1)
    found = pq.read_table(target).to_pylist()
    kept = [i for i, row in enumerate(rows) if row not in bad]
    assert [row["row"] for row in found] == kept
    assert [row["prompt_id"] for row in found] == [f"p{i}" for i in kept]
    pair_file(tmp_path / "good.parquet", [rows[i] for i in kept])
    tokenize_file(tmp_path / "good.parquet", tmp_path / "alone.parquet", tokenizer, record(policy))
    alone = pq.read_table(tmp_path / "alone.parquet")
    assert [row["pair_hash"] for row in found] == alone["pair_hash"].to_pylist()


def test_a_split_without_pairs_is_refused(tmp_path, tokenizers):
    pair_file(tmp_path / "pairs.parquet", [([user("a")], "b<|eot_id|>", "c"), GOOD, GOOD])
    dropping = {**record("keep_start"), "bad_rows": "drop"}
    with pytest.raises(UserError, match="none is left of the split test. Give more rows"):
        target = tmp_path / "tokens.parquet"
        tokenize_file(tmp_path / "pairs.parquet", target, tokenizers["llama-base"], dropping)


def test_pairs_that_are_equal_once_cut_are_counted(tmp_path, tokenizers):
    pairs = [([user("hello")], "a tale of two", "a tale of one"), GOOD]
    pair_file(tmp_path / "pairs.parquet", pairs)
    tokenizer, target = tokenizers["llama-base"], tmp_path / "tokens.parquet"
    whole = len(encode_pairs(chat(tokenizer), [pairs[0][0]], [[assistant("")]])[0][0])
    limits = record("keep_start", max_length=whole + 2)
    counts = tokenize_file(tmp_path / "pairs.parquet", target, tokenizer, limits)
    assert (counts["pairs"], counts["pairs_equal_once_cut"], counts["dropped"]) == (2, 1, {})


def test_a_batch_beyond_the_first_keeps_its_row_numbers(tmp_path, tokenizers, many):
    pairs = [*many, ([user("a")], "b</s>", "c"), many[0]]
    pair_file(tmp_path / "pairs.parquet", pairs)
    dropping = {**record("keep_start"), "bad_rows": "drop"}
    target, tokenizer = tmp_path / "tokens.parquet", tokenizers["zephyr-bytes"]
    counts = tokenize_file(tmp_path / "pairs.parquet", target, tokenizer, dropping)
    rows = pq.read_table(target)["row"].to_pylist()
    equal = sum(c == r for _, c, r in pairs)
    assert rows[-1] == len(pairs) - 1 and len(pairs) - 2 not in rows
    assert counts["pairs"] == len(pairs) - 1 - equal


@pytest.mark.parametrize("workers", [1, 2])
def test_the_row_that_a_template_refuses_is_named(tmp_path, tokenizers, many, workers):
    tokenizer, source = tokenizers["gemma-bytes"], tmp_path / "pairs.parquet"
    asked = [{"role": "system", "content": "Be brief."}, user("Say it")]
    pair_file(source, [*many, (asked, "b", "c"), many[0], (asked, "d", "e")])
    said = rf"{source}, row {len(many) + 1} \(prompt 'Say it'\): the chat template refuses some"
    with pytest.raises(UserError, match=said):
        tokenize_file(source, tmp_path / "out", tokenizer, record("keep_start"), workers)


def test_rows_variables_and_tools_reach_the_template(tmp_path, tokenizers):
    tokenizer = copy.deepcopy(tokenizers["llama-base"])
    tokenizer.chat_template = "{{ mood | default('') }}{{ tools | length if tools }}" + LLAMA
    source, target = tmp_path / "pairs.parquet", tmp_path / "tokens.parquet"
    pair_file(source, [GOOD] * 4)
    table = pq.read_table(source)
    kwargs, tools = [None, '{"mood": "sad"}', None, None], [None, None, '[{"name": "f"}]', "[]"]
    table = table.append_column("chat_template_kwargs", pa.array(kwargs, pa.string()))
    pq.write_table(table.append_column("tools", pa.array(tools, pa.string())), source)
    setting = {**record("keep_start"), "chat_template_kwargs": {"mood": "old"}}
    counts = tokenize_file(source, target, tokenizer, setting)
    assert counts["chat_template_kwargs"] == {"mood": "old"}
    texts = [tokenizer.decode(ids) for ids in pq.read_table(target)["prompt_ids"].to_pylist()]
    heads = [text.partition("<|start_header_id|>")[0].replace("<|begin|>", "") for text in texts]
    assert heads == ["old", "sad", "old1", "old"]
