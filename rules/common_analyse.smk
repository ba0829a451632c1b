# What the analysis works on: the settings with a section `analysis`, and their scorer.
from pathlib import Path

from poet.config_checks import scorer_of

ANALYSED = [name for name in GRID if CONFIG["settings"][name].get("analysis")]
ANALYSIS = [
    *expand("results/analysis/{setting}/prefix_quality.json", setting=ANALYSED),
    *expand(
        "results/analysis/{setting}/reward_gap.json",
        setting=[name for name in ANALYSED if name in TRAINED],
    ),
]


def scorer_model(wildcards):
    """The folder of the scorer's model, if it has one that a rule makes."""
    return judging_model(scorer_of(CONFIG, wildcards.setting), wildcards.setting)


def scorer_flags(wildcards, input):
    """What poet.analyse.prefix_quality is told of the annotator that scores prefixes."""
    name = scorer_of(CONFIG, wildcards.setting)
    flags = f"--annotator {name} --settings {shlex.quote(judging_settings(name))}"
    return f"{flags} --model {input.scorer}" if input.scorer else flags


def scorer_content(wildcards):
    """Digests of what the scorer has on this machine."""
    return local_inputs.content_of_annotator(
        CONFIG["annotators"][scorer_of(CONFIG, wildcards.setting)]
    )


def analysed_methods(wildcards):
    """The methods of a setting that the analysis compares: those of the main table."""
    return methods_of("main", wildcards.setting)


def analysed_gains(wildcards):
    """`--gain METHOD BASELINE` for every gain of the configuration among them."""
    methods = set(analysed_methods(wildcards))
    return [f"--gain {m} {b}" for m, b in CONFIG["gains"].items() if {m, b} <= methods]


def answers(folder, wildcards):
    """Files below ``folder`` of every analysed method, by method, seed by seed."""
    return {
        method: per_seed(f"{folder}/{method}/seed-{{seed}}.json")
        for method in analysed_methods(wildcards)
    }


def analysed_generations(wildcards):
    """What the analysed methods wrote."""
    return answers(f"results/generations/{wildcards.setting}", wildcards)


def analysed_annotations(wildcards):
    """What the scorer found of it; nothing where it is not among the setting's annotators."""
    name = scorer_of(CONFIG, wildcards.setting)
    if name not in setting_of(wildcards)["annotators"]:
        return {}
    return answers(f"results/annotations/{wildcards.setting}/{name}", wildcards)


def analysed_models(wildcards):
    """The trained models of the analysed methods."""
    methods = set(analysed_methods(wildcards))
    trained = trained_models(wildcards.setting).items()
    return {method: folders for method, folders in trained if method in methods}


def diagnosis_flags(wildcards, input):
    """What poet.analyse.diagnose finds of a setting's model before it is trained."""
    setting = setting_of(wildcards)
    if "scratch" in setting["model"]:
        return f"--corpus {input.corpus}"
    folder = setting["model"]["name"]
    return f"--tokenizer {shlex.quote(folder)}" if Path(folder).is_dir() else ""


def files_of(named):
    """Input function: all files of what ``named`` returns."""
    return lambda wildcards: sum(named(wildcards).values(), [])


def flags_of(flag, named):
    """Params function: `flag METHOD FILE ...` for every method of what ``named`` returns."""
    return lambda wildcards: [
        f"{flag} {method} {' '.join(files)}" for method, files in named(wildcards).items()
    ]
