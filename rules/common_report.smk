# What the report shows, and where it finds it.
import yaml

from poet.report.tables import belongs

with open(f"{PAPER}/settings.yaml") as file:
    PAPER_JUDGE = yaml.safe_load(file)["alpacaeval2"]["paper_annotator"]

# Names here of the judge that the paper used: only its numbers are compared with the paper's.
PAPER_ANNOTATORS = [
    name for name, annotator in CONFIG["annotators"].items() if PAPER_JUDGE in annotator.values()
]
VARIANTS = [
    table
    for table in ("ablation", "baselines")
    if any(belongs(table, CONFIG["methods"], methods) for methods in GRID.values())
]
VARIANT_TABLES = expand("results/tables/{variants}.{ext}", variants=VARIANTS, ext=TABLE)
