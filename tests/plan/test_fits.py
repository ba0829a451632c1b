"""Models that do not fit into what a job asks for are refused: by their files, shape or lock."""

import re
from pathlib import Path

import pytest
import yaml

from poet.config import load, read
from poet.files import UserError
from poet.plan import fits
from poet.plan.fits import Job, check
from poet.sizes.models import parameters_of

ROOT = Path(__file__).parents[2]
PAPER = read(ROOT / "config" / "paper.yaml")
SETTING = "mistral-7b-base"  # 7.24e9 parameters


def job(rule, mem_mb=4000, gpu=False, **wildcards):
    resources = {"gpu": int(gpu), "mem_mb": mem_mb}
    return Job(rule, {"setting": SETTING} | wildcards, resources, {})


@pytest.mark.parametrize(
    ("asked", "least"),
    [
        (job("train", method="dpo", seed="42"), 115868),  # 16 bytes per parameter
        (job("reference"), 28967),  # 4
        (job("generate", method="sft"), 28967),
        (job("annotate", method="sft", annotator="skywork"), 16061),  # 8.03e9 of 2
    ],
    ids=lambda value: getattr(value, "rule", ""),
)
def test_what_does_not_fit_is_refused(asked, least):
    with pytest.raises(UserError) as error:
        check([asked], PAPER)
    found = re.search(rf"{asked.rule} with \S+: at least (\d+), asks for 4000", str(error.value))
    assert int(found[1]) == pytest.approx(least, rel=1e-3)
    assert "`set-resources` of the profile" in str(error.value)
    asked.resources["mem_mb"] = int(found[1])
    check([asked], PAPER)
    asked.resources["mem_mb"] -= 1
    with pytest.raises(UserError):
        check([asked], PAPER)
    asked.resources["gpu"] = 1
    check([asked], PAPER)


def test_what_needs_little_may_run_anywhere():
    default = load(yaml.safe_load((ROOT / "config.yaml").read_text()))
    small = [job(rule, setting="world", method="dpo") for rule in fits.BYTES]
    check(small, default)
    for asked in small:  # each was looked at
        asked.resources["mem_mb"] = 0
        with pytest.raises(UserError, match=f"{asked.rule} with .*: at least"):
            check([asked], default)
    # An API's calls, tables and the like, whatever the models are.
    judge = next(n for n, of in PAPER["annotators"].items() if of["kind"] == "api")
    check([job("annotate", annotator=judge), job("tokenize"), job("score")], PAPER)


def test_lora_trains_few_of_the_weights():
    config = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    config["settings"][SETTING]["preference"]["lora"] = {"r": 16, "lora_alpha": 32}
    with pytest.raises(UserError, match="at least 289"):
        check([job("train", method="dpo", seed="42")], load(config))


def test_parameters_are_counted_in_files_and_bounded_by_the_lock(start, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    lock = tmp_path / "lock.yaml"
    counted = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(start[0]).parameters())
    assert parameters_of(str(start[0]), lock) == counted
    size = (start[0] / "model.safetensors").stat().st_size
    files = {"model.safetensors": size, "tokenizer.json": 9999}
    entry = {name: {"size": size, "sha256": "0" * 64} for name, size in files.items()}
    lock.write_text(yaml.safe_dump({"tiny/model": {"revision": "0" * 40, "files": entry}}))
    bound = parameters_of("tiny/model", lock)
    assert counted <= bound < counted + 2000  # float32, and the file's header
    assert parameters_of("tiny/unknown", lock) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/hub/tiny").mkdir(parents=True)
    (tmp_path / "results/hub/tiny/model").symlink_to(start[0])
    assert parameters_of("tiny/model", lock) == counted


def test_the_profiles_gpus_serve_every_rule_that_may_need_one():
    local = yaml.safe_load((ROOT / "profiles/local-gpu/config.yaml").read_text())
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    rules = re.search(r"^# set-resources:\n((?:#   .*\n)+)", text, re.MULTILINE)[1]
    cluster = yaml.safe_load(re.sub(r"^#", "", rules, flags=re.MULTILINE))
    for resources in (local["set-resources"], cluster):
        assert set(resources) == set(fits.BYTES)
        assert all(of["gpu"] == 1 for of in resources.values())
