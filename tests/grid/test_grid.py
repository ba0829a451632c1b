"""What a configuration asks for: names and files written out by hand for small grids."""

import copy
import json
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from poet.config import load, read
from poet.evaluate.annotators import KINDS
from poet.files import UserError, named_files
from poet.grid import judging, members, paths, sources
from poet.grid.shown import Shown

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def changed(**changes) -> dict:
    """The embedded default, validated, with two seeds and other top-level sections."""
    return load({**copy.deepcopy(DEFAULT), "seeds": [1, 2], **changes})


@pytest.fixture(scope="module")
def world():
    return changed()


@pytest.fixture(scope="module")
def variants():
    cut = {
        "half": {"objective": "dpo", "truncation": {"strategy": "poet", "keep": 0.5}},
        "own": {"objective": "dpo", "truncation": {"strategy": "own", "keep": 0.25}},
        "weighted": {"objective": "simpo", "weighting": "sampo"},
    }
    grid = {"world": [*DEFAULT["grid"]["world"], *cut]}
    return changed(methods={**DEFAULT["methods"], **cut}, grid=grid)


@pytest.fixture(scope="module")
def paper():
    return read(ROOT / "config" / "paper.yaml")


def test_who_takes_part(world, paper):
    assert members.worlds(world) == ["world"]
    assert members.asking(world, "sft") == members.asking(world, "analysis") == ["world"]
    assert members.benchmarked(world) == members.asking(world, "safety") == []
    assert members.worlds(paper) == [] and members.benchmarked(paper) == list(paper["grid"])
    assert members.trained(world) == ["world"]
    assert members.trained(changed(grid={"world": ["sft"]}, gains={})) == []


def test_a_table_shows_the_methods_that_it_lists(world):
    assert members.methods_of(world, "main", "world") == DEFAULT["grid"]["world"]
    listed = changed(tables={"main": ["dpo", "sft"], "ablation": ["dpo", "dpo-poet"]})
    assert members.methods_of(listed, "main", "world") == ["sft", "dpo"]  # in the grid's order
    assert members.settings_of(listed, "ablation") == ["world"]
    assert members.settings_of(listed, "baselines") == []
    one = changed(tables={"ablation": ["dpo", "dpo-poet"]}, grid={"world": ["dpo"]})
    assert members.settings_of(one, "ablation") == []


def test_a_comparison_holds_what_its_table_is_about(variants):
    assert members.compared(variants, "comparison", "world") == variants["grid"]["world"]
    assert members.compared(variants, "ablation", "world") == ["dpo", "dpo-poet", "half", "own"]
    assert members.compared(variants, "baselines", "world") == ["simpo", "simpo-poet", "weighted"]
    assert members.compared(variants, "sweep", "world") == []


def test_gains_are_between_methods_that_are_there(world):
    assert paths.gain_flags(world, ["dpo", "dpo-poet", "simpo"]) == ["--gain dpo-poet dpo"]
    cells = {"dpo": "dpo-beta-x3", "dpo-poet": "dpo-poet-beta-x1"}
    assert paths.gain_flags(world, cells, cells) == ["--gain dpo-poet-beta-x1 dpo-beta-x3"]


@given(st.integers(1, 100), st.integers(1, 100), st.sampled_from(["poet", "own"]))
def test_truncations_have_names_of_their_own(a, b, strategy):
    methods = {
        f"m{percent}": {
            "objective": "dpo",
            "truncation": {"strategy": strategy, "keep": percent / 100},
        }
        for percent in (a, b)
    }
    config = changed(methods=methods, grid={"world": list(methods)}, gains={})
    found = members.truncations(config)
    assert found == {
        f"{strategy}-{percent}": {"strategy": strategy, "keep": percent / 100} for percent in (a, b)
    }
    assert paths.tokens(config, "world", f"m{a}") == f"results/data/world/{strategy}-{a}.parquet"


def test_a_method_that_cuts_nothing_trains_on_the_tokens_themselves(world):
    assert set(members.truncations(world)) == {"poet-100"}
    for method in ("dpo", "simpo"):
        assert paths.tokens(world, "world", method) == "results/data/world/tokens.parquet"


def test_the_start_model_stands_for_every_seed(world):
    assert paths.models(world, "world", "sft") == ["results/models/world/sft"] * 2
    seeds = [f"results/models/world/dpo/seed-{seed}" for seed in (1, 2)]
    assert paths.models(world, "world", "dpo") == seeds
    assert list(paths.trained_models(world, "world")) == DEFAULT["grid"]["world"][1:]
    assert paths.trained_models(world, "world")["dpo"] == seeds


def test_the_files_of_a_setting(world, paper):
    folder = "results/annotations/world/oracle/dpo"
    files = {"dpo": [f"{folder}/seed-1.json", f"{folder}/seed-2.json"]}
    assert paths.annotations(world, "world", "oracle", ["dpo"]) == files
    assert paths.gamed(world, "world") == ["results/data/world/gamed.csv"]
    assert paths.tasks(world, "world") and not paths.tasks_check(world, "world")
    name = next(iter(paper["grid"]))
    assert not paths.tasks(paper, name) and paths.tasks_check(paper, name)
    results = paths.results_of(world, "world")
    assert len(results) == len(set(results)) == 5 * 2 + 1 + 5 * 2
    assert paths.corpus(world, "world") == "results/data/world/corpus.parquet"
    assert paths.analysis(world) == [
        "results/analysis/world/prefix_quality.json", "results/analysis/world/reward_gap.json"
    ]  # fmt: skip


