# What made the results. Seconds each: on a cluster they run where Snakemake does.


rule write_manifest:
    """What made these results: versions, commit, configuration, hardware, seconds per rule."""
    localrule: True
    input:
        TABLES,
        FIGURES,
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
