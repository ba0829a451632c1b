"""Products by oneDNN against float64, and torch as it was outside of the context."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poet.train.onednn import FEW, onednn_products
from poet.train.packing import add_packed_forward, make_pack

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
