"""Generation against a plain loop without cache or padding, and the model's distribution."""

import copy
import hashlib
import json
import shutil
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from chat_tokenizers import byte_level, shipped
from poet import precision
from poet.analyse.pair_tokens import Ids
from poet.data.encoding import encode
from poet.data.templates import Chat, render_prompts, template_hash
from poet.evaluate import sampling as samplers
from poet.evaluate.generation import main
from poet.evaluate.sampling import described, sample, sample_continuous
from poet.files import UserError, read_json, write_json, write_jsonl
from poet.train.scratch import make_model

SAMPLING = {
    "temperature": 1.0,
    "top_p": 1.0,
    "max_new_tokens": 12,
    "stop_token_ids": [1],
    "batch_size": 4,
    "backend": "transformers",
}
GREEDY = {**SAMPLING, "temperature": 0}
PROMPTS = [
    [{"role": "user", "content": text}]
    for text in (
        "the river of Arlen",
        "a",
        "is the Morin. the river",
        "",
        "of",
        "the the the",
        "x y",
    )
]


ENGINES = [sample, sample_continuous]


def generate(model, tokenizer, prompts, sampling, seed, engine=sample):
    """Answers as the program writes them."""
    chat = Chat(tokenizer, "keep_start", {})
    ids = encode(tokenizer, render_prompts(chat, prompts))
    return described(chat, engine(model, tokenizer, ids, sampling, seed, "test"))


@pytest.fixture
def model(start):
    """The tiny model with larger weights, so that its answers differ and vary."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(start[0]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    return model


def prompt_ids(tokenizer, prompt):
    """The template by hand: every tokenizer of this project's own has it."""
    text = f"<|user|>{prompt[0]['content']}<|end|><|assistant|>"
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def plain_loop(model, tokenizer, prompt, max_new_tokens, stop):
    """Greedy decoding of one prompt, the whole sequence through the model at every step."""
    ids = prompt_ids(tokenizer, prompt)
    new = []
    while len(new) < max_new_tokens and (not new or new[-1] not in stop):
        new.append(model(torch.tensor([ids + new])).logits[0, -1].argmax().item())
    return new


@pytest.mark.parametrize(
    ("engine", "batch_size", "steps"),
    [
        (sample, 1, 32),
        (sample, 3, 32),
        (sample, 100, 32),
        (sample, 3, 2),
        (sample_continuous, 3, 0),
    ],
)
def test_greedy_is_the_plain_loop(model, start, monkeypatch, engine, batch_size, steps):
    monkeypatch.setattr(samplers, "ROUND", steps)
    tokenizer = start[1]
    eos = tokenizer.eos_token_id
    free = [plain_loop(model, tokenizer, prompt, 12, {eos}) for prompt in PROMPTS]
    assert len({tuple(tokens) for tokens in free}) == len(PROMPTS)
    stop = [eos, free[0][5], free[4][0]]  # some answers end by themselves, one at once
    sampling = {**GREEDY, "batch_size": batch_size, "stop_token_ids": stop}
    answers = generate(model, tokenizer, PROMPTS, sampling, 0, engine)
    reasons = set()
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        tokens = plain_loop(model, tokenizer, prompt, 12, stop)
        ended = tokens[-1] in stop
        assert answer == {
            "output": tokenizer.decode(tokens, skip_special_tokens=True),
            "token_ids": tokens,
            "n_tokens": len(tokens),
            "finish_reason": "stop" if ended else "length",
        }
        reasons.add(answer["finish_reason"])
    assert reasons == {"stop", "length"}
    assert answers[4]["n_tokens"] == 1


def test_an_answer_may_end_on_its_last_token(model, start):
    tokens = plain_loop(model, start[1], PROMPTS[0], 12, set())
    last = tokens.index(tokens[5]) + 1  # the first time that token stands there
    sampling = {**GREEDY, "max_new_tokens": last, "stop_token_ids": [tokens[5]]}
    (answer,) = generate(model, start[1], PROMPTS[:1], sampling, 0)
    assert (answer["n_tokens"], answer["finish_reason"]) == (last, "stop")


