# The page. Seconds each: on a cluster they run where Snakemake does.


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
