# Tables, figures and the manifest.


rule tabulate_main:
    """The main table: win rates with intervals beside the paper's."""
    input:
        comparisons=COMPARISONS,
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
        comparisons=lambda wildcards: VARIANT_COMPARISONS[wildcards.variants],
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
        gains=[f"--gain {method} {baseline}" for method, baseline in CONFIG["gains"].items()],
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables downstream {params.results} {params.gains} "
        "--output {output} 2>&1 | tee {log} >&2"


rule tabulate_prefix:
    """The prefix table: gaps of chosen and rejected, surviving orders, the models' own prefixes."""
    input:
        measured=analysis_files("prefix_quality.json", ANALYSED),
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/prefix.{ext}", ext=TABLE),
            caption=caption("prefix"),
            category="Tables",
        ),
    log:
        "results/logs/tabulate_prefix.log",
    benchmark:
        "results/benchmarks/tabulate_prefix.tsv"
    params:
        scorers=PAPER_SCORERS,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables prefix --measured {input.measured} "
        "--reported {input.reported} --paper-annotators {params.scorers} --output {output} "
        "2>&1 | tee {log} >&2"


rule tabulate_rates:
    """The safety table or the arena table, beside the paper's numbers."""
    input:
        rates=lambda wildcards: rate_files(wildcards.rate),
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/{{rate}}.{ext}", ext=TABLE),
            caption=caption("rates"),
            category="Tables",
        ),
    log:
        "results/logs/tabulate_rates/{rate}.log",
    benchmark:
        "results/benchmarks/tabulate_rates/{rate}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.rates --rates {input.rates} --reported {input.reported} "
        "--output {output} 2>&1 | tee {log} >&2"


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
    """Win rates with intervals, per method."""
    input:
        "results/tables/main.csv",
    output:
        report(
            expand("results/figures/win-rates.{ext}", ext=FIGURE),
            caption=caption("win-rates"),
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
        "python -m poet.report.figures win-rates --table {input} --output {output} "
        "2>&1 | tee {log} >&2"


rule draw_length_control:
    """Length-controlled win rate against the length of the answers."""
    input:
        "results/tables/main.csv",
    output:
        report(
            expand("results/figures/lc-length.{ext}", ext=FIGURE),
            caption=caption("lc-length"),
            category="Figures",
        ),
    log:
        "results/logs/draw_length_control.log",
    benchmark:
        "results/benchmarks/draw_length_control.tsv"
    params:
        gains=[f"--gain {method} {baseline}" for method, baseline in CONFIG["gains"].items()],
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures lc-length --table {input} {params.gains} --output {output} "
        "2>&1 | tee {log} >&2"


rule draw_ablation:
    """Win rate against the share of the length that is kept, beside the paper's."""
    input:
        "results/tables/ablation.csv",
    output:
        report(
            expand("results/figures/ablation-curves.{ext}", ext=FIGURE),
            caption=caption("ablation-curves"),
            category="Figures",
        ),
    log:
        "results/logs/draw_ablation.log",
    benchmark:
        "results/benchmarks/draw_ablation.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures ablation --table {input} --output {output} "
        "2>&1 | tee {log} >&2"


rule draw_lengths:
    """How long the answers of every method are."""
    input:
        [files for *_, files in SHOWN_ANSWERS],
    output:
        report(
            expand("results/figures/lengths.{ext}", ext=FIGURE),
            caption=caption("lengths"),
            category="Figures",
        ),
    log:
        "results/logs/draw_lengths.log",
    benchmark:
        "results/benchmarks/draw_lengths.tsv"
    params:
        annotations=length_flags(),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures lengths {params.annotations} --output {output} "
        "2>&1 | tee {log} >&2"


rule draw_training:
    """Implicit rewards of chosen and rejected over training, per method."""
    input:
        lambda wildcards: sum(trained_models(wildcards.setting).values(), []),
    output:
        report(
            expand("results/figures/training-{{setting}}.{ext}", ext=FIGURE),
            caption=caption("training"),
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


for figure, (source, _) in ANALYSIS_CSV.items():

    rule:
        """What an analysis found, as the figure that gives the rule its name."""
        name:
            rule_of(figure)
        input:
            f"results/analysis/{{setting}}/{source}.csv",
        output:
            report(
                expand("results/figures/{figure}-{{setting}}.{ext}", figure=figure, ext=FIGURE),
                caption=caption(figure),
                category="Figures",
            ),
        log:
            f"results/logs/{rule_of(figure)}/{{setting}}.log",
        benchmark:
            f"results/benchmarks/{rule_of(figure)}/{{setting}}.tsv"
        params:
            figure=figure,
        resources:
            mem_mb=1000,
            runtime=10,
        shell:
            "python -m poet.report.figures {params.figure} --table {input} --output {output} "
            "2>&1 | tee {log} >&2"


rule write_page:
    """The page: answer, tables, figures, answers head to head, configuration, provenance, costs."""
    input:
        comparisons=COMPARISONS,
        annotations=[files for *_, files in SHOWN_ANSWERS],
        tables=[path for path in TABLES if path.endswith(".csv")],
        figures=[path for path in FIGURES if path.endswith(".svg")],
        figure_data=[path for path in FIGURES if path.endswith(".csv")],
        diagnosis=analysis_files("diagnosis.json"),
        manifest="results/manifest.json",
    output:
        "results/report/index.html",
    log:
        "results/logs/write_page.log",
    params:
        annotations=[
            f"--annotations {setting} {annotator} {method} {' '.join(files)}"
            for setting, annotator, method, files in SHOWN_ANSWERS
        ],
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.report.page --manifest {input.manifest} --comparison {input.comparisons} "
        "--tables {input.tables} --figures {input.figures} "
        "--diagnosis {input.diagnosis} {params.annotations} --output {output} "
        "2>&1 | tee {log} >&2"
