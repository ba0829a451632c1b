# What the report shows, and where it finds it.
import yaml

from poet.report.tables import belongs

with open(f"{PAPER}/settings.yaml") as file:
    PAPER_JUDGE = yaml.safe_load(file)["alpacaeval2"]["paper_annotator"]


def is_papers(name, annotator):
    """Whether an annotator is the judge that the paper used; what is replayed says so by its name."""
    if annotator["kind"] == "api":
        return Path(annotator["judge"]).stem == PAPER_JUDGE
    return annotator["kind"] == "replay" and name == PAPER_JUDGE


# Only the numbers of these are compared with the paper's.
PAPER_ANNOTATORS = [name for name, found in CONFIG["annotators"].items() if is_papers(name, found)]

PAPER_SCORERS = [
    name
    for name, found in CONFIG["annotators"].items()
    if found["kind"] == "reward_model" and "ArmoRM" in found.get("name", "")
]


def variants_of(table, setting):
    """The methods of a setting that the ablation or the baselines compare, if any."""
    methods = methods_of(table, setting)
    chosen = belongs(table, CONFIG["methods"], methods)
    return [method for method in methods if method in chosen]


def variant_comparisons(table):
    """A comparison per setting that has such variants, and annotator."""
    return [
        f"results/scores/{setting}/{annotator}/{table}.json"
        for setting in GRID
        if variants_of(table, setting)
        for annotator in CONFIG["settings"][setting]["annotators"]
    ]


VARIANTS = [table for table in ("ablation", "baselines") if variant_comparisons(table)]
VARIANT_TABLES = expand("results/tables/{variants}.{ext}", variants=VARIANTS, ext=TABLE)

# (setting, annotator, method, files of every seed) of the main table's methods.
SHOWN_ANSWERS = [
    (
        setting,
        annotator,
        method,
        per_seed(f"results/annotations/{setting}/{annotator}/{method}/seed-{{seed}}.json"),
    )
    for setting in GRID
    for annotator in CONFIG["settings"][setting]["annotators"]
    for method in methods_of("main", setting)
]


def length_flags():
    """`--annotations SETTING METHOD FILE ...` of one annotator: all judge the same answers."""
    first = {(setting, method): files for setting, _, method, files in reversed(SHOWN_ANSWERS)}
    return [
        f"--annotations {setting} {method} {' '.join(first[setting, method])}"
        for setting, method in reversed(first)
    ]


# What draws which figure from which file of an analysis.
ANALYSIS_CSV = {
    "pair-lengths": "diagnosis",
    "prefix-quality": "prefix_quality",
    "margins": "reward_gap",
    "entropy": "token_positions",
}


def rule_of(figure):
    """Name of the rule that draws a figure of an analysis."""
    return f"draw_{figure.replace('-', '_')}"


TABLES = [
    *expand("results/tables/main.{ext}", ext=TABLE),
    *VARIANT_TABLES,
    *DOWNSTREAM_TABLE,
    *expand("results/tables/prefix.{ext}", ext=TABLE if ANALYSED else []),
    *LANGUAGE_TABLE,
    *RATE_TABLES,
]
FIGURES = expand(
    "results/figures/{name}.{ext}",
    name=[
        "win-rates",
        "lc-length",
        *(["ablation-curves"] if "ablation" in VARIANTS else []),
        "lengths",
        *(f"training-{setting}" for setting in TRAINED),
        *(f"pair-lengths-{setting}" for setting in GRID),
        *(f"prefix-quality-{setting}" for setting in ANALYSED),
        *(
            f"{name}-{setting}"
            for setting in ANALYSED
            if setting in TRAINED
            for name in ("margins", "entropy")
        ),
    ],
    ext=FIGURE,
)
