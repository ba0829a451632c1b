"""Packed pairs against sequences of their own, one response each, computed by the stock model."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
)
from transformers.masking_utils import eager_mask

from poet.train import head, packing
from poet.train.head import response_logps
from poet.train.packing import add_packed_forward, make_pack, pack_pairs, unsupported

VOCABULARY = 61
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
KINDS = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": {},
    "olmo2": {},
    "gemma2": {"sliding_window": 6, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.3},
}


class Norm64(torch.nn.Module):
    """The RMS norm in the dtype of its input; the stock one goes through float32."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.offset = norm.weight, 1 if "Gemma" in type(norm).__name__ else 0
        self.eps = getattr(norm, "variance_epsilon", None) or norm.eps

    def forward(self, x):
        scale = (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return x * scale * (self.offset + self.weight)


class Rotary64(torch.nn.Module):
    """The rotary embedding in the dtype of its input; the stock one is float32."""

    def __init__(self, rotary):
        super().__init__()
        self.frequencies = rotary.inv_freq

    def forward(self, x, position_ids):
        angles = position_ids[..., None].to(x.dtype) * self.frequencies.to(x.dtype)
        angles = torch.cat([angles, angles], -1)
        return angles.cos(), angles.sin()


def eager64(module, query, key, value, attention_mask, *, scaling, softcap, **_):
    """Gemma-2's attention in the dtype of its input; the stock softmax is float32."""
    key, value = (x.repeat_interleave(module.num_key_value_groups, 1) for x in (key, value))
    scores = softcap * torch.tanh(query @ key.mT * scaling / softcap) + attention_mask
    return (scores.softmax(-1) @ value).transpose(1, 2), None


AttentionInterface.register("eager64", eager64)
AttentionMaskInterface.register("eager64", eager_mask)


def make(kind, dtype=torch.float64, seed=0):
    """A tiny model with weights large enough that attention and softmax matter."""
    torch.manual_seed(seed)
    eager = "eager64" if dtype is torch.float64 else "eager"
    stock = eager if kind == "gemma2" else "sdpa"
    config = AutoConfig.for_model(kind, **SMALL, **KINDS[kind])
    model = AutoModelForCausalLM.from_config(config, attn_implementation=stock)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    if dtype is torch.float64:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child).__name__.endswith("RMSNorm"):
                    setattr(parent, name, Norm64(child))
                if type(child).__name__.endswith("RotaryEmbedding"):
                    setattr(parent, name, Rotary64(child))
    return model.to(dtype)


@pytest.fixture(scope="module", params=KINDS)
def models(request):
    """The stock model and one with the packed forward pass, with the same weights."""
    plain, packed = make(request.param), make(request.param)
    add_packed_forward(packed)
    return plain, packed


def draw(lengths, seed, same_start=False):
    """Pairs of random tokens; ``same_start``: both responses begin with the same token."""
    numbers = random.Random(seed)
    pairs = [[[numbers.randrange(VOCABULARY) for _ in range(n)] for n in ls] for ls in lengths]
    for _, chosen, rejected in pairs:
        if same_start:
            rejected[0] = chosen[0]
    return pairs


