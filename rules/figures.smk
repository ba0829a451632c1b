# The figures, each as SVG and PNG with the CSV it was drawn from. Seconds each: on a cluster they run where Snakemake does.


rule draw_win_rates:
    """Win rates with intervals, per method."""
    localrule: True
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
    localrule: True
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
    localrule: True
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
    localrule: True
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
    localrule: True
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
