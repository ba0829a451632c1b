# Tables, figures, the page, and what made them. Seconds each: on a cluster most run where Snakemake does.


rule tabulate_main:
    """The main table: win rates with intervals beside the paper's."""
    localrule: True
    input:
        comparisons=SHOWN.comparisons,
        cautions="results/report/cautions.json",
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/main.{ext}", ext=TABLE),
            caption=f"{CAPTIONS}/main.rst",
            category="Tables",
        ),
    log:
        "results/logs/tabulate_main.log",
    benchmark:
        "results/benchmarks/tabulate_main.tsv"
    params:
        judges=members.papers_annotators(CONFIG, PAPERS_JUDGE),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables main --comparison {input.comparisons} "
        "--cautions {input.cautions} --reported {input.reported} "
        "--paper-annotators {params.judges} --output {output} 2>&1 | tee {log} >&2"


rule tabulate_variants:
    """The truncation ablation, or the token-level baselines: what the main table has of either."""
    localrule: True
    input:
        comparisons=lambda w: SHOWN.variants[w.variants],
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/{{variants}}.{ext}", ext=TABLE),
            caption=f"{CAPTIONS}/variants.rst",
            category="Tables",
        ),
    wildcard_constraints:
        variants=alternatives(VARIANTS),
    log:
        "results/logs/tabulate_variants/{variants}.log",
    benchmark:
        "results/benchmarks/tabulate_variants/{variants}.tsv"
    params:
        judges=members.papers_annotators(CONFIG, PAPERS_JUDGE),
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
        files_of(SHOWN.downstream),
    output:
        report(
            expand("results/tables/downstream.{ext}", ext=TABLE),
            caption=f"{CAPTIONS}/downstream.rst",
            category="Tables",
        ),
    log:
        "results/logs/tabulate_downstream.log",
    benchmark:
        "results/benchmarks/tabulate_downstream.tsv"
    params:
        results=flags("--results", SHOWN.downstream),
        gains=gain_flags(CONFIG["gains"].items()),
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
        measured=SHOWN.analysis("prefix_quality.json", members.analysed(CONFIG)),
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/prefix.{ext}", ext=TABLE),
            caption=f"{CAPTIONS}/prefix.rst",
            category="Tables",
        ),
    log:
        "results/logs/tabulate_prefix.log",
    benchmark:
        "results/benchmarks/tabulate_prefix.tsv"
    params:
        scorers=members.papers_scorers(CONFIG),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.tables prefix --measured {input.measured} "
        "--reported {input.reported} --paper-annotators {params.scorers} --output {output} "
        "2>&1 | tee {log} >&2"


rule tabulate_benchmark:
    """The table of a further benchmark, beside the paper's numbers."""
    localrule: True
    input:
        summaries=lambda w: paths.summaries(CONFIG, w.benchmark),
        reported=f"{PAPER}/reported.csv",
    output:
        report(
            expand("results/tables/{{benchmark}}.{ext}", ext=TABLE),
            caption=f"{CAPTIONS}/benchmark.rst",
            category="Tables",
        ),
    log:
        "results/logs/tabulate_benchmark/{benchmark}.log",
    benchmark:
        "results/benchmarks/tabulate_benchmark/{benchmark}.tsv"
    params:
        caption=lambda w: BENCHMARKS[w.benchmark].caption,
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.benchmarks {wildcards.benchmark} --summaries {input.summaries} "
        "--reported {input.reported} --output {output} 2>&1 | tee {log} >&2"


rule tabulate_language:
    """The language table: true reward of the start model, a babbler and the corpus."""
    localrule: True
    input:
        files_of(SHOWN.language),
    output:
        report(
            expand("results/tables/language.{ext}", ext=TABLE),
            caption=f"{CAPTIONS}/language.rst",
            category="Tables",
        ),
    log:
        "results/logs/tabulate_language.log",
    benchmark:
        "results/benchmarks/tabulate_language.tsv"
    params:
        worlds=flags("--world", SHOWN.language),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.language {params.worlds} --output {output} 2>&1 | tee {log} >&2"


rule draw_scores:
    """A figure of the main table or of the ablation's."""
    localrule: True
    input:
        lambda w: f"results/tables/{SCORES[w.scores]}.csv",
    output:
        report(
            expand("results/figures/{{scores}}.{ext}", ext=FIGURE),
            caption=f"{CAPTIONS}/included.rst",
            category="Figures",
        ),
    log:
        "results/logs/draw_scores/{scores}.log",
    benchmark:
        "results/benchmarks/draw_scores/{scores}.tsv"
    wildcard_constraints:
        scores=alternatives(SCORES),
    params:
        caption=lambda w, input: f"{CAPTIONS}/{w.scores}.rst",
        gains=lambda w: gain_flags(CONFIG["gains"].items()) if w.scores == "lc-length" else [],
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures {wildcards.scores} --table {input} {params.gains} "
        "--output {output} 2>&1 | tee {log} >&2"


