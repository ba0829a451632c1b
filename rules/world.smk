# The embedded world.


rule simulate:
    """Generate the embedded world: corpus, pairs, evaluation prompts, tasks."""
    output:
        pairs="results/data/{setting}/pairs.parquet",
        corpus="results/data/{setting}/corpus.parquet",
        prompts="results/data/{setting}/prompts.jsonl",
        gamed="results/data/{setting}/gamed.csv",
        tasks=directory("results/data/{setting}/tasks"),
    log:
        "results/logs/simulate/{setting}.log",
    benchmark:
        "results/benchmarks/simulate/{setting}.tsv"
    wildcard_constraints:
        setting=alternatives(WORLDS),
    params:
        record=record("data"),
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.world.simulate --record {params.record:q} --pairs {output.pairs} "
        "--corpus {output.corpus} --prompts {output.prompts} --gamed {output.gamed} "
        "--tasks {output.tasks} 2>&1 | tee {log} >&2"
