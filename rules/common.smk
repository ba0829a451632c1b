# Validation, wildcards and what the rule files share; who takes part, and the files of each, is in
# poet.grid.
import json
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.jobs import Job

from poet import config as poet_config
from poet import config_extends, devices, local_inputs, provenance
from poet.config_checks import scorer_of
from poet.data import model_limits, preferences
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import PROGRAM
from poet.files import UserError
from poet.grid import judging, members, paths, sources
from poet.grid.paths import files_of, flags, folders_of, gain_flags, given, words
from poet.grid.shown import VARIANTS, Shown
from poet.hub import wanted
from poet.plan import before, fits, needs
from poet.report import titles
from poet.train.leftovers import leftovers

FIGURE = ["svg", "png", "csv"]
TABLE = ["csv", "md", "tex"]
READING = {"mem_mb": 4000, "runtime": 60}  # of jobs that read whole data sets, or a tokenizer
LIGHT = {"mem_mb": 2000, "runtime": 60}

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

# From an archive of scores or annotations nothing is trained, sampled or judged, and what it lacks
# is left out; see poet.report.archive. `make tables` says so.
ARCHIVED = "POET_ARCHIVED" in os.environ

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
            if CONFIG["settings"][name]["data"]["kind"] == "file":
                preferences.check(CONFIG["settings"][name]["data"], preferences.CHECKED)
except UserError as error:
    raise WorkflowError(str(error)) from None

GRID = CONFIG["grid"]
SEEDS = CONFIG["seeds"]
WORLDS = members.worlds(CONFIG)
TUNED = members.asking(CONFIG, "sft")
BOUGHT = members.bought(CONFIG)
TRUNCATIONS = members.truncations(CONFIG)
SWEEP = members.sweep(CONFIG)
PAPER = os.path.relpath(Path(workflow.basedir) / "paper")

SHOWN = Shown(CONFIG, lambda path: not ARCHIVED or os.path.exists(path), PAPER)
if not SHOWN.comparisons:
    raise WorkflowError(
        "the archive has neither comparison.json nor annotations of the grid"
        if ARCHIVED
        else f"{source}: tables.main names no method of the grid; expected one"
    )
MADE_OF = {**SHOWN.tables(), **SHOWN.figures(), "sweep": SHOWN.sweep()}
TABLES = expand("results/tables/{name}.{ext}", name=SHOWN.tables(), ext=TABLE)
FIGURES = expand("results/figures/{name}.{ext}", name=SHOWN.figures(), ext=FIGURE)
SWEEP_TABLE = expand("results/tables/sweep.{ext}", ext=TABLE if SWEEP["settings"] else [])


def alternatives(names):
    """A regular expression that matches these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    setting=alternatives(GRID),
    method=alternatives(["sft", *CONFIG["methods"]]),
    annotator=alternatives([*CONFIG["annotators"], PROGRAM]),
    truncation=alternatives(TRUNCATIONS),
    comparison=alternatives(["comparison", *VARIANTS, "sweep"]),
    benchmark=alternatives(BENCHMARKS),
    table=alternatives([*SHOWN.tables(), "sweep"]),
    figure=alternatives(SHOWN.figures()),
    seed=r"\d+",
    repository=alternatives(wanted.repositories(CONFIG)),


def kept(path):
    """The folder of a trained model, write-protected where the configuration says so."""
    return protected(directory(path)) if CONFIG["protect"] else directory(path)


if "POET_PLAN" in os.environ:
    # `make plan` lists every job, also those that write-protected models would refuse: Snakemake
    # looks at the mode of what is there, whatever the rules say, and has no option to leave it.
    async def check_nothing(job): ...

    Job.check_protected_output = check_nothing


@cache
def local_gpus():
    """How many GPUs a run on this machine may use; a cluster's jobs have those of their profile."""
    if workflow.non_local_exec or "SLURM_JOB_ID" in os.environ:
        return 0
    return len(devices.devices())


