"""What jobs lack is named before the first of them starts; more of it in tests/workflow."""

import copy
from pathlib import Path

import pytest
import yaml

from poet.config import load
from poet.files import UserError
from poet.plan import before, fits

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
TRAIN = {"setting": "world", "method": "dpo", "seed": "1"}


def job(rule, wildcards=TRAIN, resources=(), params=()):
    return fits.Job(
        rule, wildcards, {"gpu": 0, "sharding": "fsdp", **dict(resources)}, dict(params)
    )


@pytest.fixture
def config(tmp_path):
    bought = {
        "kind": "api", "judge": "arena_hard", "model": "m", "base_url": "http://x/v1",
        "price": {"prompt": 1, "completion": 1}, "max_cost": 1, "key_variable": "A_KEY",
        "store": str(tmp_path / "store"),
    }  # fmt: skip
    return load({**copy.deepcopy(DEFAULT), "annotators": {**DEFAULT["annotators"], "paid": bought}})


def test_jobs_that_lack_nothing_pass(config, tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY", "x")
    jobs = [job("sft"), job("train"), job("buy_annotations", TRAIN | {"annotator": "paid"})]
    fits.check([job("train", resources={"mem_mb": 4000})], config)
    before.check_lock(jobs, config, "make lock")
    before.check_devices(jobs)
    before.check_trainings(jobs, config, deployed=False)
    before.check_engine(jobs, config)
    before.check_keys(jobs, config)


def test_memory_counts_only_without_a_gpu_however_it_is_asked_for(config):
    small = {"mem_mb": 1}
    with pytest.raises(UserError, match="less memory than their model takes"):
        fits.check([job("train", resources=small)], config)
    for gpu in ({"gpu": 1}, {"gres": "gpu:1"}, {"slurm_extra": "--gpus=1"}):
        fits.check([job("train", resources=small | gpu)], config)


def test_a_repository_that_the_lock_lacks_is_named_with_the_command(config, tmp_path):
    model = {"name": "owner/name", "revision": "unpinned"}
    config["settings"]["world"]["model"] = model
    config["lock"] = str(tmp_path / "none.yaml")
    asking = [job("download", {"repository": "owner/name"}), job("diagnose_pairs")]
    for each in asking:
        with pytest.raises(UserError, match="owner/name is not in the lock file .*\n  make lock X"):
            before.check_lock([each], config, "make lock X")
    before.check_lock([job("train")], config, "make lock X")


def test_gpus_that_the_machine_does_not_have(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    before.check_devices([job("train", resources={"gpu": 1})])
    with pytest.raises(UserError, match="the job asks for 2, found 1"):
        before.check_devices([job("sft"), job("train", resources={"gpu": 2})])


def test_how_trainings_are_launched(config, monkeypatch):
    several = {"gpu": 2, "sharding": "zero9"}
    with pytest.raises(UserError, match="found zero9, expected one of .*fsdp"):
        before.check_trainings([job("train", resources=several)], config, deployed=True)
    before.check_trainings([job("sft", resources=several)], config, deployed=True)
    config["settings"]["world"]["preference"]["optim"] = "adamw_bnb_8bit"
    monkeypatch.setattr("poet.train.arguments.find_spec", lambda name: None)
    with pytest.raises(UserError, match="bitsandbytes is not installed"):
        before.check_trainings([job("train")], config, deployed=False)
    before.check_trainings([job("train")], config, deployed=True)


@pytest.mark.parametrize("params", [{"engine": "--vllm-python x"}, {"settings": '"vllm_python"'}])
def test_an_engine_that_is_not_there(config, tmp_path, params):
    config["vllm_python"] = str(tmp_path / "python")
    with pytest.raises(UserError, match="does not exist, and generate of world asks for"):
        before.check_engine([job("generate", params=params)], config)
    (tmp_path / "python").touch()
    before.check_engine([job("generate", params=params)], config)


def test_nothing_can_be_bought(config, monkeypatch):
    jobs = [job("buy_verdicts", TRAIN | {"annotator": "paid"})]
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(UserError, match="the environment variable A_KEY is empty"):
        before.check_keys(jobs, config)
    monkeypatch.setenv("A_KEY", "x")
    config["annotators"]["paid"]["max_cost"] = 0
    with pytest.raises(UserError, match="max_cost is 0 and the price is not"):
        before.check_keys(jobs, config)
    Path(config["annotators"]["paid"]["store"], "paid", "answers.jsonl").write_text("{}\n")
    monkeypatch.delenv("A_KEY")
    before.check_keys(jobs, config)  # what is in the store needs no key


def test_of_several_that_cannot_buy_the_first_is_named(config, monkeypatch):
    """However Python's hashes fall."""
    monkeypatch.delenv("A_KEY", raising=False)
    names = [f"paid-{n}" for n in range(9)]
    config["annotators"] |= dict.fromkeys(names, config["annotators"]["paid"])
    jobs = [job("buy_annotations", TRAIN | {"annotator": name}) for name in names]
    with pytest.raises(UserError, match="annotators.paid-0: the environment variable"):
        before.check_keys(jobs, config)
