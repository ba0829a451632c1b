# Tables, figures and the manifest.
PAPER = os.path.relpath(Path(workflow.basedir) / "paper")
CAPTIONS = Path(workflow.basedir) / "src" / "poet" / "report" / "captions"
DOWNSTREAM = [name for name in GRID if CONFIG["settings"][name].get("downstream")]
DOWNSTREAM_TABLE = expand("results/tables/downstream.{ext}", ext=TABLE) if DOWNSTREAM else []


def caption(name):
    return str(CAPTIONS / f"{name}.rst")


def comparisons(wildcards):
    """One comparison per setting of the grid and annotator."""
    return [
        f"results/scores/{setting}/{annotator}/comparison.json"
        for setting in GRID
        for annotator in CONFIG["settings"][setting]["annotators"]
    ]


def all_scores(wildcards):
    """alpaca-eval's own scores of every seed, beside the comparison."""
    return [
        f"results/scores/{setting}/{annotator}/{method}/seed-{seed}.json"
        for setting, methods in GRID.items()
        for annotator in CONFIG["settings"][setting]["annotators"]
        for method in methods
        for seed in SEEDS
    ]


rule tabulate_main:
    """The main table: win rates with intervals beside the paper's."""
    input:
        comparisons=comparisons,
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/main.{ext}", ext=TABLE),
            caption=caption("main"),
            category="Tables",
        ),
    log:
        "results/logs/tabulate_main.log",
    benchmark:
        "results/benchmarks/tabulate_main.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables main --comparison {input.comparisons} "
        "--reported {input.reported} --output {output} 2>&1 | tee {log} >&2"


def downstream_results(setting, method):
    return expand(f"results/downstream/{setting}/{method}/seed-{{seed}}.json", seed=SEEDS)


def downstream_flags(wildcards):
    return [
        f"--results {setting} {method} {' '.join(downstream_results(setting, method))}"
        for setting in DOWNSTREAM
        for method in GRID[setting]
    ]


rule tabulate_downstream:
    """The downstream table: lm-eval tasks of every method."""
    input:
        [downstream_results(s, m) for s in DOWNSTREAM for m in GRID[s]],
    output:
        report(
            expand("results/tables/downstream.{ext}", ext=TABLE),
            caption=caption("downstream"),
            category="Tables",
        ),
    log:
        "results/logs/tabulate_downstream.log",
    benchmark:
        "results/benchmarks/tabulate_downstream.tsv"
    params:
        results=downstream_flags,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables downstream {params.results} --output {output} "
        "2>&1 | tee {log} >&2"


rule draw_win_rates:
    """Win rates with intervals, as a figure with the CSV it was drawn from."""
    input:
        comparisons,
    output:
        report(
            expand("results/figures/win-rates.{ext}", ext=FIGURE),
            caption=caption("figures"),
            category="Figures",
        ),
    log:
        "results/logs/draw_win_rates.log",
    benchmark:
        "results/benchmarks/draw_win_rates.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures win-rates --comparison {input} --output {output} "
        "2>&1 | tee {log} >&2"


def trained_models(setting):
    """The trained methods of a setting with the model folder of every seed."""
    return {
        method: expand(f"results/models/{setting}/{method}/seed-{{seed}}", seed=SEEDS)
        for method in GRID[setting]
        if method != "sft"
    }


def run_flags(wildcards):
    return [
        f"--runs {wildcards.setting} {method} {' '.join(f'{path}/train.json' for path in paths)}"
        for method, paths in trained_models(wildcards.setting).items()
    ]


rule draw_training:
    """Implicit rewards of chosen and rejected over training, per method."""
    input:
        lambda wildcards: sum(trained_models(wildcards.setting).values(), []),
    output:
        report(
            expand("results/figures/training-{{setting}}.{ext}", ext=FIGURE),
            caption=caption("figures"),
            category="Figures",
        ),
    log:
        "results/logs/draw_training/{setting}.log",
    benchmark:
        "results/benchmarks/draw_training/{setting}.tsv"
    params:
        runs=run_flags,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures training {params.runs} --output {output} "
        "2>&1 | tee {log} >&2"


rule write_manifest:
    """What made these results: versions, commit, configuration, hardware, seconds per rule."""
    input:
        rules.tabulate_main.output,
        DOWNSTREAM_TABLE,
        rules.draw_win_rates.output,
        expand("results/figures/training-{setting}.csv", setting=TRAINED),
    output:
        "results/manifest.json",
    log:
        "results/logs/write_manifest.log",
    params:
        config=json.dumps(CONFIG),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.manifest --config-json {params.config:q} "
        "--benchmarks results/benchmarks --inputs {input} --output {output} 2>&1 | tee {log} >&2"