def test_a_sweep_has_a_model_per_cell():
    config = read(ROOT / "config" / "sweep.yaml")
    sweep = config["sweep"]
    arm, (setting,) = sweep["methods"][0], sweep["settings"]
    models = paths.cell_models(config, setting, arm)
    assert len(set(models)) == len(sweep["beta"]) * len(sweep["learning_rate"])
    assert f"results/models/{setting}/{arm}/seed-{config['seeds'][0]}" in models
    assert members.compared(config, "sweep", setting) == sweep["methods"]


def test_of_the_hub_are_folders_and_of_this_machine_digests(world, paper):
    name = next(iter(paper["grid"]))
    section = paper["settings"][name]
    assert sources.base_model(paper, name) == [f"results/hub/{section['model']['name']}"]
    dataset = section["data"]["dataset"]
    assert sources.folder(paper, name, "data") == [f"results/hub/datasets/{dataset}"]
    assert not sources.content(paper, name, "data") and not sources.base_content(paper, name)
    assert sources.base_model(world, "world") == sources.folder(world, "world", "data") == []
    assert sources.diagnosis_flags(world, "world", "c.parquet") == "--corpus c.parquet"
    assert sources.pinned(paper, "nobody/nothing") == "null"


def test_further_benchmarks_name_their_files(tmp_path):
    (tmp_path / "mine.jsonl").write_text("{}\n")
    config = copy.deepcopy(DEFAULT)
    priced = {"kind": "api", "base_url": "http://x/v1", "price": {"prompt": 0, "completion": 0}}
    config["annotators"]["referee"] = {**priced, "judge": "arena_hard", "model": "m", "max_cost": 0}
    config["settings"]["world"]["arena"] = {
        "annotator": "referee",
        "prompts": {"path": f"{tmp_path}/mine.jsonl", "column": "q q", "id": "n"},
        "baseline": {
            "dataset": "own/arena", "revision": "unpinned", "file": "gpt.jsonl", "column": "a",
            "id": "n",
        },
    }  # fmt: skip
    config = load(config)
    assert members.asking(config, "arena") == ["world"] and members.asking(config, "safety") == []
    assert members.judges(config) == members.bought(config) == {"referee"}
    told = shlex.split(sources.question_flags(config, "arena", "world"))
    assert told[::2] == ["--prompts", "--baseline"]
    questions, answers = map(json.loads, told[1::2])
    assert questions == {"path": f"{tmp_path}/mine.jsonl", "column": "q q", "id": "n"}
    assert answers["path"] == "results/hub/datasets/own/arena/gpt.jsonl"
    assert (answers["column"], answers["id"]) == ("a", "n")
    assert sources.folder(config, "world", "arena", "baseline") == [
        "results/hub/datasets/own/arena"
    ]
    assert not sources.folder(config, "world", "arena", "prompts")
    assert len(sources.content(config, "world", "arena", "prompts")) == 1
    assert not sources.content(config, "world", "arena", "baseline")
    assert paths.summaries(config, "arena") == ["results/arena/world/referee/summary.json"]
    assert list(paths.verdicts(config, "arena", "world")) == config["grid"]["world"]
    assert len(paths.answer_summaries(config)) == 5
    assert [*Shown(config).tables()][-1] == "arena"


def test_annotators_have_models_of_the_hub_or_of_the_setting():
    config = copy.deepcopy(DEFAULT)
    config["annotators"] |= {
        "trained": {"kind": "reward_model"},
        "fetched": {"kind": "reward_model", "name": "own/judge"},
    }
    config["settings"]["world"] |= {
        "annotators": ["oracle", "trained", "fetched"],
        "reward_model": {
            "global_batch_size": 8,
            "per_device_batch_size": 8,
            "learning_rate": 0.1,
            "max_length": 192,
        },
    }
    config = load(config)
    assert judging.model(config, "oracle", "world") == []
    assert judging.model(config, "trained", "world") == ["results/models/world/reward_model"]
    assert judging.model(config, "fetched", "world") == ["results/hub/own/judge"]
    checks = [
        judging.check(config, name, "world", "annotators")
        for name in ("oracle", "trained", "fetched")
    ]
    assert checks == [[], [], ["results/checks/world/annotators/fetched.json"]]
    assert Shown(config).judges() == ["results/models/world/reward_model/train.json"]
    # The rules know the folder as an output, and no file in it.
    prefix = paths.files_of(Shown(config).tables()["prefix"])
    assert [path for path in prefix if "models" in path] == ["results/models/world/reward_model"]
    assert list(judging.scorers_annotations(config, "world")) == config["grid"]["world"]