def test_eos_ends_an_answer_and_is_not_in_its_text(model, start):
    tokens = plain_loop(model, start[1], PROMPTS[0], 12, set())
    n = tokens.index(tokens[5])
    swap = {tokens[5]: start[1].eos_token_id, start[1].eos_token_id: tokens[5]}
    rows = [swap.get(i, i) for i in range(model.config.vocab_size)]
    # EOS and the answer's sixth token change places in the output layer.
    head = torch.nn.Linear(*model.lm_head.weight.shape[::-1], bias=False)
    head.weight = torch.nn.Parameter(model.lm_head.weight.detach()[rows].clone())
    model.set_output_embeddings(head)
    (answer,) = generate(model, start[1], PROMPTS[:1], GREEDY, 0)
    assert (answer["n_tokens"], answer["finish_reason"]) == (n + 1, "stop")
    assert answer["output"] == start[1].decode(tokens[:n])


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_an_answer_depends_on_its_seed_and_place_and_not_on_its_batch(
    model, start, monkeypatch, top_p
):
    sampling = {**GREEDY, "temperature": 1.0, "top_p": top_p, "stop_token_ids": [1]}
    prompts = PROMPTS * 2
    alone = generate(model, start[1], prompts, {**sampling, "batch_size": 1}, 3)
    assert alone[: len(PROMPTS)] != alone[len(PROMPTS) :]  # the same prompts elsewhere
    for size, steps in ((3, 32), (7, 2), (100, 5)):
        monkeypatch.setattr(samplers, "ROUND", steps)
        assert generate(model, start[1], prompts, {**sampling, "batch_size": size}, 3) == alone
    # A batch that is too large for the memory is halved.
    sizes, whole = [], model.generate

    def cramped(inputs, **kwargs):
        sizes.append(len(inputs))
        if len(inputs) > 3:
            raise torch.OutOfMemoryError("a batch")
        return whole(inputs, **kwargs)

    monkeypatch.setattr(model, "generate", cramped)
    assert generate(model, start[1], prompts, {**sampling, "batch_size": 10}, 3) == alone
    assert max(sizes) == 10


CACHES = {  # what layers keep besides all keys and values: a window, states, or both
    "gemma2": {"sliding_window": 4, "query_pre_attn_scalar": 16},
    "qwen3": {},
    "olmo2": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
}


