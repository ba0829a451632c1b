"""The benchmark's arms do the same work: TRL's loss and gradients, on a tiny model."""

import json

import pytest
from benchmarks import case, compare, half, pairs

SHAPE = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small pairs and a small shape in place of all benchmarks' own."""
    folder = tmp_path_factory.mktemp("benchmark")
    lengths = [[3, 20, 9], [5, 7, 30], [1, 4, 4], [9, 1, 12], [2, 33, 8], [4, 6, 16]] * 3
    (folder / "lengths.json").write_text(json.dumps({"lengths": lengths}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "REAL", folder / "absent")
        patch.setattr(pairs, "RECORDED", folder / "lengths.json")
        patch.setattr(pairs, "HERE", folder / "benchmarks")
        patch.setitem(case.SHAPES, "cpu", SHAPE)
        patch.setattr(compare.os, "cpu_count", lambda: 1)
        yield folder


@pytest.fixture(scope="module")
def result(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "MICRO_BATCHES", (2,))
        compare.main(["--repeats", "1", "--output", str(folder / "out" / "cpu.json")])
    return json.loads((folder / "out" / "cpu.json").read_text()), folder / "out" / "cpu.md"


def test_arms_that_claim_trls_loss_have_it(result):
    arms = {arm["name"]: arm for arm in result[0]["arms"]}
    assert {"released", "trl_default", "trl_best", "trl_simpo", "ours"} <= set(arms)
    for name, arm in arms.items():
        if name in ("trl_simpo", "prefix_sharing_full_pairs"):
            assert arm["max_loss_diff"] is None
        else:
            assert arm["max_loss_diff"] < 1e-5, name
            assert arm["max_gradient_diff"] < 1e-3, name
    # Something can differ: full pairs have another loss than truncated ones.
    assert abs(arms["prefix_sharing_full_pairs"]["loss"] - arms["ours"]["loss"]) > 1e-4


def test_speeds_follow_from_seconds(result):
    found, table = result
    count = found["pairs"]["per_step"]
    assert [arm["runs"] for arm in found["arms"] if arm["name"] in ("trl_best", "ours")] == [2, 2]
    for arm in found["arms"]:
        assert f"| {arm['name']} |" in table.read_text()
        if arm["runs"] > 1:
            continue  # a speed of medians is not the median speed
        step, reference = arm["step_s"], arm["reference_s"]
        assert arm["pairs_per_s"] == pytest.approx(count / (step + reference), rel=0.01)
        assert arm["pairs_per_s_amortised"] == pytest.approx(
            count / (step + reference / 4), rel=0.01
        )


def test_bfloat16_beside_float32(folder, start):
    """Emulated where the processor does not multiply it."""
    output = folder / "out" / "half.json"
    model = ["--model", str(start[0])]
    half.main([*model, "--steps", "3", "--turns", "2", "--output", str(output)])
    found = json.loads(output.read_text())
    assert found["parameters"] == half._model(start[0])[0].num_parameters()
    assert half._model(None)[0].config.hidden_size == SHAPE["hidden_size"]
    training = found["training"]
    wide, narrow = training["losses"].values()
    assert len(wide) == len(narrow) == 3 and wide[-1] != pytest.approx(wide[0], abs=1e-6)
    assert training["largest_difference"] == max(
        abs(one - other) for one, other in zip(wide, narrow, strict=True)
    )
    assert 0 < training["largest_difference"] < 0.01
    assert 1e-5 < found["reference"]["largest_difference"] < 0.05
    for name in ("training", "reference", "sampling"):
        seconds = found[name]["seconds"]
        assert [len(each) for each in seconds.values()] == [2, 2]
        speed = sum(seconds["float32"]) / sum(seconds["bfloat16"])  # of two, as the medians'
        assert found[name]["speed"] == pytest.approx(speed)
        assert f"| {found[name]['speed']:.2f} x |" in output.with_suffix(".md").read_text()


def test_useful_flops_of_one_pair():
    config = case.LlamaConfig(**SHAPE)
    body, head = case.weights(config)
    model = case.LlamaForCausalLM(config)
    matrices = [p.numel() for p in model.parameters() if p.dim() == 2]
    assert body + head == sum(matrices) - SHAPE["vocab_size"] * SHAPE["hidden_size"]
