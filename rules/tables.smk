# The tables, each as CSV, Markdown and LaTeX. Seconds each: on a cluster they run where Snakemake does.


rule tabulate_main:
    """The main table: win rates with intervals beside the paper's."""
    localrule: True
    input:
        comparisons=COMPARISONS,
        cautions="results/report/cautions.json",
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
        "--cautions {input.cautions} --reported {input.reported} --paper-annotators {params.judges} --output {output} "
        "2>&1 | tee {log} >&2"


rule tabulate_variants:
    """The truncation ablation, or the token-level baselines: what the main table has of either."""
    localrule: True
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
    localrule: True
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
    localrule: True
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
    localrule: True
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
    localrule: True
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
