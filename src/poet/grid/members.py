"""Which settings, methods, annotators and truncations take part in what.

``config`` is validated (see :func:`poet.config.load`) everywhere.
"""

from __future__ import annotations

from pathlib import Path

from poet.config import sweep_cells
from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks import BENCHMARKS
from poet.methods.truncation import NONE, name_of
from poet.report.scores import belongs


def _sections(config: dict) -> dict[str, dict]:
    """Setting of the grid -> its section."""
    return {name: config["settings"][name] for name in config["grid"]}


def worlds(config: dict) -> list[str]:
    """The settings whose data are simulated."""
    return [name for name, of in _sections(config).items() if of["data"]["kind"] == "world"]


def benchmarked(config: dict) -> list[str]:
    """The settings that are evaluated on AlpacaEval's prompts."""
    return [name for name, of in _sections(config).items() if "evaluation" in of["data"]]


def asking(config: dict, section: str) -> list[str]:
    """The settings with a section: `sft` (the start model is trained here), `analysis` (prefix
    quality and, where they train, the reward gap), or that of a further benchmark.
    """
    return [name for name, of in _sections(config).items() if section in of]


def trained(config: dict) -> list[str]:
    """The settings in which any method is trained."""
    return [name for name, methods in config["grid"].items() if set(methods) - {"sft"}]


def sweep(config: dict) -> dict:
    """The section on beta and learning rate; without settings and methods where there is none."""
    return config.get("sweep", {"settings": [], "methods": []})


def bought(config: dict) -> set[str]:
    """The annotators behind a network."""
    annotators = config["annotators"].items()
    return {name for name, section in annotators if KINDS[section["kind"]].bought}


def judge(config: dict, benchmark: str, setting: str) -> str:
    """Who judges a further benchmark, an annotator or its own program, as it stands in paths."""
    return BENCHMARKS[benchmark].annotator(config["settings"][setting][benchmark])


def judges(config: dict) -> set[str]:
    """All who judge further benchmarks."""
    return {judge(config, name, setting) for name in BENCHMARKS for setting in asking(config, name)}


def methods_of(config: dict, table: str, setting: str) -> list[str]:
    """The methods of a setting that a table shows."""
    methods = config["grid"][setting]
    return [method for method in methods if method in config["tables"].get(table, methods)]


def settings_of(config: dict, table: str) -> list[str]:
    """The settings whose grid holds every method of a table that the configuration lists."""
    listed = config["tables"].get(table)
    return [n for n, methods in config["grid"].items() if listed and set(listed) <= set(methods)]


def compared(config: dict, comparison: str, setting: str) -> list[str]:
    """The methods of a comparison: of the main table, of the table that it is named by, or the arms
    of the sweep."""
    if comparison == "comparison":
        return methods_of(config, "main", setting)
    if comparison == "sweep":
        return sweep(config)["methods"]
    methods = methods_of(config, comparison, setting)
    chosen = belongs(comparison, config["methods"], methods)
    return [method for method in methods if method in chosen]


def cells(config: dict, arm: str) -> list[str]:
    """The methods that a sweep makes of one of its arms."""
    return list(sweep_cells(sweep(config), arm))


def truncations(config: dict) -> dict[str, dict]:
    """Name in a path -> choice, of all methods that cut responses."""
    choices = [of.get("truncation", NONE) for of in config["methods"].values()]
    return {name_of(choice): choice for choice in choices if choice != NONE}


def papers_annotators(config: dict, judge: str) -> list[str]:
    """The annotators that are the paper's judge; what is replayed says so by its name."""
    said = {
        name: Path(section["judge"]).stem if section["kind"] == "api" else name
        for name, section in config["annotators"].items()
        if section["kind"] in ("api", "replay")
    }
    return [name for name, of in said.items() if of == judge]


def papers_scorers(config: dict) -> list[str]:
    """The annotators that are the paper's reward model for prefixes."""
    return [
        name
        for name, section in config["annotators"].items()
        if KINDS[section["kind"]].scalar and "ArmoRM" in section.get("name", "")
    ]
