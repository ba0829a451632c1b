"""The plan: Snakemake's own counts, work recomputed by hand, what is done, what was assumed."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from poet.config import load as validated
from poet.config import read
from poet.data import preferences
from poet.data.split import subsample
from poet.evaluate.benchmarks import BENCHMARKS
from poet.files import UserError
from poet.methods.truncation import TRUNCATIONS, Truncation
from poet.plan import machine, plan
from poet.plan.fits import BYTES, Job
from poet.plan.machine import Device
from poet.plan.workload import MEASURES, SECONDS, Work, Workload, kept
from poet.sizes.architecture import Architecture

ROOT = Path(__file__).parents[2]
SHAPES = yaml.safe_load((ROOT / "paper" / "models.yaml").read_text())
OF = yaml.safe_load((ROOT / "paper" / "assumptions.yaml").read_text())
# As on a machine with a GPU, which the plan takes for the last of them.
CARDS = [Device(name, of["rates"], of["memory"], of["start"]) for name, of in OF["cards"].items()][
    ::-1
]


@pytest.fixture(scope="module")
def config():
    return read(ROOT / "config" / "paper.yaml")


@pytest.fixture
def load(config):
    return Workload(config, OF)


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory) -> Path:
    """What Snakemake prints of the paper's whole grid, in a file."""
    folder = tmp_path_factory.mktemp("dry")
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "all", "--snakefile", str(ROOT / "Snakefile"),
         "--configfile", str(ROOT / "config/paper.yaml"), "--directory", str(folder),
         "--cores", "1"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (folder / "all").write_text(result.stdout)
    return folder / "all"


def train(setting="mistral-7b-base", method="dpo", inputs=()):
    wildcards = {"setting": setting, "method": method, "seed": "42"}
    return Job("train", wildcards, inputs=list(inputs), outputs=["x"])


def test_jobs_are_snakemakes(dry_run):
    text = dry_run.read_text()
    jobs = plan.read_jobs(text)
    counts = text[text.rindex("Job stats:") :].splitlines()[3:]
    for line in counts:
        rule, number = line.split()
        if rule in ("total", "all"):
            continue
        assert sum(job.rule == rule for job in jobs) == int(number), rule
        if rule == "write_page":
            break
    assert len({job.name for job in jobs}) == len(jobs)


