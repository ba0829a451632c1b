# Pairs, tokens and truncated tokens.


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
        "python -m poet.data.world --record {params.record:q} --pairs {output.pairs} "
        "--corpus {output.corpus} --prompts {output.prompts} --gamed {output.gamed} "
        "--tasks {output.tasks} 2>&1 | tee {log} >&2"


rule load:
    """Read preference pairs from a local file or the hub, check them, split them by prompt."""
    input:
        pairs_file,
    output:
        pairs="results/data/{setting}/pairs.parquet",
        corpus="results/data/{setting}/corpus.parquet",
        prompts="results/data/{setting}/prompts.jsonl",
        summary="results/data/{setting}/summary.json",
    log:
        "results/logs/load/{setting}.log",
    benchmark:
        "results/benchmarks/load/{setting}.tsv"
    wildcard_constraints:
        setting=alternatives(set(GRID) - set(WORLDS)),
    params:
        record=record("data"),
        offline=hub_offline(lambda setting: setting["data"]["kind"] == "hub"),
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "HF_HUB_OFFLINE={params.offline} python -m poet.data.preferences "
        "--record {params.record:q} --pairs {output.pairs} --corpus {output.corpus} "
        "--prompts {output.prompts} --summary {output.summary} 2>&1 | tee {log} >&2"


rule tokenize:
    """Token ids of every pair, once for all methods, and a table of what the limits cut."""
    input:
        pairs="results/data/{setting}/pairs.parquet",
        tokenizer="results/models/{setting}/sft",
    output:
        tokens="results/data/{setting}/tokens.parquet",
        cuts="results/data/{setting}/tokens.json",
    log:
        "results/logs/tokenize/{setting}.log",
    benchmark:
        "results/benchmarks/tokenize/{setting}.tsv"
    threads: 4
    params:
        record=record("tokenize"),
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "TOKENIZERS_PARALLELISM=true RAYON_NUM_THREADS={threads} "
        "python -m poet.data.tokenization --record {params.record:q} --pairs {input.pairs} "
        "--tokenizer {input.tokenizer} --output {output.tokens} --cuts {output.cuts} "
        "2>&1 | tee {log} >&2"


rule truncate:
    """Responses cut as a method's truncation says (POET: both to the shorter one's length)."""
    input:
        "results/data/{setting}/tokens.parquet",
    output:
        "results/data/{setting}/{truncation}.parquet",
    log:
        "results/logs/truncate/{setting}-{truncation}.log",
    benchmark:
        "results/benchmarks/truncate/{setting}-{truncation}.tsv"
    params:
        strategy=lambda wildcards: wildcards.truncation.split("-")[0],
        keep=lambda wildcards: int((wildcards.truncation.split("-") + ["100"])[1]) / 100,
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.data.truncation --tokens {input} --strategy {params.strategy} "
        "--keep {params.keep} --output {output} 2>&1 | tee {log} >&2"
