# Validation, wildcards and path helpers: all that the other rule files share.
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.jobs import Job

from poet import config as poet_config
from poet import config_extends, digests, local_inputs, provenance
from poet.hub import lock as locks
from poet.hub import wanted
from poet.methods import truncation
from poet.data import model_limits, preferences
from poet.files import UserError
from poet.train.leftovers import leftovers

FIGURE = ["svg", "png", "csv"]
TABLE = ["csv", "md", "tex"]

# The jobs' `python` is the one that runs Snakemake; only rules that fetch may ask the hub.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=str(Path(workflow.basedir) / "src"),
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    PYTHONHASHSEED="0",
)

# A signal to all processes of a job: the shell waits for the program, which may write a checkpoint
# and says why it ends, and `tee` ends after it. The first words are Snakemake's own prefix.
shell.prefix(
    "set -euo pipefail; trap : HUP TERM; "
    "tee() {{ trap '' HUP INT PIPE TERM; exec tee \"$@\"; }}; "
)

# From an archive of scores or annotations, what it lacks is left out; see poet.report.archive.
ARCHIVED = bool(config.pop("archived", False))

if os.path.lexists("results") and not os.path.isdir("results"):
    found = "a link to no folder" if os.path.islink("results") else "a file"
    raise WorkflowError(
        f"{os.path.abspath('results')} is {found}; expected a folder, or nothing. Move it away."
    )

try:
    source = " + ".join(map(str, workflow.configfiles)) or "config"
    CONFIG = poet_config.load(config, source)
    source = config_extends.source_of(config, source)
    wanted.check(CONFIG, source)
    if not ARCHIVED:
        local_inputs.check(CONFIG, source)
        model_limits.check_configuration(CONFIG, source)
    for name in CONFIG["grid"]:
        data = CONFIG["settings"][name]["data"]
        if data["kind"] == "file" and not ARCHIVED:
            preferences.check(data, preferences.CHECKED)
except UserError as error:
    raise WorkflowError(str(error)) from None

GRID = CONFIG["grid"]
SEEDS = CONFIG["seeds"]
# Of every training. Outside records: another interval or another log re-runs nothing.
RUN_FLAGS = f"--save-steps {CONFIG['save_steps']} --report-to {shlex.join(CONFIG['report_to'])}"
REPOSITORIES = wanted.repositories(CONFIG)
WORLDS = [name for name in GRID if CONFIG["settings"][name]["data"]["kind"] == "world"]
TUNED = [name for name in GRID if "sft" in CONFIG["settings"][name]]
BENCHMARKED = [name for name in GRID if "evaluation" in CONFIG["settings"][name]["data"]]
TRAINED = [name for name, methods in GRID.items() if set(methods) - {"sft"}]
PAPER = os.path.relpath(Path(workflow.basedir) / "paper")
BOUGHT = [name for name, section in CONFIG["annotators"].items() if section["kind"] == "api"]


def kept(path):
    """The folder of a trained model, write-protected where the configuration says so."""
    return protected(directory(path)) if CONFIG["protect"] else directory(path)


if "POET_PLAN" in os.environ:
    # `make plan` lists every job, also those that protected models would refuse.
    async def check_nothing(job): ...

    Job.check_protected_output = check_nothing


def at_hand(paths):
    """Whether files are there or can be made; only an archive may lack some."""
    return not ARCHIVED or all(map(os.path.exists, paths))


def methods_of(table, setting):
    """The methods of a setting that a table shows."""
    return [m for m in GRID[setting] if m in CONFIG["tables"].get(table, GRID[setting])]


def settings_of(table):
    """The settings whose grid holds every method of a table that the configuration lists."""
    listed = CONFIG["tables"].get(table)
    return [name for name, methods in GRID.items() if listed and set(listed) <= set(methods)]


def alternatives(names):
    """A regular expression that matches these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


# The truncations of the methods, by their names in paths.
TRUNCATED = {
    truncation.name_of(choice): choice
    for choice in [
        {"strategy": "none"},
        *(method["truncation"] for method in CONFIG["methods"].values() if "truncation" in method),
    ]
}


wildcard_constraints:
    setting=alternatives(GRID),
    method=alternatives(["sft", *CONFIG["methods"]]),
    annotator=alternatives(CONFIG["annotators"]),
    truncation=alternatives(TRUNCATED),
    comparison="comparison|ablation|baselines|sweep",
    rate="safety|arena",
    seed=r"\d+",
    repository=alternatives(REPOSITORIES),


def resolved(wildcards):
    """The flat record of a rule's setting, method and seed."""
    seed = wildcards.get("seed")
    return poet_config.resolve(
        CONFIG, wildcards.setting, wildcards.get("method", "sft"), None if seed is None else int(seed)
    )