def alone(model, pairs):
    """The same [2 pairs, tokens] from the stock forward pass, a response at a time."""
    rows = []
    for side in (1, 2):
        for pair in pairs:
            prompt, response = pair[0], torch.tensor(pair[side])
            ids = torch.cat([torch.tensor(prompt), response])
            logits = model(input_ids=ids[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
            rows.append(logits.log_softmax(-1).gather(-1, response[:, None])[:, 0])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def with_gradients(model, logps, seed=0):
    """Values, and gradients of a random combination of them."""
    weights = torch.randn(logps.shape, generator=torch.Generator().manual_seed(seed))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad((weights * logps).sum(), parameters)
    return {"logps": logps.detach(), **dict(zip(names, gradients, strict=True))}


def assert_same(mine, theirs, **tolerance):
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(
            value, theirs[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance
        )


lengths = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4
)


@settings(max_examples=12)
@given(lengths, st.integers(0, 9), st.booleans())
def test_a_pack_is_its_responses_alone(models, lengths, seed, same_start):
    plain, packed = models
    pairs = draw(lengths, seed, same_start)
    mine = with_gradients(packed, packed(pack=make_pack(pairs)))
    theirs = with_gradients(plain, alone(plain, pairs))
    assert_same(mine, theirs, rtol=1e-10, atol=1e-10)


EDGES = {
    "one token each": [(1, 1, 1)],
    "a pack of one pair": [(5, 7, 4)],
    "prompts of one token": [(1, 3, 8), (1, 9, 1)],
    "very unequal": [(3, 60, 1), (2, 1, 55), (40, 2, 2)],
    "equal": [(4, 6, 6), (4, 6, 6)],
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(models, name):
    plain, packed = models
    pairs = draw(EDGES[name], seed=1)
    mine = with_gradients(packed, packed(pack=make_pack(pairs)))
    theirs = with_gradients(plain, alone(plain, pairs))
    assert_same(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_to_noise_in_single_and_half_precision(kind, dtype):
    # What the dtype makes of the stock pass is the noise: the packed pass may add as much again.
    exact, plain, packed = make(kind), make(kind, dtype), make(kind, dtype)
    add_packed_forward(packed)
    pairs = draw([(5, 9, 7), (2, 20, 12), (8, 1, 3)], seed=2)
    truth = with_gradients(exact, alone(exact, pairs))
    theirs = with_gradients(plain, alone(plain, pairs))
    mine = with_gradients(packed, packed(pack=make_pack(pairs)))

    def error(found, name):
        return (found[name].double() - truth[name]).norm() / truth[name].norm()

    epsilon = torch.finfo(dtype).eps
    for name in truth:
        assert error(mine, name) < 2 * error(theirs, name) + epsilon, name


def test_other_calls_stay_as_they_are(models):
    plain, packed = models
    ids, mask = torch.randint(VOCABULARY, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    mask[0, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if plain.config.model_type == "gemma2":
        with pytest.raises(ValueError, match="softcap"):
            packed(**inputs)
    else:
        expected = plain(**inputs).logits
        torch.testing.assert_close(packed(**inputs).logits[mask > 0], expected[mask > 0])


def variable_length_attention(q, k, v, q_ends, k_ends, longest_q, longest_k, *, scale, window_size,
                              enable_gqa):  # fmt: skip
    """What the CUDA kernel computes, from its definition: a row per query, causal to the end."""
    out = torch.empty_like(q)
    groups = q.shape[1] // k.shape[1]
    assert enable_gqa == (groups > 1) and window_size[1] == 0
    for (a, b), (c, d) in zip(
        q_ends.unfold(0, 2, 1).tolist(), k_ends.unfold(0, 2, 1).tolist(), strict=True
    ):
        assert b - a <= longest_q and d - c <= longest_k
        for i in range(a, b):
            stop = d - (b - 1 - i)
            start = c if window_size[0] < 0 else max(c, stop - 1 - window_size[0])
            keys = k[start:stop].repeat_interleave(groups, 1)
            weights = (torch.einsum("hd,khd->hk", q[i], keys) * scale).softmax(-1)
            out[i] = torch.einsum("hk,khd->hd", weights, v[start:stop].repeat_interleave(groups, 1))
    return out


@pytest.mark.parametrize("window", [None, 5])
def test_plan_for_the_variable_length_kernel(monkeypatch, window):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", variable_length_attention)
    pack = make_pack(draw([(5, 9, 7), (1, 1, 1), (8, 1, 3), (1, 4, 12)], seed=3))
    tokens = pack["input_ids"].shape[1]
    query, key, value = (
        torch.randn(1, heads, tokens, 8, dtype=torch.float64) for heads in (4, 2, 2)
    )
    mine = packing._variable_length(query, key, value, pack, 0.3, window)
    theirs = packing._by_segment(query, key, value, pack["lengths"], 0.3, window, None)
    torch.testing.assert_close(mine, theirs)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(10, 120))
def test_rows_hold_every_pair_once_within_the_budget(sizes, budget):
    rows = pack_pairs(sizes, budget)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    totals = [sum(sizes[i] for i in row) for row in rows]
    assert all(t <= budget or len(row) == 1 for t, row in zip(totals, rows, strict=True))
    # No two rows would have fitted into one.
    assert len(rows) == 1 or sum(sorted(totals)[:2]) > budget


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("positions", [7, 40])  # of 40: several chunks, or one that is kept
def test_head_is_trls_fused_head(softcap, positions, monkeypatch):
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    monkeypatch.setattr(head, "CHUNK", positions * VOCABULARY)
    torch.manual_seed(0)
    hidden, weight = torch.randn(40, 16), torch.randn(VOCABULARY, 16)
    labels, grad = torch.randint(VOCABULARY, (40,)), torch.randn(40)

    def run(function):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
        logps = function(*leaves)
        first = torch.autograd.grad(logps, leaves, grad, retain_graph=True)
        return [logps, *first, *torch.autograd.grad(logps, leaves, grad)]

    mine = run(lambda h, w: response_logps(h, w, labels, softcap))
    theirs = run(
        lambda h, w: ChunkedLogProbFunction.apply(h, w, None, labels, 1.0, 32, softcap, 1.0, ())[0]
    )
    torch.testing.assert_close(mine, theirs)


class Watch(TorchDispatchMode):
    """Names of the operations that ran, and the largest tensor any of them made."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = set(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.names.add(function.overloadpacket._qualified_op_name)
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.largest = max(self.largest, x.numel())
        return out


def test_no_tensor_grows_with_vocabulary_times_length(monkeypatch):
    monkeypatch.setattr(head, "CHUNK", 16 * 1000)
    weight = torch.randn(1000, 8, requires_grad=True)
    seen = []
    for n in (64, 512):
        hidden = torch.randn(n, 8, requires_grad=True)
        labels = torch.randint(1000, (n,))
        with Watch() as watch:
            response_logps(hidden, weight, labels).sum().backward()
        seen.append(watch.largest)
    assert seen == [16 * 1000, 16 * 1000]


def test_no_step_waits_for_the_device():
    # Each of these operations makes a GPU's host wait: reading a value, or a size from values.
    model = make("llama", torch.float32)
    add_packed_forward(model)
    with Watch() as watch:
        model(pack=make_pack(draw([(5, 9, 7), (2, 20, 12)], seed=2))).sum().backward()
    waits = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::item"}
    assert "aten::mm" in watch.names and not waits & watch.names


def test_what_cannot_be_packed():
    assert unsupported(AutoConfig.for_model("llama")) is None
    assert "gpt2 is not among" in unsupported(AutoConfig.for_model("gpt2"))
    dropout = AutoConfig.for_model("qwen2", attention_dropout=0.1)
    assert "attention_dropout is 0.1" in unsupported(dropout)
