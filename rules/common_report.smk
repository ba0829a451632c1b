# What the report shows, and where it finds it.
import yaml

from poet.report.tables import belongs

CAPTIONS = Path(workflow.basedir) / "src" / "poet" / "report" / "captions"

with open(f"{PAPER}/settings.yaml") as file:
    PAPER_JUDGE = yaml.safe_load(file)["alpacaeval2"]["paper_annotator"]


def caption(name):
    """Path of a caption of Snakemake's report."""
    return str(CAPTIONS / f"{name}.rst")


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


def annotation_files(setting, annotator, method):
    """What an annotator said of every seed of a method."""
    return per_seed(f"results/annotations/{setting}/{annotator}/{method}/seed-{{seed}}.json")


def comparisons_of(name, methods):
    """A comparison per setting that has methods for it, and annotator, as far as they are at hand.

    Args:
        name: of the file.
        methods: a function of the setting.
    """
    found = []
    for setting in GRID:
        for annotator in CONFIG["settings"][setting]["annotators"] if methods(setting) else []:
            made_of = [annotation_files(setting, annotator, m) for m in methods(setting)]
            path = f"results/scores/{setting}/{annotator}/{name}.json"
            if at_hand([path]) or at_hand(sum(made_of, [])):
                found.append(path)
    return found


COMPARISONS = comparisons_of("comparison", lambda setting: methods_of("main", setting))
if not COMPARISONS:
    raise WorkflowError("the archive has neither comparison.json nor annotations of the grid")
VARIANT_COMPARISONS = {
    table: comparisons_of(table, lambda setting: variants_of(table, setting))
    for table in ("ablation", "baselines")
}
VARIANTS = [table for table, found in VARIANT_COMPARISONS.items() if found]
VARIANT_TABLES = expand("results/tables/{variants}.{ext}", variants=VARIANTS, ext=TABLE)

# (setting, annotator, method, files of every seed) of the main table's methods.
SHOWN_ANSWERS = [
    (setting, annotator, method, annotation_files(setting, annotator, method))
    for setting in GRID
    for annotator in CONFIG["settings"][setting]["annotators"]
    for method in methods_of("main", setting)
    if at_hand(annotation_files(setting, annotator, method))
]


def length_flags():
    """`--annotations SETTING METHOD FILE ...` of one annotator: all judge the same answers."""
    first = {(setting, method): files for setting, _, method, files in reversed(SHOWN_ANSWERS)}
    return [
        f"--annotations {setting} {method} {' '.join(first[setting, method])}"
        for setting, method in reversed(first)
    ]


def downstream_results(setting, method):
    """lm-eval results of every seed of a method."""
    return expand(f"results/downstream/{setting}/{method}/seed-{{seed}}.json", seed=SEEDS)


DOWNSTREAM_ROWS = [
    (setting, method)
    for setting in GRID
    if CONFIG["settings"][setting].get("downstream")
    for method in methods_of("downstream", setting)
    if at_hand(downstream_results(setting, method))
]
DOWNSTREAM_TABLE = expand("results/tables/downstream.{ext}", ext=TABLE if DOWNSTREAM_ROWS else [])


def downstream_flags(wildcards):
    """`--results SETTING METHOD FILE ...` for every row of the downstream table."""
    return [
        f"--results {setting} {method} {' '.join(downstream_results(setting, method))}"
        for setting, method in DOWNSTREAM_ROWS
    ]


def language_files(setting):
    """Corpus, evaluation prompts, and the start model's answers of every seed."""
    data = f"results/data/{setting}"
    answers = per_seed(f"results/generations/{setting}/sft/seed-{{seed}}.json")
    return [f"{data}/corpus.parquet", f"{data}/prompts.jsonl", *answers]


# The corpus and the prompts can be simulated again, the answers cannot.
LANGUAGE = [n for n in WORLDS if "sft" in GRID[n] and at_hand(language_files(n)[2:])]
LANGUAGE_TABLE = expand("results/tables/language.{ext}", ext=TABLE if LANGUAGE else [])


