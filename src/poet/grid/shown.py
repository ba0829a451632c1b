"""What the report shows: all that the configuration asks for, or what an archive has of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from shlex import quote

import yaml

from poet.evaluate.benchmarks import BENCHMARKS
from poet.grid import judging, members, paths
from poet.report.scores import variant

VARIANTS = ("ablation", "baselines")
# Figure of scores -> the table that has its numbers.
TABLE_OF = {"win-rates": "main", "lc-length": "main", "ablation-curves": "ablation"}
# Figure of an analysis -> the file that has its numbers.
ANALYSES = {
    "pair-lengths": "diagnosis",
    "prefix-quality": "prefix_quality",
    "margins": "reward_gap",
    "entropy": "token_positions",
}


class Shown:
    """Files that tables, figures, page and manifest are made of, and the names of these.

    Args:
        config: validated.
        has: whether a file is there or can be made; only an archive may lack some.
        paper: the folder with the paper's numbers.
    """

    def __init__(
        self, config: dict, has: Callable[[str], bool] = lambda path: True, paper: str = "paper"
    ):
        self.config, self.has, self.paper = config, has, paper
        grid, settings = config["grid"], config["settings"]
        self.comparisons = self._comparisons("comparison")
        found = {table: self._comparisons(table) for table in VARIANTS}
        self.variants = {table: files for table, files in found.items() if files}
        self.answers = self.complete(
            {
                (setting, annotator, method): files
                for setting in grid
                for annotator in settings[setting]["annotators"]
                for method, files in paths.annotations(
                    config, setting, annotator, members.methods_of(config, "main", setting)
                ).items()
            }
        )
        self.downstream = self.complete(
            {row: files for name in grid for row, files in paths.downstream(config, name).items()}
        )
        # The corpus and the prompts can be simulated again, the answers cannot.
        self.language = {
            name: files
            for name in members.worlds(config)
            if "sft" in grid[name] and all(map(has, (files := paths.language(config, name))[2:]))
        }

    def complete(self, named: paths.Named) -> paths.Named:
        """Of names and their files, those of which every file is at hand."""
        return {name: files for name, files in named.items() if all(map(self.has, files))}

    def _comparisons(self, name: str) -> list[str]:
        """A comparison per setting and annotator, where it or what it is made of is at hand."""
        found = []
        for setting in self.config["grid"]:
            methods = members.compared(self.config, name, setting)
            for annotator in self.config["settings"][setting]["annotators"] if methods else ():
                path = f"results/scores/{setting}/{annotator}/{name}.json"
                made_of = paths.annotations(self.config, setting, annotator, methods)
                if self.has(path) or all(map(self.has, paths.files_of(made_of))):
                    found.append(path)
        return found

    def analysis(self, name: str, settings: Iterable[str] | None = None) -> list[str]:
        """A file of the analysis of every setting that has it."""
        settings = self.config["grid"] if settings is None else settings
        return [*filter(self.has, (f"results/analysis/{setting}/{name}" for setting in settings))]

    def judged_by(self) -> dict:
        """What of the configuration says whether annotators are weak or judge their own model."""
        settings = self.config["settings"]
        return {
            "annotators": self.config["annotators"],
            "settings": {name: {"model": settings[name]["model"]} for name in self.config["grid"]},
        }

    def trainings(self) -> list[str]:
        """What the trainings of start models and policies wrote of themselves."""
        folders = []
        for setting in self.config["grid"]:
            trained = paths.files_of(paths.trained_models(self.config, setting))
            folders += [f"results/models/{setting}/sft", *trained]
        return [*filter(self.has, (f"{folder}/train.json" for folder in folders))]

    def judges(self, settings: Iterable[str] | None = None) -> list[str]:
        """The same of reward models that are trained on a setting's own pairs."""
        folders = [
            folder
            for setting in (self.config["grid"] if settings is None else settings)
            for annotator in self.config["settings"][setting]["annotators"]
            if judging.trained_here(self.config["annotators"][annotator])
            for folder in judging.model(self.config, annotator, setting)
        ]
        return [*filter(self.has, (f"{folder}/train.json" for folder in folders))]

    def _judged(self, settings: Iterable[str] | None = None) -> paths.Named:
        """What the tables other than the main one, which has all cautions, are told of judges."""
        said = quote(json.dumps(self.judged_by()))
        return {("--judged-by", said, "--judges"): paths.folders_of(self.judges(settings))}

    def summaries(self) -> list[str]:
        """How the answers of the main table's methods were made."""
        return [
            path
            for setting in self.config["grid"]
            for method in members.methods_of(self.config, "main", setting)
            if self.has(path := f"results/generations/{setting}/{method}/summary.json")
        ]

    def scores(self) -> list[str]:
        """What says who made annotations and scores: annotations themselves, where nothing else."""
        found = []
        for names, files in self.answers.items():
            usage = f"results/annotations/{'/'.join(names)}/usage.json"
            found += [usage] if self.has(usage) else files
        return [
            *found,
            *filter(self.has, paths.answer_summaries(self.config)),
            *filter(self.has, paths.scores(self.config, "main")),
            *self.comparisons,
            *paths.files_of(self.downstream),
        ]

    def parts(self) -> list[str]:
        """What an archive holds: what tables, figures and page are made of, and the manifest."""
        shown = [*self.tables().values(), *self.figures().values()]
        read = [path for named in shown for path in paths.files_of(named)]
        made = (f"results/{name}/" for name in ("tables", "figures", "report", "models"))
        elsewhere = (*made, f"{self.paper}/")
        found = [path for path in read if not path.startswith(elsewhere)]
        found += [*self.trainings(), *self.judges(), *self.summaries(), *self.comparisons]
        found += [*paths.files_of(self.answers), *self.analysis("diagnosis.json")]
        return [*dict.fromkeys(found), "results/manifest.json"]

    def tables(self) -> dict[str, paths.Named]:
        """Table -> the words that poet.report.tables is told -> the files that follow them."""
        config = self.config
        settings = yaml.safe_load(Path(self.paper, "settings.yaml").read_text())
        judges = members.papers_annotators(config, settings["alpacaeval2"]["paper_annotator"])
        reported = {("--reported",): [f"{self.paper}/reported.csv"]}
        scores = reported | {("--paper-annotators", *judges): []}
        methods = {("--methods", quote(json.dumps(config["methods"]))): []}
        found: dict[str, paths.Named] = {
            "main": {
                ("--comparison",): self.comparisons,
                ("--cautions",): ["results/report/cautions.json"],
                **scores,
            }
        }
        for name, files in self.variants.items():
            found[name] = {("--comparison",): files, **self._judged(), **scores, **methods}
        if self.downstream:
            results = {("--results", *row): files for row, files in self.downstream.items()}
            found["downstream"] = results | _gains(config)
        if measured := self.analysis("prefix_quality.json", members.asking(config, "analysis")):
            scorers = {("--paper-annotators", *members.papers_scorers(config)): []}
            found["prefix"] = {("--measured",): measured, **self._judged(), **reported, **scorers}
        if self.language:
            found["language"] = {("--world", name): of for name, of in self.language.items()}
        for name in BENCHMARKS:
            files = paths.summaries(config, name)
            if files and all(map(self.has, files)):
                found[name] = {("--summaries",): files, **reported}
        return found

    def sweep(self) -> paths.Named:
        """The same of the sweep's table, which is for no page."""
        of = members.sweep(self.config)
        return {
            ("--validations",): [
                f"results/sweep/{name}/{arm}.json"
                for name in of["settings"]
                for arm in of["methods"]
            ],
            ("--comparison",): paths.comparisons(self.config, "sweep", of["settings"]),
            **self._judged(of["settings"]),
        }

    def figures(self) -> dict[str, paths.Named]:
        """Figure -> the words that poet.report.figures is told -> the files that follow them."""
        config, analysed = self.config, members.asking(self.config, "analysis")
        trained = members.trained(config)
        found: dict[str, paths.Named] = {}
        on_curves = any(
            variant(config["methods"][method])["keep"]
            for setting in config["grid"]
            for method in members.compared(config, "ablation", setting)
        )
        for figure, table in TABLE_OF.items():
            if table == "main" or (table in self.variants and on_curves):
                gains = _gains(config) if figure == "lc-length" else {}
                found[figure] = {(figure, "--table"): [f"results/tables/{table}.csv"], **gains}
        if self.answers:
            first = {}  # annotator of each setting: all judge the same answers
            for (setting, _, method), files in self.answers.items():
                first.setdefault(("--of", setting, method), files)
            found["lengths"] = {("lengths",): [], **first}
        for setting in trained:
            models = paths.trained_models(config, setting)
            if all(self.has(f"{folder}/train.json") for folder in paths.files_of(models)):
                runs = {("--of", setting, method): of for method, of in models.items()}
                found[f"training-{setting}"] = {("training",): [], **runs}
        settings = {"diagnosis": config["grid"], "prefix_quality": analysed}
        for figure, source in ANALYSES.items():
            for setting in settings.get(source, [name for name in analysed if name in trained]):
                for file in self.analysis(f"{source}.csv", [setting]):
                    found[f"{figure}-{setting}"] = {(figure, "--table"): [file]}
        return found


def _gains(config: dict) -> paths.Named:
    return {("--gain", *pair): [] for pair in config["gains"].items()}
