"""Products by oneDNN against float64, and torch as it was outside of the context."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from poet.files import UserError, read_json
from poet.train import onednn, preference
from poet.train.onednn import FEW, MARGIN, choose, measure, onednn_products, products
from poet.train.packing import add_packed_forward, make_pack
from training_runs import arguments, make_inputs, record_of

from .test_packing import make

HERE = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
ONEDNN = "mkldnn::_linear_pointwise"


def operations(work) -> set[str]:
    with torch.profiler.profile() as found:
        work()
    return {event.key for event in found.key_averages()}


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2 * FEW), st.integers(0, 40), st.integers(0, 40),
    st.sampled_from([torch.float32, torch.float64, torch.int64]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_products_are_those_of_float64(n, k, m, dtype, turn_a, turn_b):
    generator = torch.Generator().manual_seed(n + 100 * k + 10_000 * m)

    def draw(rows, columns, turned):
        wide = torch.randint(-99, 100, (rows, 2 * columns), generator=generator).to(dtype)
        x = wide[:, ::2] / 7 if dtype.is_floating_point else wide[:, ::2]  # not contiguous
        return x.T.contiguous().T if turned else x

    a, b = draw(n, k, turn_a), draw(k, m, turn_b)
    with onednn_products():
        found = a @ b
    assert found.dtype == dtype and found.shape == (n, m)
    expected = a.double() @ b.double()
    if dtype == torch.float32:
        size = a.double().abs() @ b.double().abs()  # of what is summed
        assert ((found - expected).abs() <= 1e-6 * size).all()
    else:
        assert torch.equal(found, a @ b)


@pytest.mark.skipif(not HERE, reason="torch has no MKL or no oneDNN here")
def test_linear_layers_and_their_gradients_use_it_inside_only():
    layer = torch.nn.Linear(24, 40, bias=False)
    x = torch.randn(2, FEW, 24, requires_grad=True)

    def work():
        layer(x).square().sum().backward()

    assert ONEDNN not in operations(work)
    with pytest.raises(ZeroDivisionError), onednn_products():
        found = operations(work)
        raise ZeroDivisionError
    assert ONEDNN in found
    assert ONEDNN not in operations(work)


def test_shapes_that_do_not_fit_are_torchs_own_error():
    with onednn_products(), pytest.raises(RuntimeError, match="cannot be multiplied"):
        torch.zeros(FEW, 3) @ torch.zeros(2, 4)


def test_a_packed_model_has_the_loss_and_gradients_of_float64():
    pairs = [(list(range(2, 9)), list(range(9, 40)), list(range(30, 60)))] * 2

    def gradients(dtype):
        model = make("llama", dtype)
        add_packed_forward(model)
        loss = model(pack=make_pack(pairs)).sum()
        loss.backward()
        return loss.item(), [p.grad for p in model.parameters()]

    expected, slopes = gradients(torch.float64)
    with onednn_products():
        found, approximate = gradients(torch.float32)
    assert found == pytest.approx(expected, rel=1e-5)
    for a, b in zip(approximate, slopes, strict=True):
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


SHAPES = """
import torch
from poet.train.onednn import onednn_products

def resident():  # MB
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

with onednn_products():
    weight = torch.randn(352, 128)
    for rows in range(2000, 2500):
        torch.randn(rows, 128) @ weight.T
        if rows == 2100:
            before = resident()
print(resident() - before)
"""


@pytest.mark.skipif(not HERE, reason="torch has no MKL or no oneDNN here")
def test_many_shapes_take_no_more_memory_than_a_few():
    done = subprocess.run([sys.executable, "-c", SHAPES], stdout=subprocess.PIPE, check=True)
    assert float(done.stdout) < 100  # some 850 with the libraries' defaults


@pytest.fixture
def clock(monkeypatch):
    """Let ``choose`` find these milliseconds on a machine with both; counts the measurements."""
    found = []

    def fake(onednn_takes, torch_takes):
        def measured(width):
            found.append(width)
            return {"onednn": onednn_takes, "torch": torch_takes}

        monkeypatch.setattr(onednn, "measure", measured)
        monkeypatch.setattr(onednn, "available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        return found

    return fake


@pytest.mark.parametrize(
    ("torch_takes", "by"),
    [(20, "onednn"), (MARGIN + 0.01, "onednn"), (MARGIN - 0.01, "torch"), (0.8, "torch")],
)
def test_the_clearly_faster_one_multiplies(clock, capsys, torch_takes, by):
    clock(1.0, torch_takes)
    outcome = choose("auto", 64)
    assert outcome["by"] == by
    assert outcome["milliseconds"] == {"onednn": 1.0, "torch": torch_takes}
    assert f"matrix products by {by}: measured onednn 1.0 ms" in capsys.readouterr().err


def test_what_is_asked_for_is_not_measured(clock, monkeypatch):
    measured = clock(1.0, 20)
    for by in ("onednn", "torch"):
        assert choose(by, 64) == {"asked": by, "by": by}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("auto", 64)["by"] == "torch"
    monkeypatch.setattr(onednn, "available", lambda: False)
    with pytest.raises(UserError, match="matrix_products is onednn, but torch .* `auto` or"):
        choose("onednn", 64)
    assert measured == []


def test_an_earlier_outcome_holds_on_the_same_machine(clock, monkeypatch):
    measured = clock(1.0, 20)
    first = choose("auto", 64)
    clock(20, 1.0)  # the other way round, were it measured again
    assert choose("auto", 64, first) == first and len(measured) == 1
    monkeypatch.setattr(onednn, "processor", lambda: "another")
    assert choose("auto", 64, first)["by"] == "torch"
    assert choose("auto", 64, {"asked": "torch", "by": "torch"})["by"] == "torch"


@pytest.mark.skipif(not HERE, reason="torch has no MKL or no oneDNN here")
def test_the_measurement_multiplies_by_each(monkeypatch):
    monkeypatch.setattr(onednn, "TOKENS", 256)
    found = {}
    before = torch.get_rng_state()
    names = operations(lambda: found.update(measure(16)))
    assert torch.equal(torch.get_rng_state(), before)  # dropout's, where it is not measured
    assert {ONEDNN, "aten::mm"} <= names
    assert set(found) == {"onednn", "torch"} and min(found.values()) > 0


def test_trainings_follow_the_reference_and_say_so(start, clock, tmp_path, monkeypatch):
    """Whatever a later measurement would say; the weights are the same to rounding either way."""
    models, used = {}, []
    monkeypatch.setattr(onednn, "products", lambda by: used.append(by) or products(by))
    for by, takes in (("onednn", (1.0, 20)), ("torch", (20, 1.0))):
        folder = tmp_path / by
        folder.mkdir()
        clock(*takes)
        inputs = make_inputs(start[0], folder, n_train=9, n_test=3)
        clock(*reversed(takes))
        preference.main(arguments(inputs, record_of(token_budget=400), folder))
        said = read_json(folder / "model" / "train.json")["matrix_products"]
        assert (said["asked"], said["by"]) == ("auto", by)
        assert said["milliseconds"] == dict(zip(("onednn", "torch"), takes, strict=True))
        models[by] = load_file(folder / "model" / "model.safetensors")
    assert used == ["onednn", "onednn", "torch", "torch"]
    for name, weight in models["torch"].items():
        assert torch.allclose(weight, models["onednn"][name], rtol=0, atol=1e-5)