rule draw_lengths:
    """How long the answers of every method are."""
    localrule: True
    input:
        files_of(SHOWN.answers),
    output:
        report(
            expand("results/figures/lengths.{ext}", ext=FIGURE),
            caption=f"{CAPTIONS}/lengths.rst",
            category="Figures",
        ),
    log:
        "results/logs/draw_lengths.log",
    benchmark:
        "results/benchmarks/draw_lengths.tsv"
    params:
        annotations=flags("--annotations", SHOWN.answers_of_one_annotator()),
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
        lambda w: files_of(paths.trained_models(CONFIG, w.setting)),
    output:
        report(
            expand("results/figures/training-{{setting}}.{ext}", ext=FIGURE),
            caption=f"{CAPTIONS}/training.rst",
            category="Figures",
        ),
    log:
        "results/logs/draw_training/{setting}.log",
    benchmark:
        "results/benchmarks/draw_training/{setting}.tsv"
    params:
        runs=lambda w: flags("--runs", paths.runs(CONFIG, w.setting)),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures training {params.runs} --output {output} "
        "2>&1 | tee {log} >&2"


rule draw_analysis:
    """What an analysis found."""
    input:
        lambda w: f"results/analysis/{w.setting}/{ANALYSES[w.figure]}.csv",
    output:
        report(
            expand("results/figures/{{figure}}-{{setting}}.{ext}", ext=FIGURE),
            caption=f"{CAPTIONS}/included.rst",
            category="Figures",
        ),
    log:
        "results/logs/draw_analysis/{figure}-{setting}.log",
    benchmark:
        "results/benchmarks/draw_analysis/{figure}-{setting}.tsv"
    params:
        caption=lambda w, input: f"{CAPTIONS}/{w.figure}.rst",
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.figures {wildcards.figure} --table {input} --output {output} "
        "2>&1 | tee {log} >&2"


rule collect_cautions:
    """What stands before the answer: few prompts, answers cut off, a weak annotator, and the like."""
    localrule: True
    input:
        comparisons=SHOWN.comparisons,
        summaries=SHOWN.summaries(),
        judges=folders_of(SHOWN.judges()),
    output:
        "results/report/cautions.json",
    log:
        "results/logs/collect_cautions.log",
    benchmark:
        "results/benchmarks/collect_cautions.tsv"
    params:
        config=unchanged(json.dumps(SHOWN.judged_by())),
        judges=SHOWN.judges(),
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.cautions --config-json {params.config:q} "
        "--comparison {input.comparisons} --summaries {input.summaries} "
        "--judges {params.judges} --output {output} 2>&1 | tee {log} >&2"


rule write_page:
    """The page: answer, tables, figures, answers head to head, configuration, provenance, costs."""
    localrule: True
    input:
        comparisons=SHOWN.comparisons,
        annotations=files_of(SHOWN.answers),
        tables=[path for path in TABLES if path.endswith(".csv")],
        figures=[path for path in FIGURES if path.endswith(".svg")],
        figure_data=[path for path in FIGURES if path.endswith(".csv")],
        diagnosis=SHOWN.analysis("diagnosis.json"),
        cautions="results/report/cautions.json",
        manifest="results/manifest.json",
    output:
        page="results/report/index.html",
        answer="results/report/answer.txt",
    log:
        "results/logs/write_page.log",
    params:
        annotations=flags("--annotations", SHOWN.answers),
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.report.page --manifest {input.manifest} --comparison {input.comparisons} "
        "--cautions {input.cautions} --tables {input.tables} --figures {input.figures} "
        "--diagnosis {input.diagnosis} {params.annotations} --output {output.page} "
        "--answer {output.answer} 2>&1 | tee {log} >&2"


if not (ARCHIVED and os.path.exists("results/manifest.json")):

    rule write_manifest:
        """What made these results: versions, commit, configuration, hardware, seconds per rule."""
        localrule: True
        input:
            shown=[*TABLES, *FIGURES],
            models=folders_of(SHOWN.trainings() + SHOWN.judges()),
            made=SHOWN.summaries() + SHOWN.scores(),
        output:
            "results/manifest.json",
        log:
            "results/logs/write_manifest.log",
        params:
            config=unchanged(json.dumps(CONFIG)),
            models=SHOWN.trainings() + SHOWN.judges(),
            code=provenance.code(),  # another version of the code makes nothing anew, but is told
        resources:
            mem_mb=1000,
            runtime=10,
        shell:
            "python -m poet.report.manifest --config-json {params.config:q} "
            "--benchmarks results/benchmarks --inputs {input.shown} --made {params.models} {input.made} "
            "--output {output} 2>&1 | tee {log} >&2"
