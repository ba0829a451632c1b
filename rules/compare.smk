# Scores, and scores side by side.


rule score:
    """Win rates of every seed, by alpaca-eval's own code, and what a comparison takes of them."""
    input:
        prompts="results/data/{setting}/prompts.jsonl",
        gamed=gamed_file,
        generations=generations_at_hand,
        annotations=per_seed("results/annotations/{setting}/{annotator}/{method}/seed-{seed}.json"),
    output:
        per_seed("results/scores/{setting}/{annotator}/{method}/seed-{seed}.json"),
    log:
        "results/logs/score/{setting}-{annotator}-{method}.log",
    benchmark:
        "results/benchmarks/score/{setting}-{annotator}-{method}.tsv"
    params:
        gamed=gamed_flag,
        generations=generations_flag,
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "python -m poet.evaluate.alpaca --annotations {input.annotations} "
        "--prompts {input.prompts} {params.gamed} {params.generations} "
        "--output {output} 2>&1 | tee {log} >&2"


rule compare:
    """Intervals over prompts and seeds, and the paired gains of POET, on the same prompts."""
    input:
        files_of(compared_scores),
    output:
        "results/scores/{setting}/{annotator}/{comparison}.json",
    log:
        "results/logs/compare/{setting}-{annotator}-{comparison}.log",
    benchmark:
        "results/benchmarks/compare/{setting}-{annotator}-{comparison}.tsv"
    params:
        kind=lambda wildcards: annotator_of(wildcards)["kind"],
        scores=flags_of("--method", compared_scores),
        gains=lambda wildcards: [f"--gain {m} {b}" for m, b in gains_of(wildcards)],
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python -m poet.evaluate.compare --setting {wildcards.setting} "
        "--annotator {wildcards.annotator} --kind {params.kind} "
        "{params.scores} {params.gains} --output {output} 2>&1 | tee {log} >&2"
