"""bfloat16 where the device multiplies it, float32 elsewhere, said once."""

import platform
from pathlib import Path

import pytest
import torch

from poet import precision


@pytest.mark.parametrize("cuda", [True, False])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("asked", ["bfloat16", "float32", None])
def test_it_is_given_where_it_is_multiplied(monkeypatch, capsys, cuda, native, asked):
    device, asks = "cuda" if cuda else "cpu", []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda at: asks.append(at) or native)
    precision._say.cache_clear()
    given = torch.bfloat16 if asked == "bfloat16" and native else torch.float32
    for _ in range(3):
        assert precision.device_and_dtype(asked) == (device, given)
    said = capsys.readouterr().err
    assert set(asks) <= {device}
    if asked == "bfloat16" and not native:
        assert said == (
            f"dtype is bfloat16, which this {device} does not multiply: float32 is computed with\n"
        )
    else:
        assert said == ""


@pytest.mark.parametrize(
    ("config", "native", "on_cpu"),
    [
        ({"dtype": "bfloat16"}, True, torch.bfloat16),
        ({"torch_dtype": "float16"}, True, torch.bfloat16),  # of float16 no CPU is quick
        ({"dtype": "bfloat16"}, False, torch.float32),
        ({"torch_dtype": "float16"}, False, torch.float32),
        ({"dtype": "float32"}, True, torch.float32),
        ({}, True, torch.float32),
    ],
)
def test_a_published_judge_is_loaded_as_it_is_stored(monkeypatch, config, native, on_cpu):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: native)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.device_and_stored_dtype(config) == ("cpu", on_cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert precision.device_and_stored_dtype(config) == ("cuda", "auto")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").is_file(),
    reason="/proc/cpuinfo with an x86 processor's flags is absent",
)
def test_the_processors_own_flags_say_the_same():
    flags = Path("/proc/cpuinfo").read_text().split()
    expected = "avx512_bf16" in flags or "amx_bf16" in flags
    assert precision.multiplies_bfloat16("cpu") is expected