@pytest.mark.parametrize("kind", CACHES)
def test_the_kept_cache_changes_no_answer(start, monkeypatch, kind):
    """Against transformers' own greedy answers and against draws in one round, one by one."""
    sizes = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes, **CACHES[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(6)
    ids = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16], [17] * 4, [18], [19, 20], [21] * 5]
    stop = list(range(2, 30))  # some answers end soon, others not at all
    sampling = {**GREEDY, "batch_size": 8, "stop_token_ids": stop, "max_new_tokens": 24}
    monkeypatch.setattr(samplers, "ROUND", 3)
    found = sample(model, start[1], ids, sampling, 0, "kept")
    for prompt, (tokens, _) in zip(ids, found, strict=True):
        alone = model.generate(
            torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=stop,
            pad_token_id=0,
        )  # fmt: skip
        assert tokens == alone[0, len(prompt) :].tolist()
    together = sample(model, start[1], ids, {**sampling, "temperature": 1.0}, 3, "kept")
    assert len({-(-len(tokens) // 3) for tokens, _ in together}) > 3  # rounds in which they end
    monkeypatch.setattr(samplers, "ROUND", 1000)
    alone = {**sampling, "temperature": 1.0, "batch_size": 1}
    assert sample(model, start[1], ids, alone, 3, "alone") == together


def test_weights_in_bfloat16_sample_from_its_rounding(start, tmp_path, monkeypatch):
    """The next token's frequencies against float32's softmax; a CPU without it emulates it here."""
    record = {"generation": {**SAMPLING, "dtype": "bfloat16"}}
    dtypes = {}
    for native in (True, False):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device, native=native: native)
        dtypes[native] = samplers.load_model(str(start[0]), record)[1]
    half, wide = dtypes.values()
    assert (half.dtype, wide.dtype) == (torch.bfloat16, torch.float32)
    p = one_step(wide, start[1], PROMPTS[0], 0.15)
    narrow = one_step(half, start[1], PROMPTS[0], 0.15)
    assert 1e-6 < (p - narrow).abs().sum() < 0.05
    ids = [prompt_ids(start[1], PROMPTS[0])] * 4000
    changes = {"max_new_tokens": 1, "temperature": 0.15, "batch_size": 1000}
    answers = sample(half, start[1], ids, {**SAMPLING, **changes}, 7, "test")
    counts = torch.bincount(torch.tensor([tokens[0] for tokens, _ in answers]), minlength=len(p))
    frequent = 4000 * narrow >= 5
    seen, wanted = counts[frequent].double(), 4000 * narrow[frequent]
    rest = [4000 - float(each.sum()) for each in (seen, wanted)]
    assert chisquare([*seen, rest[0]], [*wanted, rest[1]]).pvalue > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_seeds(model, start, engine):
    def outputs(seed):
        return generate(model, start[1], PROMPTS * 3, SAMPLING, seed, engine)

    assert outputs(1) == outputs(1)
    assert outputs(1) != outputs(2)
    torch.rand(5)  # the state before does not matter
    assert outputs(2) == outputs(2)


def one_step(model, tokenizer, prompt, temperature):
    """Probability of each token after a prompt, shape [vocabulary]."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt_ids(tokenizer, prompt)])).logits[0, -1].double()
    return (logits / temperature).softmax(-1)


def sampled(model, tokenizer, n=6000, engine=sample, **changes):
    sampling = {**SAMPLING, "max_new_tokens": 1, "batch_size": 1000, **changes}
    answers = generate(model, tokenizer, PROMPTS[:1] * n, sampling, 7, engine)
    return Counter(answer["output"] for answer in answers)


@pytest.fixture
def flat(start):
    """The tiny model as it is: its distribution is nearly flat, so a cut at 50 tokens shows."""
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(start[0]).eval()


@pytest.mark.parametrize("temperature", [1.0, 0.15])
def test_one_token_follows_the_models_distribution(flat, start, temperature):
    tokenizer = start[1]
    counts = sampled(flat, tokenizer, temperature=temperature)
    expected = Counter()
    for token, p in enumerate(one_step(flat, tokenizer, PROMPTS[0], temperature).tolist()):
        expected[tokenizer.decode([token], skip_special_tokens=True)] += p
    assert set(counts) <= set(expected)
    frequent = [text for text, p in expected.items() if 6000 * p >= 5]
    observed = [counts[text] for text in frequent]
    wanted = [6000 * expected[text] for text in frequent]
    rest = 6000 - sum(wanted)
    if rest > 1e-6:
        observed.append(6000 - sum(observed))
        wanted.append(rest)
    assert len(frequent) > 50
    assert chisquare(observed, wanted).pvalue > 1e-3
    # The test has the power to see another temperature.
    other = [w * (0.8 if i % 2 else 1.2) for i, w in enumerate(wanted)]
    total = sum(other)
    assert chisquare(observed, [o * 6000 / total for o in other]).pvalue < 1e-6


def test_top_p_keeps_the_nucleus(flat, start):
    tokenizer = start[1]
    p, order = one_step(flat, tokenizer, PROMPTS[0], 0.15).sort(descending=True)
    n = int((p.cumsum(0) < 0.4).sum()) + 1  # the fewest tokens that have 0.4 of the mass
    nucleus = {tokenizer.decode([t], skip_special_tokens=True) for t in order[:n].tolist()}
    assert 3 < n < 60
    assert set(sampled(flat, tokenizer, n=3000, temperature=0.15, top_p=0.4)) == nucleus


HOSTILE = {
    "do_sample": True,
    "temperature": 0.01,
    "top_k": 2,
    "top_p": 0.1,
    "min_p": 0.5,
    "typical_p": 0.2,
    "repetition_penalty": 3.0,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(5, 200)),
    "min_new_tokens": 9,
    "eos_token_id": [1, 40],
}


@pytest.mark.parametrize(
    ("engine", "sampling"),
    [(sample, GREEDY), (sample, SAMPLING), (sample_continuous, SAMPLING)],
    ids=["greedy", "sampling", "continuous"],
)
def test_the_model_folders_defaults_stay_out(model, start, engine, sampling):
    clean = generate(model, start[1], PROMPTS, sampling, 3, engine)
    names = list(HOSTILE) if engine is sample else ["temperature", "suppress_tokens"]
    for name in names:  # continuous batching takes a second to start
        model.generation_config = GenerationConfig(**{"do_sample": True, name: HOSTILE[name]})
        assert generate(model, start[1], PROMPTS, sampling, 3, engine) == clean, name


@pytest.mark.parametrize("top_p", [0.4, 1.0])
def test_continuous_batching_draws_from_the_models_distribution(flat, start, top_p):
    ids = [prompt_ids(start[1], PROMPTS[0])] * 1000
    changes = {"max_new_tokens": 1, "temperature": 0.15, "top_p": top_p, "batch_size": 1000}
    answers = sample_continuous(flat, start[1], ids, SAMPLING | changes, 7, "test")
    counts = Counter(token for (token,), _ in answers)
    p, order = one_step(flat, start[1], PROMPTS[0], 0.15).sort(descending=True)
    n = int((p.cumsum(0) < top_p).sum()) + 1 if top_p < 1 else len(p)
    assert set(counts) <= set(order[:n].tolist())
    observed = [counts[token] for token in order[:10].tolist()]
    wanted = (1000 * p[:10] / p[:n].sum()).tolist()
    rest = [1000 - sum(each) for each in (observed, wanted)]
    assert rest[0] > 0
    assert chisquare([*observed, rest[0]], [*wanted, rest[1]]).pvalue > 1e-3


def test_continuous_batching_that_loses_answers_is_an_error(model, start, monkeypatch):
    whole = type(model).generate_batch

    def losing(self, *arguments):
        return dict(list(whole(self, *arguments).items())[1:])

    monkeypatch.setattr(type(model), "generate_batch", losing)
    with pytest.raises(UserError, match="answered 6 of 7 prompts"):
        generate(model, start[1], PROMPTS, SAMPLING, 1, sample_continuous)


def test_a_tokenizer_without_pad_token_pads_with_eos(model, start):
    expected = generate(model, start[1], PROMPTS, GREEDY, 0)
    tokenizer = copy.deepcopy(start[1])
    tokenizer.pad_token = None
    assert generate(model, tokenizer, PROMPTS, GREEDY, 0) == expected


PROMPT_ROWS = [
    {"index": i, "dataset": "d", "instruction": p[0]["content"], "prompt": p, "reference": "r"}
    for i, p in enumerate(PROMPTS)
]


def program(tmp_path, folder, seeds, *flags, rows=PROMPT_ROWS, **sampling):
    write_jsonl(rows, tmp_path / "prompts.jsonl")
    record = {
        "setting": "world", "method": "dpo", "torch_threads": 1,
        "length_policy": "keep_start", "chat_template_kwargs": {},
        "generation": SAMPLING | sampling,
    }  # fmt: skip
    main(
        ["--record", json.dumps(record), "--prompts", str(tmp_path / "prompts.jsonl")]
        + ["--models", *[str(folder)] * len(seeds), "--seeds", *map(str, seeds)]
        + ["--output", *[str(tmp_path / f"seed-{seed}.json") for seed in seeds]]
        + ["--summary", str(tmp_path / "summary.json"), *flags]
    )
    answers = [read_json(tmp_path / f"seed-{seed}.json") for seed in seeds]
    return answers, read_json(tmp_path / "summary.json")


@pytest.mark.parametrize("backend", ["transformers", "continuous"])
def test_program_writes_a_file_per_seed_and_a_summary(tmp_path, start, backend):
    (first, second), summary = program(tmp_path, start[0], [1, 2], backend=backend)
    for seed, rows, made in zip((1, 2), (first, second), summary["runs"], strict=True):
        assert [row["index"] for row in rows] == list(range(len(PROMPTS)))
        assert [row["instruction"] for row in rows] == [p[0]["content"] for p in PROMPTS]
        assert (
            {row["generator"] for row in rows} == {made["generator"]} == {f"world/dpo/seed-{seed}"}
        )
        assert all(1 <= row["n_tokens"] <= 12 for row in rows)
        assert made["new_tokens"] == sum(row["n_tokens"] for row in rows)
        for row in rows:
            assert len(row["token_ids"]) == row["n_tokens"]
            assert start[1].decode(row["token_ids"], skip_special_tokens=True) == row["output"]
            # what ended an answer is its last token
            assert (row["token_ids"][-1] in made["stop_token_ids"]) == (
                row["finish_reason"] == "stop"
            )
        assert made["prompt_tokens"] == sum(len(prompt_ids(start[1], p)) for p in PROMPTS)
        assert made["finish_reasons"] == {
            reason: sum(row["finish_reason"] == reason for row in rows)
            for reason in ("stop", "length")
        }
        assert made["seconds"] > 0 and made["engine"].startswith("transformers 5.")
        text = (start[0] / "chat_template.jinja").read_bytes()
        assert made["chat_template_sha256"] == hashlib.sha256(text).hexdigest()
    assert summary["record"]["generation"]["backend"] == backend
    assert [row["output"] for row in first] != [row["output"] for row in second]
    # A seed's file does not depend on which other seeds share its process.
    before = (tmp_path / "seed-2.json").read_bytes()
    program(tmp_path, start[0], [2], backend=backend)
    assert (tmp_path / "seed-2.json").read_bytes() == before


@pytest.mark.parametrize("backend", ["transformers", "continuous"])
def test_a_later_turn_follows_the_conversation_so_far(tmp_path, start, model, backend):
    """Each turn is what the model writes after the template of all that was said before it."""
    said = [["a river", "Why?", "the"], ["the Morin is of Arlen", "x", "of a"]]
    rows = [{**row, "prompt": [{"role": "user", "content": turns[0]}], "turns": turns}
            for row, turns in zip(PROMPT_ROWS, said, strict=False)]  # fmt: skip
    model.save_pretrained(tmp_path / "model")
    start[1].save_pretrained(tmp_path / "model")
    changes = {"temperature": 0, "max_new_tokens": 6, "backend": backend}
    (made, other), summary = program(tmp_path, tmp_path / "model", [1, 2], rows=rows, **changes)
    assert [row["later"] for row in made] == [row["later"] for row in other]  # greedy
    n_prompt_tokens = n_new_tokens = 0
    for row, turns in zip(made, said, strict=True):
        talk = []
        for turn, answer in zip(turns, [row, *row["later"]], strict=True):
            talk.append({"role": "user", "content": turn})
            asked = start[1].apply_chat_template(
                talk, add_generation_prompt=True, return_dict=False
            )
            n_prompt_tokens += len(asked)
            ((expected, reason),) = sample(model, start[1], [asked], GREEDY | changes, 0, "test")
            assert (answer["token_ids"], answer["finish_reason"]) == (expected, reason)
            assert answer["output"] == start[1].decode(expected, skip_special_tokens=True)
            n_new_tokens += len(expected)
            talk.append({"role": "assistant", "content": answer["output"]})
    for run in summary["runs"]:
        assert (run["prompt_tokens"], run["new_tokens"]) == (n_prompt_tokens, n_new_tokens)
        assert run["n_prompts"] == sum(run["finish_reasons"].values()) == 6


def test_a_later_turn_without_positions_is_refused(tmp_path, start):
    turns = ["a", "the river " * 20]
    rows = [{**PROMPT_ROWS[1], "turns": turns}]
    with pytest.raises(UserError, match="has 128 positions"):
        program(tmp_path, start[0], [1], rows=rows, max_new_tokens=60)


def test_a_damaged_model_folder_is_named(tmp_path, start):
    folder = shutil.copytree(start[0], tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": 1')
    with pytest.raises(UserError, match="its generation_config.json is no JSON"):
        program(tmp_path, folder, [1])


def test_another_chat_template_than_the_trained_one_is_refused(tmp_path, start):
    info = tmp_path / "tokens.json"
    write_json({"chat_template_sha256": template_hash(start[1])}, info)
    program(tmp_path, start[0], [1], "--tokens-info", str(info))
    write_json({"chat_template_sha256": "0" * 64}, info)
    with pytest.raises(UserError, match="another chat template than it was trained with"):
        program(tmp_path, start[0], [1], "--tokens-info", str(info))


def test_the_papers_policy_opens_prompts_as_its_training_does(tmp_path, start):
    """The empty system message of the paper's training stands before the question here, too."""
    from poet.data.encoding import encode_pairs

    tokenizer = copy.deepcopy(start[1])
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}<|user|>{{ m.content }}<|end|>"
        "{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    for policy, opening in (("paper", "<|user|><|end|><|user|>a"), ("keep_start", "<|user|>a")):
        (text,) = render_prompts(Chat(tokenizer, policy, {}), PROMPTS[1:2])
        assert text == f"{opening}<|end|><|assistant|>"
    answers, paper = [[{"role": "assistant", "content": "b"}]], Chat(tokenizer, "paper", {})
    (prompt,), (response,) = encode_pairs(paper, PROMPTS[1:2], answers)
    (seen,) = encode(tokenizer, render_prompts(paper, PROMPTS[1:2]))
    assert (prompt + response)[: len(seen)] == seen


def test_lists_of_unequal_length_are_refused(tmp_path):
    flags = ["--record", "{}", "--prompts", "p", "--models", "a", "b", "--seeds", "1"]
    with pytest.raises(UserError, match="2 models, 1 seeds and 1 outputs; expected as many"):
        main([*flags, "--output", "o", "--summary", "s"])


# Where an answer ends


LEARNED = ["It runs.", "No.", "a b c d", "The sea is old."]


def taught(tokenizer):
    """A model that has learned to answer the first prompts as its template does, without EOS."""
    shape = {"hidden_size": 48, "intermediate_size": 96}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 4}
    model = make_model(tokenizer, shape, 64, seed=0)
    rows = [
        tokenizer.apply_chat_template(
            [*PROMPTS[i], {"role": "assistant", "content": text}], return_dict=False
        )
        for i, text in enumerate(LEARNED)
    ]
    batch = torch.nn.utils.rnn.pad_sequence(
        [*map(torch.tensor, rows)], batch_first=True, padding_value=tokenizer.pad_token_id
    )
    mask = (batch != tokenizer.pad_token_id).long()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        labels = batch.masked_fill(mask == 0, -100)
        loss = model(batch, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """A model that has learned to end its turns as Gemma's template does, not with EOS."""
    tokenizer = shipped("gemma", own_eos=True)
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    folder, model = tmp_path_factory.mktemp("gemma"), taught(tokenizer)
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, end], pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, tokenizer, model, LEARNED


