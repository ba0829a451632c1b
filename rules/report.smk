# The page. Seconds each: on a cluster they run where Snakemake does.


rule collect_cautions:
    """What stands before the answer: few prompts, answers cut off, a weak annotator, and the like."""
    localrule: True
    input:
        comparisons=COMPARISONS,
        summaries=ANSWERS_MADE,
        judges=folders_of(JUDGES_MADE),
    output:
        "results/report/cautions.json",
    log:
        "results/logs/collect_cautions.log",
    benchmark:
        "results/benchmarks/collect_cautions.tsv"
    params:
        config=lambda wildcards: json.dumps(  # a function: paths may hold braces
            {
                "annotators": CONFIG["annotators"],
                "settings": {name: {"model": CONFIG["settings"][name]["model"]} for name in GRID},
            }
        ),
        judges=JUDGES_MADE,
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
        comparisons=COMPARISONS,
        annotations=[files for *_, files in SHOWN_ANSWERS],
        tables=[path for path in TABLES if path.endswith(".csv")],
        figures=[path for path in FIGURES if path.endswith(".svg")],
        figure_data=[path for path in FIGURES if path.endswith(".csv")],
        diagnosis=analysis_files("diagnosis.json"),
        cautions="results/report/cautions.json",
        manifest="results/manifest.json",
    output:
        page="results/report/index.html",
        answer="results/report/answer.txt",
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
        "--cautions {input.cautions} --tables {input.tables} --figures {input.figures} "
        "--diagnosis {input.diagnosis} {params.annotations} --output {output.page} "
        "--answer {output.answer} "
        "2>&1 | tee {log} >&2"
