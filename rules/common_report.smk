# What the report shows, and where it finds it.
import yaml

from poet.report.tables import belongs

with open(f"{PAPER}/settings.yaml") as file:
    PAPER_JUDGE = yaml.safe_load(file)["alpacaeval2"]["paper_annotator"]

# Names here of the judge that the paper used: only its numbers are compared with the paper's.
PAPER_ANNOTATORS = [
    name for name, annotator in CONFIG["annotators"].items() if PAPER_JUDGE in annotator.values()
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


TABLES = [
    *expand("results/tables/main.{ext}", ext=TABLE),
    *VARIANT_TABLES,
    *DOWNSTREAM_TABLE,
    *LANGUAGE_TABLE,
]
FIGURES = expand(
    "results/figures/{name}.{ext}",
    name=[
        "win-rates",
        "lc-length",
        *(["ablation-curves"] if "ablation" in VARIANTS else []),
        "lengths",
        *(f"training-{setting}" for setting in TRAINED),
    ],
    ext=FIGURE,
)