def record(stage):
    """The part of the record that a rule's program reads, as JSON: its change re-runs the rule.

    Sorted, so that the order of keys in a configuration re-runs nothing.
    """
    return lambda wildcards: json.dumps(
        poet_config.stage(resolved(wildcards), stage), sort_keys=True
    )


def setting_of(wildcards):
    """The validated section of the configuration for a rule's setting."""
    return CONFIG["settings"][wildcards.setting]


def model_folders(wildcards):
    """The model of every seed; the start model, of which there is one, stands for each."""
    if wildcards.method == "sft":
        return [f"results/models/{wildcards.setting}/sft"] * len(SEEDS)
    return expand(
        "results/models/{setting}/{method}/seed-{seed}",
        setting=wildcards.setting,
        method=wildcards.method,
        seed=SEEDS,
    )


def per_seed(pattern):
    """A path pattern with {seed} filled in by every seed, the other wildcards left."""
    return expand(pattern, seed=SEEDS, allow_missing=True)


def truncated_tokens(wildcards):
    """The token table that a method trains on."""
    name = truncation.name_of(resolved(wildcards)["truncation"])
    return f"results/data/{wildcards.setting}/{name}.parquet"


def gamed_file(wildcards):
    """The verbose and concise reference rows that length control is regularised with, if any."""
    if wildcards.setting in WORLDS + BENCHMARKED:
        return f"results/data/{wildcards.setting}/gamed.csv"
    return []


def gamed_flag(wildcards, input):
    """--gamed FILE, or what says that own data has none."""
    return f"--gamed {input.gamed}" if input.gamed else "--without-gamed"


def compared(wildcards):
    """The methods of a comparison: of a setting's main table, or of the table that it is named by."""
    if wildcards.comparison == "comparison":
        return methods_of("main", wildcards.setting)
    if wildcards.comparison == "sweep":
        return list(chosen_cells(wildcards.setting).values())
    return variants_of(wildcards.comparison, wildcards.setting)


def compared_scores(wildcards):
    """The scores of every method of a comparison, seed by seed."""
    folder = f"results/scores/{wildcards.setting}/{wildcards.annotator}"
    return {m: per_seed(f"{folder}/{m}/seed-{{seed}}.json") for m in compared(wildcards)}


def generations_at_hand(wildcards):
    """Answers of a method, which say how many ended by themselves; an archive may lack them."""
    files = per_seed(
        f"results/generations/{wildcards.setting}/{wildcards.method}/seed-{{seed}}.json"
    )
    return files if at_hand(files) else []


def generations_flag(wildcards, input):
    """--generations FILE ..., where they are at hand."""
    return f"--generations {input.generations}" if input.generations else ""


def gains_of(wildcards):
    """Pairs (method, baseline) of the configuration that a comparison holds."""
    gains = CONFIG["gains"].items()
    if wildcards.comparison == "sweep":
        cells = chosen_cells(wildcards.setting)
        return [(cells[m], cells[b]) for m, b in gains if {m, b} <= set(cells)]
    return [(m, b) for m, b in gains if {m, b} <= set(compared(wildcards))]


def scores_of(table, settings=GRID):
    """alpaca-eval's own scores of every seed of a table's methods, beside the comparison."""
    return [
        f"results/scores/{setting}/{annotator}/{method}/seed-{seed}.json"
        for setting in settings
        for annotator in CONFIG["settings"][setting]["annotators"]
        for method in methods_of(table, setting)
        for seed in SEEDS
    ]


def results_of(setting):
    """Scores, comparisons and downstream results of one setting."""
    return [
        *scores_of("all", [setting]),
        *expand(
            "results/scores/{setting}/{annotator}/comparison.json",
            setting=setting,
            annotator=CONFIG["settings"][setting]["annotators"],
        ),
        *(path for name, method in DOWNSTREAM_ROWS if name == setting
          for path in downstream_results(setting, method)),
    ]


def tasks_folder(wildcards):
    """The world's own lm-eval tasks; none elsewhere, where lm-eval's built-in ones are meant."""
    return f"results/data/{wildcards.setting}/tasks" if wildcards.setting in WORLDS else []


def trained_models(setting):
    """The trained methods of a setting with the model folder of every seed."""
    return {
        method: expand(f"results/models/{setting}/{method}/seed-{{seed}}", seed=SEEDS)
        for method in GRID[setting]
        if method != "sft"
    }