@pytest.mark.parametrize("backend", ["transformers", "continuous"])
@pytest.mark.parametrize("configured", [True, False], ids=["as configured", "by the template"])
def test_an_answer_ends_where_transformers_own_generate_ends_it(
    tmp_path, gemma, backend, configured, capsys
):
    folder, tokenizer, model, answers = gemma
    ends = sorted([tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")])
    if not configured:  # what the template says is enough
        folder = shutil.copytree(folder, tmp_path / "model")
        (folder / "generation_config.json").unlink()
    changes = {"temperature": 0, "max_new_tokens": 30, "stop_token_ids": [], "backend": backend}
    (rows,), summary = program(tmp_path, folder, [1], **changes)
    for prompt, row, text in zip(PROMPTS, rows, answers, strict=False):
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=30, do_sample=False)
        new = out[0, ids["input_ids"].shape[1] :].tolist()
        assert new[-1] == ends[1] and row["output"] == text
        assert row["output"] == tokenizer.decode(new, skip_special_tokens=True)
        assert (row["n_tokens"], row["finish_reason"]) == (len(new), "stop")
    (made,) = summary["runs"]
    assert made["stop_token_ids"] == ends
    assert made["finish_reasons"] == {"stop": len(PROMPTS), "length": 0}
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["transformers", "continuous"])
def test_a_turns_end_that_is_no_special_token_is_not_in_the_text(tmp_path, gemma, backend):
    folder = shutil.copytree(gemma[0], tmp_path / "model")
    written = read_json(folder / "tokenizer.json")
    for token in written["added_tokens"]:
        token["special"] &= token["content"] != "<end_of_turn>"
    write_json(written, folder / "tokenizer.json")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert tokenizer.decode([end], skip_special_tokens=True) == "<end_of_turn>"
    changes = {"temperature": 0, "max_new_tokens": 30, "backend": backend}
    (rows,), _ = program(tmp_path, folder, [1], **changes)
    assert [row["output"] for row in rows[: len(gemma[3])]] == gemma[3]
    ids = Ids(tokenizer)
    ((_, chosen, *_),) = ids(
        [
            {
                name: [{"role": role, "content": "No."}]
                for name, role in (
                    ("prompt", "user"),
                    ("chosen", "assistant"),
                    ("rejected", "assistant"),
                )
            }
        ]
    )
    assert end in chosen and ids.prefix("No.", chosen, len(chosen)) == "No."


