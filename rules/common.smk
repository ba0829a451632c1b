# Validation, wildcards and path helpers: all that the other rule files share.
import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from poet import config as poet_config
from poet.data import preferences
from poet.files import UserError

FIGURE = ["svg", "png", "csv"]
TABLE = ["csv", "md", "tex"]

# The jobs' `python` is the one that runs Snakemake; only rules that fetch may ask the hub.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", PYTHONHASHSEED="0")

try:
    CONFIG = poet_config.load(config, " + ".join(map(str, workflow.configfiles)) or "config")
    for name in CONFIG["grid"]:
        source = CONFIG["settings"][name]["data"]
        if source["kind"] == "file":
            preferences.check(source["path"], source["bad_rows"], ".snakemake/poet-checked.json")
except UserError as error:
    raise WorkflowError(str(error)) from None

GRID = CONFIG["grid"]
SEEDS = CONFIG["seeds"]
WORLDS = [name for name in GRID if CONFIG["settings"][name]["data"]["kind"] == "world"]
TRAINED = [name for name, methods in GRID.items() if set(methods) - {"sft"}]


def alternatives(names):
    """A regular expression that matches these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    setting=alternatives(GRID),
    method=alternatives(["sft", *CONFIG["methods"]]),
    annotator=alternatives(CONFIG["annotators"]),
    truncation=r"none|(poet|own)-\d+",
    seed=r"\d+",


def resolved(wildcards):
    """The flat record of a rule's setting, method and seed."""
    seed = wildcards.get("seed")
    return poet_config.resolve(
        CONFIG, wildcards.setting, wildcards.get("method", "sft"), None if seed is None else int(seed)
    )


def record(stage):
    """The part of the record that a rule's program reads, as JSON: its change re-runs the rule."""
    return lambda wildcards: json.dumps(poet_config.stage(resolved(wildcards), stage))


def setting_of(wildcards):
    """The validated section of the configuration for a rule's setting."""
    return CONFIG["settings"][wildcards.setting]


def hub_offline(needed_online):
    """Value of HF_HUB_OFFLINE for a rule: 0 only where the configuration names something remote."""
    return lambda wildcards: 0 if needed_online(setting_of(wildcards)) else 1


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
