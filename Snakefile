# POET (arXiv 2506.09457): every number of the paper is a file with a rule.
from snakemake.utils import min_version

min_version("9.27")


# One environment serves all rules; `--sdm apptainer` runs them in its image (envs/poet.def).
container: "envs/poet.sif"


# Snakemake merges configuration files: loading the default beside another would leak its settings.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/sweep.smk"
include: "rules/analyse.smk"
include: "rules/report.smk"


onstart:
    check(workflow.dag.needrun_jobs())


onsuccess:
    if said := leftovers("results/checkpoints"):
        print(said, file=sys.stderr)


report: "src/poet/report/captions/workflow.rst"


rule diagnose:
    """Does POET suit the pairs of every setting? Before any training; said whenever it is asked."""
    localrule: True
    input:
        expand("results/analysis/{setting}/diagnosis.json", setting=GRID),
    log:
        "results/logs/diagnose.log",
    shell:
        "python -m poet.analyse.recommendation {input} 2>&1 | tee {log} >&2"


rule all:
    """Everything that the configuration's grid asks for."""
    default_target: True
    localrule: True
    input:
        paths.scores(CONFIG, "all"),
        TABLES,
        FIGURES,
        paths.analysis(CONFIG),
        rules.diagnose.input,
        "results/manifest.json",
        "results/report/index.html",


# What else the command line may ask for, by its name.
for name, files in [
    ("tables", [*TABLES, *FIGURES, "results/report/index.html"]),  # what an archive is enough for
    ("main", table("main", GRID)),
    *((name, table(name, members.settings_of(CONFIG, name))) for name in VARIANTS),
    ("downstream", table("downstream", [])),
    ("analysis", paths.analysis(CONFIG)),
    ("sweep", SWEEP_TABLE),
    *((name, paths.results_of(CONFIG, name)) for name in GRID),
]:
    if workflow.is_rule(name):
        raise WorkflowError(
            f"{source}: settings.{name} has the name of a rule or a target; expected another one"
        )

    rule:
        """A table with its scores, the analysis, or a setting's scores and downstream results."""
        name:
            name
        localrule: True
        input:
            files,


# The same environment by conda: `--sdm conda`.
for made in workflow.rules:
    if made.shellcmd:
        made.conda_env = str(Path(workflow.basedir) / "envs" / "main.yaml")
