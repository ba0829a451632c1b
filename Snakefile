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


rule tables:
    """Tables, figures and the page: what an archive of scores or annotations is enough for."""
    localrule: True
    input:
        TABLES,
        FIGURES,
        "results/report/index.html",


# A table, and the settings whose scores it is made of.
for name, scored in {
    "main": GRID,
    **{name: members.settings_of(CONFIG, name) for name in VARIANTS},
    "downstream": [],
}.items():

    rule:
        """The table that gives the rule its name, and the scores that it is made of."""
        name:
            name
        localrule: True
        input:
            paths.scores(CONFIG, name, scored),
            [path for path in TABLES if Path(path).stem == name],


rule analysis:
    """Prefix quality and the reward-generation gap of every setting that asks for them."""
    localrule: True
    input:
        paths.analysis(CONFIG),


rule sweep:
    """Every objective with the best of a grid of beta and learning rate, with and without POET."""
    localrule: True
    input:
        SWEEP_TABLE,


for name in GRID:
    if workflow.is_rule(name):
        raise WorkflowError(
            f"{source}: settings.{name} has the name of a rule or a target; expected another one"
        )

    rule:
        """Scores and downstream results of the setting that gives the rule its name."""
        name:
            name
        localrule: True
        input:
            paths.results_of(CONFIG, name),


# The same environment by conda: `--sdm conda`.
for made in workflow.rules:
    if made.shellcmd:
        made.conda_env = str(Path(workflow.basedir) / "envs" / "main.yaml")
