# Tables, figures and the manifest.


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
    params:
        judges=PAPER_ANNOTATORS,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables main --comparison {input.comparisons} "
        "--reported {input.reported} --paper-annotators {params.judges} --output {output} "
        "2>&1 | tee {log} >&2"


rule tabulate_variants:
    """The truncation ablation, or the token-level baselines: what the main table has of either."""
    input:
        comparisons=lambda wildcards: variant_comparisons(wildcards.variants),
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/{{variants}}.{ext}", ext=TABLE),
            caption=caption("variants"),
            category="Tables",
        ),
    wildcard_constraints:
        variants="ablation|baselines",
    log:
        "results/logs/tabulate_variants/{variants}.log",
    benchmark:
        "results/benchmarks/tabulate_variants/{variants}.tsv"
    params:
        judges=PAPER_ANNOTATORS,
        methods=json.dumps(CONFIG["methods"]),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables {wildcards.variants} --comparison {input.comparisons} "
        "--reported {input.reported} --paper-annotators {params.judges} "
        "--methods {params.methods:q} --output {output} 2>&1 | tee {log} >&2"


rule tabulate_downstream:
    """The downstream table: lm-eval tasks of every method."""
    input:
        [downstream_results(*row) for row in DOWNSTREAM_ROWS],
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


rule tabulate_language:
    """The language table: true reward of the start model, a babbler and the corpus."""
    input:
        [language_files(setting) for setting in LANGUAGE],
    output:
        report(
            expand("results/tables/language.{ext}", ext=TABLE),
            caption=caption("language"),
            category="Tables",
        ),
    log:
        "results/logs/tabulate_language.log",
    benchmark:
        "results/benchmarks/tabulate_language.tsv"
    params:
        worlds=[f"--world {name} {' '.join(language_files(name))}" for name in LANGUAGE],
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.language {params.worlds} --output {output} 2>&1 | tee {log} >&2"


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
        VARIANT_TABLES,
        DOWNSTREAM_TABLE,
        LANGUAGE_TABLE,
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