@pytest.mark.parametrize("closing", ["<|im_end|>", "\n### End"])
def test_an_answer_ends_with_the_text_that_closes_a_turn(tmp_path, closing):
    """As of a ChatML whose end the tokenizer does not know: text of several tokens, no EOS."""
    turns = "{% for m in messages %}" + f"<{{{{ m.role }}}}>{{{{ m.content }}}}{closing}\n"
    opened = "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    tokenizer = byte_level(turns + opened, None, "</s>")
    assert len(tokenizer(closing)["input_ids"]) > 3
    model = taught(tokenizer)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    changes = {"temperature": 0, "max_new_tokens": 48, "stop_token_ids": []}
    (rows,), summary = program(tmp_path, tmp_path / "model", [1], **changes)
    for text, row in zip(LEARNED, rows, strict=False):
        ids = tokenizer(text + closing)["input_ids"]
        found = [row[key] for key in ("output", "n_tokens", "finish_reason")]
        assert found == [text, len(ids), "stop"]
    (made,) = summary["runs"]
    assert made["stop_text"] == closing and made["stop_token_ids"] == [tokenizer.eos_token_id]
    assert made["finish_reasons"]["stop"] >= len(LEARNED) and "n_with_thoughts" not in made
    # The same of a response that training reads.
    names = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    pair = {name: [{"role": role, "content": "No."}] for name, role in names.items()}
    ids = Ids(tokenizer)
    ((_, chosen, *_),) = ids([pair])
    assert tokenizer.decode(chosen) == f"No.{closing}</s>"
    assert ids.prefix("No.", chosen, len(chosen)) == "No."