def test_every_rule_is_measured_or_said_to_take_seconds():
    """A rule that is renamed or new fails here, rather than to cost nothing; so does one gone."""
    listed = subprocess.run(
        [sys.executable, "-m", "snakemake", "--list-rules"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    rules = {line.split()[0] for line in listed.stdout.splitlines()}
    # The Snakefile itself has targets only.
    targets = {"all", "diagnose", "tables", "analysis", "sweep"}
    targets |= {"main", "ablation", "baselines", "downstream", "world"}
    assert set(MEASURES) == rules - targets and targets < rules
    assert set(BYTES) < set(MEASURES) - set(SECONDS)  # with a model in memory none takes seconds


def test_a_sweeps_validation_samples_from_every_cell(monkeypatch):
    """4 checkpoints, each of 9 cells that answer the prompts of 200 pairs with 128 tokens."""
    monkeypatch.chdir(ROOT)
    listed = "".join(
        f"checkpoint validate:\n    output: x{arm}\n    wildcards: setting=world, arm={arm}\n"
        for arm in ("dpo", "dpo-poet", "simpo", "simpo-poet")
    )
    load = Workload(read(ROOT / "config/sweep.yaml"), OF)
    works = [load.work(job) for job in plan.read_jobs(listed)]
    assert [(work.kind, work.amount) for work in works] == [("generation", 9 * 200 * 128)] * 4


def test_plan_of_the_paper(dry_run, capsys, monkeypatch, load):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(plan, "known", lambda *_: CARDS)
    plan.main(
        ["--configfile", "config/paper.yaml", "--jobs", str(dry_run), "--pending", str(dry_run)]
    )
    text, jobs = capsys.readouterr().out, plan.read_jobs(dry_run.read_text())
    found = plan.make_plan(jobs, jobs, load, CARDS, load.config)
    assert text == plan.as_text(found) + "\n"
    rows = {row["rule"]: row for row in found["rows"]}
    assert rows["train"]["jobs"] == 24 and rows["train"]["done"] == 0
    for card in ("24 GB card", "80 GB card"):
        assert rows["total"]["hours"][card] == pytest.approx(
            sum(row["hours"][card] for rule, row in rows.items() if rule != "total")
        )
    # 16 bytes for each parameter are more than either card has.
    assert rows["train"]["card"] > 16 * 7.2 and rows["train"]["memory"] > rows["train"]["card"]
    assert f"({rows['train']['hours']['80 GB card']:,.2f})" in text
    # 4 models and the judge in bfloat16, 10 data sets.
    names = [*{s["model"]["name"]: 0 for s in load.config["settings"].values()}]
    names.append(load.config["annotators"]["skywork"]["name"])
    weights = sum(2 * Architecture.of(SHAPES[name]).parameters for name in names) / 1e9
    assert rows["download"]["download"] == pytest.approx(weights + 10 * 0.5)
    assert rows["buy_annotations"]["calls"] == 28 * 805
    for word in ("were not seen", "assumed", "tokens per answer", "hours, 80 GB card", "total"):
        assert word in text


def test_training_is_three_passes_and_a_recomputation(load):
    """The released count: 6 N operations per token, 8 N with checkpointing, attention on top."""
    found = load.work(train())
    pairs, of = OF["pairs"]["HuggingFaceH4/ultrafeedback_binarized"][0], OF["lengths"]
    tokens = of["prompt"] + of["chosen"] + of["rejected"]  # packed: the prompt once
    shape = Architecture.of(SHAPES["alignment-handbook/zephyr-7b-sft-full"])
    dense = 8 * shape.parameters * pairs * tokens
    assert found.kind == "training" and 0.95 < found.amount / dense < 1.1
    assert found.disk == 4 * shape.parameters
    assert any("ultrafeedback_binarized were not seen" in line for line in load.assumed)


def test_poet_takes_what_it_keeps(load):
    both = OF["lengths"]["chosen"] + OF["lengths"]["rejected"]
    full, poet = load.work(train()), load.work(train(method="dpo-poet"))
    rest = OF["lengths"]["prompt"]
    share = (rest + OF["lengths"]["kept_by_poet"] * both) / (rest + both)
    assert poet.amount / full.amount == pytest.approx(share, rel=0.02)
    assert kept({"strategy": "own", "keep": 0.5}, OF["lengths"]) == (225, 190)
    each = OF["lengths"]["kept_by_poet"] * (450 + 380) / 2
    assert kept({"strategy": "random", "seed": 0}, OF["lengths"]) == (each / 2, each / 2)


def test_a_parameter_of_any_name_is_its_strategys_own(monkeypatch):
    first = Truncation(lambda chosen, rejected, keep: (keep, keep), {"keep": {}}, None)
    monkeypatch.setitem(TRUNCATIONS, "first", first)
    assert kept({"strategy": "first", "keep": 64}, OF["lengths"]) == (450, 380)


def test_token_tables_are_counted(load, tmp_path):
    """Where a table exists nothing is assumed, and rows weigh what they hold."""
    path = tmp_path / "none.parquet"

    def table(chosen):
        columns = {"prompt_ids": [[1, 2]] * 3, "chosen_ids": [[1] * chosen] * 3,
                   "rejected_ids": [[1] * 4] * 3, "split": ["train", "train", "test"]}  # fmt: skip
        pq.write_table(pa.table(columns), path)

    from poet.plan.workload import counted_lengths

    table(6)
    found = load.work(train(inputs=[str(path), "results/reference.parquet"]))
    assert counted_lengths(str(path)) == (2, 6, 4, (2, 1)) and load.assumed == {}
    shape = Architecture.of(SHAPES["alignment-handbook/zephyr-7b-sft-full"])
    assert found.amount == pytest.approx(4 * shape.forward(2 * 12, 2 + 10 / 4, 2 * 10))


def test_calls_and_dollars(config):
    config = {**config, "annotators": dict(config["annotators"]), "seeds": [1, 2]}
    name = "weighted_alpaca_eval_gpt4_turbo"
    job = Job("buy_annotations", {"setting": "gemma-2-9b-it", "method": "dpo", "annotator": name})
    found = Workload(config, OF).work(job)
    assert found.calls == 2 * 805
    assert found.dollars == pytest.approx(2 * 805 * (1500 * 10 + 1 * 30) / 1e6)


def test_a_benchmarks_calls_are_its_own(tmp_path, monkeypatch):
    """Arena asks in both orders and lets its judge write 4096 tokens; safety asks once, for one."""
    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        "".join(json.dumps({"q": f"what is {i}?", "n": i}) + "\n" for i in range(7))
    )
    rows = {"path": str(questions), "column": "q", "id": "n"}
    far = {
        "dataset": "org/arena",
        "revision": "unpinned",
        "file": "a.jsonl",
        "column": "q",
        "id": "n",
    }
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    price = {"prompt": 3, "completion": 5}
    asked = {"kind": "api", "base_url": "http://j", "max_cost": 1, "price": price}
    config["annotators"]["referee"] = {**asked, "judge": "arena_hard"}
    config["annotators"]["guard"] = {**asked, "judge": "safety"}
    world = config["settings"]["world"]
    world["arena"] = {"annotator": "referee", "prompts": rows, "baseline": rows}
    world["safety"] = {"annotator": "guard", "prompts": far}
    load = Workload(validated(config), OF)

    def buy(benchmark, annotator):
        names = {"setting": "world", "method": "dpo", "benchmark": benchmark}
        answers = load.work(Job("answer_questions", names))
        return load.work(Job("buy_verdicts", {**names, "annotator": annotator})), answers

    verdicts, answers = buy("arena", "referee")
    assert (verdicts.calls, answers.amount) == (3 * 7 * 2, 3 * 7 * 128)
    assert verdicts.dollars == pytest.approx(3 * 7 * 2 * (1500 * 3 + 4096 * 5) / 1e6)
    assert not any("questions" in line for line in load.assumed)
    verdicts, answers = buy("safety", "guard")
    assert (verdicts.calls, answers.amount) == (3 * OF["questions"], 3 * OF["questions"] * 128)
    assert verdicts.dollars == pytest.approx(3 * OF["questions"] * (1500 * 3 + 5) / 1e6)
    assert f"the questions of safety were not read: {OF['questions']} assumed" in load.assumed
    monkeypatch.setitem(BENCHMARKS, "safety", replace(BENCHMARKS["safety"], turns=3))
    assert buy("safety", "guard")[1].amount == 3 * answers.amount


def test_the_analyses_take_every_model_of_the_main_table():
    """100 pairs, 40 prompts; 5 methods of 3 seeds answer, 4 of them are trained, and the start."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["methods"]["aside"] = {
        "objective": "dpo",
        "truncation": {"strategy": "own", "keep": 0.5},
    }
    config["tables"] = {"main": config["grid"]["world"]}
    config["grid"] = {"world": [*config["grid"]["world"], "aside"]}
    load = Workload(validated(config), OF)
    names = {"setting": "world"}
    found = load.work(Job("measure_prefixes", names))
    pairs, own = 100 * 2 * (6 * 1 + 4), 5 * 3 * 40 * 5 * 1
    assert (found.kind, found.amount) == ("generation", (pairs + own) * 128)
    passes = load.work(Job("measure_reward_gap", names))
    reference = load.work(Job("reference", names))  # one pass, over 1600 + 200 pairs
    assert passes.amount == pytest.approx((1 + 4 * 3) * reference.amount * 100 / 1800, rel=1e-3)


def test_done_jobs_leave_the_plan_and_give_their_rate(load, tmp_path):
    """Two of three trainings are left; one took 100 s on 4 devices: the rest go at its rate."""
    finished, *left = (train(method=method) for method in ("dpo", "dpo-poet", "simpo"))
    finished.benchmark, finished.resources = str(tmp_path / "b.tsv"), {"gpu": "4"}
    Path(finished.benchmark).write_text("s\th:m:s\n100.0\t0:01:40\n")
    found = plan.make_plan([finished, *left], left, load, CARDS, load.config)
    row = found["rows"][0]
    assert (row["jobs"], row["done"]) == (3, 1)
    rate = load.work(finished).amount / 400
    assert found["rates"]["train"] == {
        "per_second": pytest.approx(rate), "unit": "FLOP", "source": "achieved"
    }  # fmt: skip
    hours = sum(load.work(job).amount for job in left) / rate / 3600
    assert row["hours"]["80 GB card"] == pytest.approx(hours)
    assert row["hours"]["24 GB card"] == pytest.approx(
        sum(load.work(job).amount for job in left) / 6.6e13 / 3600 + 2 * 20 / 3600
    )


def test_sizes_of_the_lock_are_used(config, tmp_path):
    lock = tmp_path / "lock.yaml"
    files = {"a.parquet": {"size": 700, "sha256": "0" * 64}}
    lock.write_text(yaml.safe_dump({"datasets/cais/mmlu": {"revision": "a" * 40, "files": files}}))
    load = Workload({**config, "lock": str(lock)}, OF)
    found = load.work(Job("download", {"repository": "datasets/cais/mmlu"}))
    assert (found.download, load.assumed) == (700, {})


def test_an_unknown_model_is_said_to_be_assumed(load):
    shape = load.shape("org/unheard-of")
    assert shape.parameters == 8_030_261_248
    (said,) = load.assumed
    assert said.startswith("the shape of org/unheard-of is unknown; that of meta-llama/")


@pytest.mark.parametrize("max_pairs", [2000, 20])
def test_pairs_and_prompts_of_a_local_file_are_counted(tmp_path, monkeypatch, max_pairs):
    """120 pairs on 60 prompts, as the loader splits them; tokens by their characters."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": f"p {i % 60:2}", "chosen": f"{i:044}", "rejected": f"{i:022}"}
        for i in range(120)
    ]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = read(ROOT / "config/own-data.yaml", pairs="p.jsonl")
    config["settings"]["own"]["data"]["max_pairs"] = max_pairs
    load = Workload(config, OF)
    load.work(train("own"))
    pairs, _ = preferences.load(config["settings"]["own"]["data"])
    splits = Counter(pair["split"] for pair in subsample(pairs, max_pairs))
    assert (
        f"the tokens of p.jsonl were not seen: {splits['train']} + {splits['test']} pairs of "
        "26 prompt, 10 chosen and 5 rejected tokens assumed"
    ) in load.assumed
    answers = load.work(Job("generate", {"setting": "own", "method": "dpo"}))
    prompts = {pair["prompt_id"] for pair in pairs if pair["split"] == "test"}
    assert answers.amount == 3 * len(prompts) * min(OF["answer_tokens"], 256)


