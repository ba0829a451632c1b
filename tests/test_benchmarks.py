"""The benchmark's arms do the same work: TRL's loss and gradients, on a tiny model."""

import json

import pytest
from benchmarks import case, compare, pairs

SHAPE = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    lengths = [[3, 20, 9], [5, 7, 30], [1, 4, 4], [9, 1, 12], [2, 33, 8], [4, 6, 16]] * 3
    (folder / "lengths.json").write_text(json.dumps({"lengths": lengths}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "REAL", folder / "absent")
        patch.setattr(pairs, "RECORDED", folder / "lengths.json")
        patch.setattr(pairs, "HERE", folder / "benchmarks")
        patch.setitem(case.SHAPES, "cpu", SHAPE)
        patch.setattr(compare, "MICRO_BATCHES", (2,))
        patch.setattr(compare.os, "cpu_count", lambda: 1)
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


def test_useful_flops_of_one_pair():
    config = case.LlamaConfig(**SHAPE)
    body, head = case.weights(config)
    model = case.LlamaForCausalLM(config)
    matrices = [p.numel() for p in model.parameters() if p.dim() == 2]
    assert body + head == sum(matrices) - SHAPE["vocab_size"] * SHAPE["hidden_size"]
