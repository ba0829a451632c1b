"""One process, two and four: the same losses for the same global batches."""

import pytest

from gloo import train_in, trained

DPO = {"objective": "dpo", "parameters": {"beta": 0.1}}
# Draws per pair and epoch, and means that must not mix pairs.
RPO = {"objective": "rpo", "parameters": {"beta": 0.1, "rpo_alpha": 0.5}, "weighting": "sampo"}
# Pairs per device and arguments of the trainer; packed, a device takes its whole share.
PADDED = (2, {"forward": "padded"})
PACKED = (None, {"forward": "packed", "token_budget": 60})


@pytest.fixture(scope="module")
def job(start, drifted):
    """35 pairs in global batches of 8: the last has 3, so that one of four processes has none."""
    return {
        "model": str(start[0]),
        "global_batch_size": 8,
        "rows": {name: column[:35] for name, column in drifted.items()},
        "held_out": {name: column[33:] for name, column in drifted.items()},
    }


@pytest.mark.parametrize(
    ("method", "processes", "split"), [(DPO, 2, PADDED), (RPO, 4, PADDED), (RPO, 4, PACKED)]
)
def test_processes_change_nothing(job, method, processes, split, tmp_path):
    job = {**job, "method": method}
    one = trained({**job, "per_device": 4}, str(tmp_path))
    per_device, forward = split
    job |= {"method": method | forward, "per_device": per_device}
    many = train_in(processes, job, tmp_path)
    assert (one["processes"], many["processes"]) == (1, processes)
    assert len(one["losses"]) == 10
    assert many["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert many["margins"] == pytest.approx(one["margins"], rel=1e-3, abs=1e-4)
    assert many["evaluation"] == pytest.approx(one["evaluation"], rel=1e-3, abs=1e-4)
    assert many["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-5)