def train_files(setting):
    """The trained methods of a setting with the train.json of every seed."""
    return {
        method: [f"{folder}/train.json" for folder in folders]
        for method, folders in trained_models(setting).items()
    }


def run_flags(wildcards):
    """`--runs SETTING METHOD train.json ...` for every trained method of a setting."""
    return [
        f"--runs {wildcards.setting} {method} {' '.join(files)}"
        for method, files in train_files(wildcards.setting).items()
    ]


# What draws which figure from which file of an analysis, and the settings that have it.
ANALYSIS_CSV = {
    "pair-lengths": ("diagnosis", GRID),
    "prefix-quality": ("prefix_quality", ANALYSED),
    "margins": ("reward_gap", [name for name in ANALYSED if name in TRAINED]),
    "entropy": ("token_positions", [name for name in ANALYSED if name in TRAINED]),
}


def rule_of(figure):
    """Name of the rule that draws a figure of an analysis."""
    return f"draw_{figure.replace('-', '_')}"


def analysis_files(name, settings=GRID):
    """A file of the analysis of every setting that has it."""
    paths = expand(f"results/analysis/{{setting}}/{name}", setting=settings)
    return [path for path in paths if at_hand([path])]


def train_of(folders):
    """What the trainings of model folders wrote of themselves, as far as it is at hand."""
    return [path for path in (f"{folder}/train.json" for folder in folders) if at_hand([path])]


def folders_of(files):
    """The model folders that files lie in: what the rules know as their outputs."""
    return [os.path.dirname(path) for path in files]


# What says by which version of the code it was made: trainings, answers, annotations, scores.
MODELS_MADE = train_of(
    folder
    for setting in GRID
    for folder in (f"results/models/{setting}/sft", *sum(trained_models(setting).values(), []))
)
# Of the reward models that are trained on a setting's own pairs, with their accuracy.
JUDGES_MADE = train_of(
    judging_model(annotator, setting)
    for setting in GRID
    for annotator in CONFIG["settings"][setting]["annotators"]
    if CONFIG["annotators"][annotator]["kind"] == "reward_model"
    and "name" not in CONFIG["annotators"][annotator]
)
ANSWERS_MADE = [
    path
    for setting in GRID
    for method in methods_of("main", setting)
    for path in [f"results/generations/{setting}/{method}/summary.json"]
    if at_hand([path])
]


def annotations_made(setting, annotator, method, files):
    """What says who made annotations; of an archive that has but these, themselves: they do not."""
    path = f"results/annotations/{setting}/{annotator}/{method}/usage.json"
    return [path] if at_hand([path]) else files


SCORES_MADE = [
    *(path for shown in SHOWN_ANSWERS for path in annotations_made(*shown)),
    *(
        path
        for path in (
            *(f"results/{rate}/{s}/answers/{method}/summary.json"
              for rate, settings in RATED.items() for s in settings for method in GRID[s]),
        )
        if at_hand([path])
    ),
    *(path for path in scores_of("main") if at_hand([path])),
    *COMPARISONS,
    *(path for row in DOWNSTREAM_ROWS for path in downstream_results(*row)),
]

TABLES = [
    *expand("results/tables/main.{ext}", ext=TABLE),
    *VARIANT_TABLES,
    *DOWNSTREAM_TABLE,
    *expand(
        "results/tables/prefix.{ext}",
        ext=TABLE if analysis_files("prefix_quality.json", ANALYSED) else [],
    ),
    *LANGUAGE_TABLE,
    *RATE_TABLES,
]
FIGURES = expand(
    "results/figures/{name}.{ext}",
    name=[
        "win-rates",
        "lc-length",
        *(["ablation-curves"] if "ablation" in VARIANTS else []),
        *(["lengths"] if SHOWN_ANSWERS else []),
        *(f"training-{s}" for s in TRAINED if at_hand(sum(train_files(s).values(), []))),
        *(
            f"{figure}-{setting}"
            for figure, (source, settings) in ANALYSIS_CSV.items()
            for setting in settings
            if analysis_files(f"{source}.csv", [setting])
        ),
    ],
    ext=FIGURE,
)
