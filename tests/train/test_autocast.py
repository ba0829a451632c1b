"""Mixed precision computes in bfloat16 on float32 weights; a CPU without it emulates it here."""

import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from poet import precision
from poet.files import read_json
from poet.train import head, preference, reference
from poet.train.packing import add_packed_forward, make_pack
from training_runs import arguments, make_inputs, record_of

PRODUCTS = [torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm]


@pytest.fixture
def half(monkeypatch):
    """This machine multiplies bfloat16, it is said."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)


class Seen(TorchDispatchMode):
    """The dtypes of all matrix products, of backward passes too."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in PRODUCTS:
            self.dtypes.append(tuple(x.dtype for x in args[-2:]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("forward", ["packed", "padded"])
def test_a_training_in_bfloat16_is_float32s_to_its_rounding(
    start, tmp_path, monkeypatch, half, forward
):
    inputs, seen, whole = make_inputs(start[0], tmp_path), set(), LlamaMLP.forward

    def mlp(self, x):
        found = whole(self, x)
        # A cache would hold a second copy of every weight.
        seen.add(
            (found.dtype, torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled())
        )
        return found

    monkeypatch.setattr(LlamaMLP, "forward", mlp)
    losses, weights = {}, {"begun": load_file(start[0] / "model.safetensors")}
    for dtype in ("float32", "bfloat16"):
        more = {"num_train_epochs": 3, "token_budget": 80}
        record = record_of(forward=forward, dtype=dtype, **more)
        preference.main(arguments(inputs, record, tmp_path / dtype))
        folder = tmp_path / dtype / "model"
        report = read_json(folder / "train.json")
        assert report["computed_in"] == report["record"]["dtype"] == dtype
        assert seen == {(getattr(torch, dtype), False)}
        seen.clear()
        losses[dtype] = [row["loss"] for row in report["log_history"] if "loss" in row]
        weights[dtype] = load_file(folder / "model.safetensors")
        assert {weight.dtype for weight in weights[dtype].values()} == {torch.float32}
    wide, narrow = losses.values()
    assert wide[-1] < wide[0] - 0.02  # it learns
    assert narrow != wide and narrow == pytest.approx(wide, abs=5e-4)

    def distance(one, other):
        return (
            sum((weights[one][k] - weights[other][k]).square().sum() for k in weights[one]) ** 0.5
        )

    assert 0 < distance("float32", "bfloat16") < distance("float32", "begun") / 40


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("forward", ["packed", "padded"])
def test_the_reference_is_computed_in_what_the_device_multiplies(
    start, tmp_path, monkeypatch, native, forward
):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: native)
    inputs = make_inputs(start[0], tmp_path)  # float32's
    record = {
        "setting": "world", "torch_threads": 1, "reference_batch_size": 8, "forward": forward,
        "token_budget": 100, "dtype": "bfloat16",
    }  # fmt: skip
    reference.main(
        ["--record", json.dumps(record), "--tokens", inputs["tokens"], "--model", inputs["model"]]
        + ["--output", str(tmp_path / "half.parquet")]
    )
    wide, found = (pq.read_table(p) for p in (inputs["reference"], tmp_path / "half.parquet"))
    said = found.schema.metadata[reference.DTYPE_KEY].decode()
    assert said == ("bfloat16" if native else "float32")
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        apart = np.subtract(*(pc.list_flatten(table[name]).to_numpy() for table in (wide, found)))
        # The logits lie within 1 of 0, where bfloat16 has steps of 2^-8.
        assert (1e-4 < abs(apart).max() < 0.01) if native else abs(apart).max() < 1e-5


@pytest.mark.parametrize("chunk", [head.CHUNK, 3 * 261], ids=["whole", "in chunks"])
def test_no_product_of_a_packed_pass_is_wider_than_bfloat16(start, monkeypatch, chunk):
    monkeypatch.setattr(head, "CHUNK", chunk)
    model = AutoModelForCausalLM.from_pretrained(start[0], dtype=torch.float32)
    add_packed_forward(model)
    pack = make_pack([([5, 6], [7, 8, 9, 1], [10, 1]), ([11], [12, 1], [13, 14, 15, 1])])
    with Seen() as seen:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            loss = model(pack=pack).sum()
        loss.backward()  # behind the context, as trainers do
    # Seven linear layers a block and the head, one product forwards and two backwards.
    assert len(seen.dtypes) >= 3 * (7 * model.config.num_hidden_layers + 1)
    assert set(seen.dtypes) == {(torch.bfloat16, torch.bfloat16)}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert {weight.grad.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("chunk", [head.CHUNK, 4 * 50])
def test_the_heads_gradients_are_as_exact_as_torchs_own(monkeypatch, softcap, chunk):
    """In bfloat16, beside log_softmax in float64: no more than twice the stock pass's error."""
    monkeypatch.setattr(head, "CHUNK", chunk)
    torch.manual_seed(0)
    states, weights = torch.randn(30, 16), torch.randn(50, 16)
    labels, slope = torch.randint(50, (30,)), torch.randn(30)

    def stock(hidden, weight, labels, softcap):
        logits = (hidden @ weight.T).to(torch.promote_types(hidden.dtype, torch.float32))
        logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        return logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]

    def gradients(function, dtype):
        hidden, weight = (x.to(dtype, copy=True).requires_grad_() for x in (states, weights))
        logps = function(hidden, weight, labels, softcap)
        (logps * slope.to(logps.dtype)).sum().backward()
        return [logps.double(), hidden.grad.double(), weight.grad.double()]

    truth = gradients(stock, torch.float64)
    theirs, mine = (gradients(f, torch.bfloat16) for f in (stock, head.response_logps))
    for exact, stocks, ours in zip(truth, theirs, mine, strict=True):
        assert (ours - exact).norm() <= 2 * (stocks - exact).norm() + 1e-3 * exact.norm()
