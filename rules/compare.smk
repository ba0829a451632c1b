# Scores side by side.


rule compare:
    """Intervals over prompts and seeds, and the paired gains of POET, on the same prompts."""
    input:
        of_comparison("annotations"),
        of_comparison("generations"),
        prompts="results/data/{setting}/prompts.jsonl",
        gamed=gamed_file,
    output:
        "results/scores/{setting}/{annotator}/{comparison}.json",
    log:
        "results/logs/compare/{setting}-{annotator}-{comparison}.log",
    benchmark:
        "results/benchmarks/compare/{setting}-{annotator}-{comparison}.tsv"
    params:
        kind=lambda wildcards: annotator_of(wildcards)["kind"],
        gamed=gamed_flag,
        annotations=by_method("annotations", "--method"),
        generations=by_method("generations", "--generations"),
        gains=lambda wildcards: [f"--gain {m} {b}" for m, b in gains_of(wildcards)],
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python -m poet.evaluate.compare --setting {wildcards.setting} "
        "--annotator {wildcards.annotator} --kind {params.kind} --prompts {input.prompts} "
        "{params.gamed} {params.annotations} {params.generations} {params.gains} "
        "--output {output} 2>&1 | tee {log} >&2"