def test_a_model_of_another_shape_than_llamas_is_assumed_to_be_one(load, tmp_path):
    from transformers import MambaConfig

    MambaConfig(hidden_size=32).save_pretrained(tmp_path)
    assert load.shape(str(tmp_path)).parameters == 8_030_261_248
    assert f"the shape of {tmp_path} is unknown" in next(iter(load.assumed))


def test_no_dry_run_no_plan(tmp_path):
    path = tmp_path / "empty"
    path.write_text("Nothing to be done.")
    with pytest.raises(UserError, match="lists no jobs"):
        plan.main(["--configfile", "x", "--jobs", str(path), "--pending", str(path)])


def test_make_plan(tmp_path):
    """The command itself, for one target; `-o`: the environment that runs the tests is set up."""
    result = subprocess.run(
        ["make", "-s", "-o", ".venv/.installed", "plan", "CONFIG=config/paper.yaml"]
        + ["TARGETS=baselines", f"BIN={Path(sys.executable).parent}"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    jobs = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines() if line.strip()}
    assert jobs["train"] == "4" and "total" in jobs


def test_a_machine_without_gpus_is_measured(monkeypatch):
    """Its rates are shares of one rate, and what is sampled counts in operations."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    here, *cards = machine.known(OF, {"bfloat16"})
    assert [card.name for card in cards] == ["24 GB card", "80 GB card"]
    rate = here.rates["training"] / OF["cpu"]["shares"]["training"]
    assert rate > 1e8 and "measured" in here.said
    assert here.rates == pytest.approx({k: s * rate for k, s in OF["cpu"]["shares"].items()})
    work = Work("generation", 10, 1e9)
    assert [device.amount(work) for device in (here, *cards)] == [1e9, 10, 10]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine.known(OF, set()) == cards