def take_turns(asked):
    """Tell Snakemake what this machine has, unless the command line did: jobs wait for each other.

    A job that asks for more main memory than there is, by an upper bound, runs alone. Snakemake reads
    limits when it starts, before it is known that jobs run here, so they are told to its scheduler.
    """
    for name, limit in (("mem_mb", devices.memory_mb()), ("gpu", local_gpus())):
        limit = max([limit, *(job.resources.get(name, 0) for job in asked)])
        if name not in workflow.global_resources:
            workflow.register_resource(name, limit)
            workflow.scheduler.global_resources[name] = limit


def of_model(rule, runtime=240):
    """Resources of jobs with a model, memory by its size, and one of this machine's GPUs."""
    return {
        "mem_mb": lambda w: needs.main_memory(rule, CONFIG, w, gpu=local_gpus() > 0),
        "runtime": runtime,
        "gpu": lambda w: min(1, local_gpus()),
    }


def per_seed(pattern):
    """A path pattern with {seed} filled in by every seed, the other wildcards left."""
    return expand(pattern, seed=SEEDS, allow_missing=True)


def record(stage):
    """The part of the resolved record that a rule's program reads: its change re-runs the rule."""
    return lambda wildcards: poet_config.stage_of(CONFIG, stage, **dict(wildcards.items()))


def model_needs(wildcards, input):
    """What a setting asks of its model's positions.

    It decides about no result, only about an error: Snakemake compares no parameters that are made
    of inputs, so that another limit re-runs nothing.
    """
    return json.dumps(model_limits.needs(CONFIG, wildcards.setting))


def answer_needs(wildcards, input):
    """What an answer asks of whoever reads it after its prompt; see :func:`model_needs`."""
    return json.dumps([model_limits.answer(CONFIG, wildcards.setting)])


def run_flags(wildcards, input):
    """How often to save and where to log, of every training: no part of a result; see
    :func:`model_needs`.
    """
    return f"--save-steps {CONFIG['save_steps']} --report-to {shlex.join(CONFIG['report_to'])}"


def compared(wildcards):
    """The methods of a comparison: a sweep's arms stand under the cells that validation chose."""
    methods = members.compared(CONFIG, wildcards.comparison, wildcards.setting)
    if wildcards.comparison != "sweep":
        return {method: method for method in methods}
    chosen = {}
    for arm in methods:
        path = checkpoints.validate.get(setting=wildcards.setting, arm=arm).output[0]
        chosen[arm] = json.loads(Path(path).read_text())["chosen"]
    return chosen


def compared_scores(wildcards):
    """The scores of every method of a comparison."""
    methods = compared(wildcards).values()
    folder = f"results/scores/{wildcards.setting}/{wildcards.annotator}"
    return paths.per_method(CONFIG, folder, methods)


def table(name, settings):
    """A table, and the scores that it is made of."""
    made_of = paths.scores(CONFIG, name, settings)
    return [*made_of, *(path for path in TABLES if Path(path).stem == name)]


def answers_at_hand(wildcards):
    """A method's answers, which say how they ended; annotations of an archive do without."""
    found = paths.generations(CONFIG, wildcards.setting, [wildcards.method])
    return files_of(SHOWN.complete(found))


def check(jobs):
    """Say before the first job what the jobs lack; on one machine nobody limits memory.

    Snakemake's jobs are a set: sorted, the same lack is said in the same words every time.
    """
    asked = [
        fits.Job(job.rule.name, dict(job.wildcards_dict), job.resources, job.params)
        for job in sorted(jobs, key=lambda job: (job.rule.name, sorted(job.wildcards_dict.items())))
    ]
    on_cluster = workflow.non_local_exec
    said = workflow.config_settings.config_args
    arguments = f" ARGS={shlex.quote(f'--config {shlex.join(said)}')}" if said else ""
    lock = " && ".join(
        f"make lock CONFIG={shlex.quote(os.path.relpath(file))}{arguments}"
        for file in workflow.configfiles
    )
    try:
        fits.check(asked, CONFIG, None if on_cluster else devices.memory_mb())
        before.check_lock(asked, CONFIG, lock)
        if not on_cluster and "SLURM_JOB_ID" not in os.environ:
            before.check_devices(asked)
        before.check_trainings(asked, CONFIG, bool(workflow.deployment_settings.deployment_method))
        before.check_engine(asked, CONFIG)
        before.check_keys(asked, CONFIG)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if not on_cluster and "SLURM_JOB_ID" not in os.environ:
        take_turns(asked)
