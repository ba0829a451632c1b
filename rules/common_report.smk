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
