# Tables, figures, the page, and what made them. Seconds each: on a cluster most run where Snakemake does.


rule tabulate:
    """Any table, as CSV, Markdown and LaTeX."""
    localrule: True
    input:
        lambda w: files_of(MADE_OF[w.table]),
    output:
        report(
            expand("results/tables/{{table}}.{ext}", ext=TABLE),
            caption="../src/poet/report/captions/caption.rst",
            category="Tables",
        ),
    log:
        "results/logs/tabulate/{table}.log",
    benchmark:
        "results/benchmarks/tabulate/{table}.tsv"
    params:
        caption=lambda w, input: titles.of(w.table)[1],
        words=lambda w: words(MADE_OF[w.table]),
    shell:
        "python -m poet.report.tables {wildcards.table} {params.words} --output {output} "
        "2>&1 | tee {log} >&2"


rule draw:
    """Any figure, as SVG and PNG, with the CSV that it was drawn from."""
    localrule: True
    input:
        lambda w: files_of(MADE_OF[w.figure]),
    output:
        report(
            expand("results/figures/{{figure}}.{ext}", ext=FIGURE),
            caption="../src/poet/report/captions/caption.rst",
            category="Figures",
        ),
    log:
        "results/logs/draw/{figure}.log",
    benchmark:
        "results/benchmarks/draw/{figure}.tsv"
    params:
        caption=lambda w, input: titles.of(w.figure)[1],
        words=lambda w: words(MADE_OF[w.figure]),
    shell:
        "python -m poet.report.figures {params.words} --output {output} 2>&1 | tee {log} >&2"


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
        config=lambda w: json.dumps(SHOWN.judged_by()),
        judges=SHOWN.judges(),
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
        judges=folders_of(SHOWN.judges()),
        cautions="results/report/cautions.json",
        manifest="results/manifest.json",
    output:
        page="results/report/index.html",
        answer="results/report/answer.txt",
    log:
        "results/logs/write_page.log",
    params:
        annotations=flags("--annotations", SHOWN.answers),
        judges=SHOWN.judges(),
    shell:
        "python -m poet.report.page --manifest {input.manifest} --comparison {input.comparisons} "
        "--cautions {input.cautions} --tables {input.tables} --figures {input.figures} "
        "--diagnosis {input.diagnosis} --judges {params.judges} {params.annotations} --output {output.page} "
        "--answer {output.answer} 2>&1 | tee {log} >&2"


rule archive:
    """What all this is made of, with checksums, in a folder that $INTO names: `make archive`."""
    localrule: True
    input:
        shown=[*TABLES, *FIGURES],
        page=rules.write_page.output,
        models=folders_of(SHOWN.trainings() + SHOWN.judges()),
        manifest="results/manifest.json",
    log:
        "results/logs/archive.log",
    params:
        parts=SHOWN.parts(),
        into=lambda w: os.environ.get("INTO", ""),
    shell:
        "python -m poet.report.seal --parts {params.parts} --shown {input.shown} {input.page} "
        "--into {params.into:q} 2>&1 | tee {log} >&2"


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
            config=lambda w: json.dumps(CONFIG),
            models=SHOWN.trainings() + SHOWN.judges(),
            code=provenance.code(),  # another version of the code makes nothing anew, but is told
        shell:
            "python -m poet.report.manifest --config-json {params.config:q} "
            "--benchmarks results/benchmarks --inputs {input.shown} --made {params.models} {input.made} "
            "--output {output} 2>&1 | tee {log} >&2"
