# Safety rates and Arena-Hard scores: the settings that ask for them, their prompts and verdicts.
RATED = {
    rate: [name for name in GRID if CONFIG["settings"][name].get(rate)]
    for rate in ("safety", "arena")
}


def judges_of(rate, bought):
    """A regular expression of the annotators of a rate: those behind a network, or the others."""
    names = {CONFIG["settings"][setting][rate]["annotator"] for setting in RATED[rate]}
    return alternatives(names & set(BOUGHT) if bought else names - set(BOUGHT))


def rate_of(wildcards):
    """The setting's section on safety or arena."""
    return setting_of(wildcards)[wildcards.rate]


def rows_file(rows):
    """The file that a section names, here or in a folder of the hub's."""
    folder = "" if "path" in rows else hub_folder(f"datasets/{rows['dataset']}")
    return rows.get("path") or f"{folder}/{rows['file']}"


def rows_flags(rows, prefix):
    """Which columns of it are the texts and the names of rows."""
    flags = {f"{prefix}column": rows["column"], f"{prefix}id": rows.get("id")}
    return " ".join(f"--{flag} {shlex.quote(value)}" for flag, value in flags.items() if value)


def question_rows(wildcards):
    """The sections on a benchmark's prompts, and on the baseline's answers, if it has one."""
    section = rate_of(wildcards)
    return [section[name] for name in ("prompts", "baseline") if name in section]


def question_folders(wildcards):
    """The hub's folders that they name."""
    names = [rows["dataset"] for rows in question_rows(wildcards) if "dataset" in rows]
    return [hub_folder(f"datasets/{name}") for name in names]


def question_content(wildcards):
    """Digests of the files of this machine that they name."""
    return [digests.digest(rows["path"]) for rows in question_rows(wildcards) if "path" in rows]


def question_flags(wildcards):
    """What poet.evaluate.questions is told of them."""
    section = rate_of(wildcards)
    flags = f"--file {shlex.quote(rows_file(section['prompts']))} {rows_flags(section['prompts'], '')}"
    if "baseline" in section:
        of = section["baseline"]
        flags += f" --baseline {shlex.quote(rows_file(of))} {rows_flags(of, 'baseline-')}"
    return flags


def arena_record(wildcards):
    """The record of annotating; the reference is the baseline, named after its file."""
    stage = poet_config.stage(resolved(wildcards), "annotate")
    baseline = setting_of(wildcards)["arena"]["baseline"]
    name = Path(rows_file(baseline)).name.split(".json")[0]
    return json.dumps({**stage, "reference_name": name}, sort_keys=True)


def verdicts_of(rate, setting):
    """The verdicts on every method of a setting, seed by seed."""
    annotator = CONFIG["settings"][setting][rate]["annotator"]
    return {
        method: per_seed(f"results/{rate}/{setting}/{annotator}/{method}/seed-{{seed}}.json")
        for method in GRID[setting]
    }


def gains_between(methods):
    """`--gain METHOD BASELINE` for every gain of the configuration among these methods."""
    return [f"--gain {m} {b}" for m, b in CONFIG["gains"].items() if {m, b} <= set(methods)]


def rate_files(rate):
    """One comparison per setting that asks for a rate."""
    return [
        f"results/{rate}/{setting}/{CONFIG['settings'][setting][rate]['annotator']}/rates.json"
        for setting in RATED[rate]
    ]


RATE_TABLES = expand(
    "results/tables/{rate}.{ext}",
    rate=[rate for rate, of in RATED.items() if of and at_hand(rate_files(rate))],
    ext=TABLE,
)