def test_what_decides_no_verdict_annotates_nothing_anew():
    """A raised ceiling, say: verdicts that are there stay. Another price is in what is written."""
    bought = {
        "kind": "api", "judge": "weighted_alpaca_eval_gpt4_turbo", "base_url": "http://x/v1",
        "price": {"prompt": 1, "completion": 2}, "max_cost": 0,
    }  # fmt: skip
    others = {
        "max_cost": 9, "concurrency": 2, "timeout": 7, "attempts": 3, "requests_per_minute": 5,
        "backoff": {"initial": 2, "longest": 3}, "store": "kept", "key_variable": "KEY",
    }  # fmt: skip

    def told(**changes) -> tuple[str, dict]:
        annotators = {**DEFAULT["annotators"], "bought": bought | changes}
        config = changed(annotators=annotators)
        compared, free = judging.settings(config, "bought"), judging.limits(config, "bought")
        assert json.loads(compared) | free == config["annotators"]["bought"]
        assert not set(json.loads(compared)) & set(free)
        return compared, free

    first = told()
    for key, value in others.items():
        compared, free = told(**{key: value})
        assert compared == first[0] and free[key] == value
    for key, value in {"price": {"prompt": 3, "completion": 2}, "model": "m"}.items():
        assert told(**{key: value})[0] != first[0]
    for kind in KINDS.values():
        assert set(kind.limits) <= set(kind.schema.get("properties", {}))
    assert judging.limits(changed(), "oracle") == {}


def test_the_papers_judge_is_known_by_its_prompt_or_by_its_name(paper):
    judge = yaml.safe_load((ROOT / "paper/settings.yaml").read_text())["alpacaeval2"]
    judge = judge["paper_annotator"]
    assert members.papers_annotators(paper, judge) != []
    assert members.papers_annotators(changed(), judge) == []
    config = {"annotators": {judge: {"kind": "replay"}, "other": {"kind": "replay"}}}
    assert members.papers_annotators(config, judge) == [judge]


def test_without_an_archive_everything_is_shown(variants):
    shown = Shown(variants)
    assert [*shown.tables()] == [
        "main",
        "ablation",
        "baselines",
        "downstream",
        "prefix",
        "language",
    ]
    assert [*shown.figures()] == [
        "win-rates", "lc-length", "ablation-curves", "lengths", "training-world",
        "pair-lengths-world", "prefix-quality-world", "margins-world", "entropy-world",
    ]  # fmt: skip
    assert shown.comparisons == ["results/scores/world/oracle/comparison.json"]
    assert len(shown.answers) == len(shown.downstream) == 8
    assert shown.scores()[0] == "results/annotations/world/oracle/sft/usage.json"


def test_no_curve_is_drawn_where_no_method_lies_on_one():
    drawn = {"objective": "dpo", "truncation": {"strategy": "random"}}
    methods = {**DEFAULT["methods"], "drawn": drawn}
    for beside, figures in (([], set()), (["dpo"], {"ablation-curves"})):
        shown = Shown(changed(methods=methods, grid={"world": ["sft", "drawn", *beside]}))
        assert "ablation" in shown.tables()
        assert set(shown.figures()) & {"ablation-curves"} == figures


def test_an_archive_of_annotations_lacks_the_rest(world):
    shown = Shown(world, lambda path: path.startswith("results/annotations/") and "seed" in path)
    assert shown.comparisons == ["results/scores/world/oracle/comparison.json"]
    assert [*shown.tables()] == ["main"]
    assert [*shown.figures()] == ["win-rates", "lc-length", "lengths"]
    assert shown.trainings() == shown.judges() == shown.summaries() == []
    assert shown.scores()[0] == "results/annotations/world/oracle/sft/seed-1.json"


def test_an_archive_of_scores_has_no_answers(world):
    shown = Shown(world, "results/scores/world/oracle/comparison.json".__eq__)
    assert (
        shown.comparisons and not shown.answers and [*shown.figures()] == ["win-rates", "lc-length"]
    )
    assert not Shown(world, lambda path: False).comparisons


def test_a_method_that_an_archive_has_in_part_is_left_out(world):
    missing = "results/annotations/world/oracle/dpo/seed-2.json"
    shown = Shown(world, lambda path: path != missing)
    assert [method for _, _, method in shown.answers] == ["sft", "dpo-poet", "simpo", "simpo-poet"]
    assert shown.comparisons  # it is there itself


words = st.text("abc-9", min_size=1).filter(lambda word: not word.startswith("-"))
files = st.lists(words, min_size=1)


@given(st.dictionaries(words, files), st.dictionaries(st.tuples(words, words), files))
def test_what_is_written_as_flags_is_read_again(one, two):
    for names, named in ((1, one), (2, two)):
        entries = [line.split()[1:] for line in paths.flags("--method", named)]
        assert named_files(entries, "--method", names) == named


@pytest.mark.parametrize("entries", [[["dpo"]], [["dpo", "a"], ["dpo", "b"]]])
def test_a_name_without_files_or_twice_is_refused(entries):
    with pytest.raises(UserError, match="--method dpo: expected each once, with a file per seed"):
        named_files(entries, "--method")