@given(st.lists(st.sampled_from(["a", " ", "\n", "#", "### E", "\n### End", "nd"]), max_size=8))
def test_what_follows_the_closing_text_is_no_part_of_an_answer(pieces):
    tokenizer, text = CLOSING.tokenizer, "".join(pieces)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (row,) = described(CLOSING, [(ids, "length")])
    kept, reason = row["token_ids"], row["finish_reason"]
    head, found, _ = text.partition("\n### End")
    assert reason == ("stop" if found else "length")
    assert kept == ids[: len(kept)] and tokenizer.decode(kept).startswith(head + found)
    assert not found or "\n### End" not in tokenizer.decode(kept[:-1])
    assert row["output"] == head and row["n_tokens"] == len(kept)


CLOSING = Chat(
    byte_level("{% for m in messages %}{{ m.content }}\n### End\n{% endfor %}", None, "</s>"),
    "keep_start",
    {},
)


def test_a_pad_token_that_ends_answers_changes_nothing(tmp_path, gemma):
    changes = {"temperature": 0, "max_new_tokens": 30}
    (expected,), _ = program(tmp_path, gemma[0], [1], **changes)
    folder = shutil.copytree(gemma[0], tmp_path / "model")
    tokenizer = copy.deepcopy(gemma[1])
    tokenizer.pad_token = "<end_of_turn>"
    tokenizer.save_pretrained(folder)
    (found,), _ = program(tmp_path, folder, [1], **changes)
    assert found == expected


