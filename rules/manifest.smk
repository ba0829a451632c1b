# What made the results. Seconds each: on a cluster they run where Snakemake does.


rule write_manifest:
    """What made these results: versions, commit, configuration, hardware, seconds per rule."""
    localrule: True
    input:
        shown=[*TABLES, *FIGURES],
        models=folders_of([*MODELS_MADE, *JUDGES_MADE]),
        made=[*ANSWERS_MADE, *SCORES_MADE],
    output:
        "results/manifest.json",
    log:
        "results/logs/write_manifest.log",
    params:
        config=lambda wildcards: json.dumps(CONFIG),  # a function: paths may hold braces
        models=[*MODELS_MADE, *JUDGES_MADE],
        code=provenance.code(),  # another version of the code makes nothing anew, but is told
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.manifest --config-json {params.config:q} "
        "--benchmarks results/benchmarks --inputs {input.shown} --made {params.models} {input.made} "
        "--output {output} 2>&1 | tee {log} >&2"
