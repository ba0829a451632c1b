"""The files of settings, methods and seeds, as names of results; and flags made of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from poet.config import resolve
from poet.evaluate.benchmarks import BENCHMARKS
from poet.grid import members
from poet.methods.truncation import NONE, name_of

Named = Mapping[str | tuple[str, ...], Sequence[str]]  # name, or names, -> its files


def flags(flag: str, named: Named) -> list[str]:
    """`FLAG NAME FILE ...` for every name and its files; see :func:`poet.files.named_files`."""
    return [
        " ".join([flag, *([name] if isinstance(name, str) else name), *files])
        for name, files in named.items()
    ]


def words(named: Named) -> list[str]:
    """`WORD ... FILE ...` for all words that name files, and those that stand alone."""
    return [" ".join([*words, *files]) for words, files in named.items()]


def gain_flags(config: dict, methods: Iterable[str], under: Mapping | None = None) -> list[str]:
    """`--gain METHOD BASELINE` for every pair of the configuration among these methods.

    ``under``: method -> the name that it stands under, where that is another (a sweep's cell).
    """
    named = {method: under[method] if under else method for method in methods}
    pairs = [pair for pair in config["gains"].items() if set(pair) <= set(named)]
    return [f"--gain {named[method]} {named[baseline]}" for method, baseline in pairs]


def given(flag: str, value: str | Sequence[str] | None) -> str:
    """`FLAG VALUE`, or nothing where there is no value."""
    return f"{flag} {value}" if value else ""


def files_of(named: Named) -> list[str]:
    """All files, whatever they are named by."""
    return [file for files in named.values() for file in files]


def folders_of(files: Iterable[str]) -> list[str]:
    """The folders that files lie in: what the rules know as their outputs."""
    return [os.path.dirname(path) for path in files]


def seeds(config: dict, folder: str) -> list[str]:
    """What a folder holds of every seed."""
    return [f"{folder}/seed-{seed}.json" for seed in config["seeds"]]


def per_method(config: dict, folder: str, methods: Iterable[str]) -> dict[str, list[str]]:
    """Method -> what a folder holds of each of its seeds."""
    return {method: seeds(config, f"{folder}/{method}") for method in methods}


def models(config: dict, setting: str, method: str) -> list[str]:
    """The model of every seed; the start model, of which there is one, stands for each."""
    folder = f"results/models/{setting}/{method}"
    if method == "sft":
        return [folder] * len(config["seeds"])
    return [f"{folder}/seed-{seed}" for seed in config["seeds"]]


def trained_models(config: dict, setting: str, table: str = "all") -> dict[str, list[str]]:
    """Trained method of a table -> its models."""
    methods = members.methods_of(config, table, setting)
    return {method: models(config, setting, method) for method in methods if method != "sft"}


def cell_models(config: dict, setting: str, arm: str) -> list[str]:
    """The first seed's model of every cell of an arm of the sweep."""
    return [models(config, setting, cell)[0] for cell in members.cells(config, arm)]


def tokens(config: dict, setting: str, method: str) -> str:
    """The token table that a method trains on."""
    choice = resolve(config, setting, method)["truncation"]
    return f"results/data/{setting}/{'tokens' if choice == NONE else name_of(choice)}.parquet"


def tokens_info(setting: str, method: str) -> list[str]:
    """What is said of the tokens that a method was trained on; none for the start model."""
    return [] if method == "sft" else [f"results/data/{setting}/tokens.json"]


def corpus(config: dict, setting: str) -> str:
    """What the start model is trained on: chats of its own, or what comes with the pairs."""
    name = "chats" if "dataset" in config["settings"][setting]["sft"] else "corpus"
    return f"results/data/{setting}/{name}.parquet"


def gamed(config: dict, setting: str) -> list[str]:
    """The verbose and concise reference rows that length control is regularised with, if any."""
    has = setting in members.worlds(config) + members.benchmarked(config)
    return [f"results/data/{setting}/gamed.csv"] if has else []


def tasks(config: dict, setting: str) -> list[str]:
    """The world's own lm-eval tasks; none elsewhere, where lm-eval's built-in ones are meant."""
    return [f"results/data/{setting}/tasks"] if setting in members.worlds(config) else []


def chat_model(config: dict, setting: str) -> list[str]:
    """The start model, where lm-eval asks in its chat template."""
    asked = config["settings"][setting]["downstream"].get("apply_chat_template")
    return [f"results/models/{setting}/sft"] if asked else []


def tasks_check(config: dict, setting: str) -> list[str]:
    """What is said of lm-eval's tasks beforehand; the schema knows the world's."""
    return [] if tasks(config, setting) else [f"results/checks/{setting}/tasks.json"]


def generations(config: dict, setting: str, methods: Iterable[str]) -> dict[str, list[str]]:
    """Method -> the answers of each of its seeds."""
    return per_method(config, f"results/generations/{setting}", methods)


def analysed_answers(config: dict, setting: str) -> dict[str, list[str]]:
    """The answers that the analysis compares: those of the main table's methods."""
    return generations(config, setting, members.methods_of(config, "main", setting))


def annotations(
    config: dict, setting: str, annotator: str, methods: Iterable[str]
) -> dict[str, list[str]]:
    """Method -> what an annotator said of the answers of each of its seeds."""
    return per_method(config, f"results/annotations/{setting}/{annotator}", methods)


def verdicts(config: dict, benchmark: str, setting: str) -> dict[str, list[str]]:
    """Method -> the verdicts of a further benchmark on each of its seeds."""
    folder = f"results/{benchmark}/{setting}/{members.judge(config, benchmark, setting)}"
    return per_method(config, folder, config["grid"][setting])


def scores(config: dict, table: str, settings: Iterable[str] | None = None) -> list[str]:
    """alpaca-eval's own scores of every seed of a table's methods, beside the comparison."""
    return [
        path
        for setting in (config["grid"] if settings is None else settings)
        for annotator in config["settings"][setting]["annotators"]
        for method in members.methods_of(config, table, setting)
        for path in seeds(config, f"results/scores/{setting}/{annotator}/{method}")
    ]


def comparisons(config: dict, name: str, settings: Iterable[str]) -> list[str]:
    """A file of scores of this name per setting and annotator."""
    return [
        f"results/scores/{setting}/{annotator}/{name}.json"
        for setting in settings
        for annotator in config["settings"][setting]["annotators"]
    ]


def downstream(config: dict, setting: str) -> dict[tuple[str, str], list[str]]:
    """(setting, method) -> lm-eval results of each seed, where the setting asks for them."""
    if not config["settings"][setting].get("downstream"):
        return {}
    methods = members.methods_of(config, "downstream", setting)
    found = per_method(config, f"results/downstream/{setting}", methods)
    return {(setting, method): files for method, files in found.items()}


def results_of(config: dict, setting: str) -> list[str]:
    """Scores, comparisons and downstream results of one setting."""
    return [
        *scores(config, "all", [setting]),
        *comparisons(config, "comparison", [setting]),
        *files_of(downstream(config, setting)),
    ]


def summaries(config: dict, benchmark: str) -> list[str]:
    """A summary of a further benchmark per setting that asks for it."""
    return [
        f"results/{benchmark}/{setting}/{members.judge(config, benchmark, setting)}/summary.json"
        for setting in members.asking(config, benchmark)
    ]


def answer_summaries(config: dict) -> list[str]:
    """What says how the answers to the prompts of further benchmarks were made."""
    return [
        f"results/{benchmark}/{setting}/answers/{method}/summary.json"
        for benchmark in BENCHMARKS
        for setting in members.asking(config, benchmark)
        for method in config["grid"][setting]
    ]


def language(config: dict, setting: str) -> list[str]:
    """Corpus, evaluation prompts, and the start model's answers of every seed."""
    data = f"results/data/{setting}"
    answers = seeds(config, f"results/generations/{setting}/sft")
    return [f"{data}/corpus.parquet", f"{data}/prompts.jsonl", *answers]


def analysis(config: dict) -> list[str]:
    """What the analysis finds, of every setting that asks for it."""
    analysed, trained = members.asking(config, "analysis"), members.trained(config)
    return [
        *(f"results/analysis/{name}/prefix_quality.json" for name in analysed),
        *(f"results/analysis/{name}/reward_gap.json" for name in analysed if name in trained),
    ]