def test_answers_with_thoughts_are_counted(tmp_path, start, monkeypatch):
    """As Qwen3's, whose tags are no special tokens and stand in the text."""
    texts = ["<think>\nhm\n</think>\n\nIt runs.", "<think>\nso lo", "I think not.", "a</think>b"]
    answers = [(start[1].encode(texts[i % 4]), "stop") for i in range(len(PROMPTS))]
    monkeypatch.setattr("poet.evaluate.generation.sample", lambda *given: answers)
    (rows,), summary = program(tmp_path, start[0], [1])
    assert [row["output"] for row in rows[:4]] == texts
    assert summary["runs"][0]["n_with_thoughts"] == 5


def test_answers_that_do_not_end_are_said_loudly(tmp_path, start, capsys):
    (rows,), summary = program(tmp_path, start[0], [1])
    n_cut = sum(row["finish_reason"] == "length" for row in rows)
    assert n_cut > 1
    said = capsys.readouterr().err
    assert (
        f"WARNING world/dpo/seed-1: {n_cut} of 7 answers did not end within max_new_tokens" in said
    )
    assert "An answer ends at '<|end|>' (ids 1)." in said and "generation.stop_token_ids" in said
    assert summary["runs"][0]["finish_reasons"]["length"] == n_cut


def test_other_template_variables_than_the_trained_ones_are_refused(tmp_path, start):
    info = tmp_path / "tokens.json"
    trained = {"chat_template_sha256": template_hash(start[1])}
    write_json({**trained, "chat_template_kwargs": {"enable_thinking": False}}, info)
    with pytest.raises(UserError, match="other chat_template_kwargs than it was trained with"):
        program(tmp_path, start[0], [1], "--tokens-info", str(info))


def test_prompts_are_rendered_with_their_own_variables(tmp_path, start):
    tokenizer = copy.deepcopy(start[1])
    tokenizer.chat_template = "{{ mood | default('') }}" + tokenizer.chat_template
    folder = shutil.copytree(start[0], tmp_path / "model")
    tokenizer.save_pretrained(folder)
    before = program(tmp_path, folder, [1])[1]["runs"][0]["prompt_tokens"]
    rows = [{**row, "chat_template_kwargs": {"mood": "sad"}} for row in PROMPT_ROWS]
    after = program(tmp_path, folder, [1], rows=rows)[1]["runs"][0]["prompt_tokens"]
    assert after - before == len(rows) * len(tokenizer("sad")["input_ids"])
