# Pairs, tokens and truncated tokens.


rule download:
    """Fetch a repository from the hub, each file as the lock says; the only rule with a connection."""
    output:
        directory("results/hub/{repository}"),
    log:
        "results/logs/download/{repository}.log",
    benchmark:
        "results/benchmarks/download/{repository}.tsv"
    localrule: True
    priority: 3  # what the hub does not deliver is to show before the trainings
    params:
        lock=lambda wildcards: CONFIG["lock"],
        pinned=pinned_files,  # another entry in the lock downloads again
    resources:
        mem_mb=1000,
        runtime=720,
    shell:
        "HF_HUB_OFFLINE=0 python -m poet.hub.download --repository {wildcards.repository} "
        "--lock {params.lock:q} --output {output} 2>&1 | tee {log} >&2"


rule load:
    """Read preference pairs from a local file or the hub, check them, split them by prompt."""
    input:
        pairs=pairs_folder,
        alpacaeval=alpacaeval_folder,
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
        content=pairs_content,
        folders=folder_flags,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "python -m poet.data.preferences --record {params.record:q} {params.folders} --pairs {output.pairs} --corpus {output.corpus} "
        "--prompts {output.prompts} --summary {output.summary} 2>&1 | tee {log} >&2"


rule take_model:
    """The start model: a published checkpoint as it is."""
    input:
        base=base_model,
    output:
        directory("results/models/{setting}/sft"),
    log:
        "results/logs/take_model/{setting}.log",
    benchmark:
        "results/benchmarks/take_model/{setting}.tsv"
    wildcard_constraints:
        setting=alternatives(set(GRID) - set(TUNED)),
    params:
        record=record("sft"),
        content=base_content,
        needs=needs_of,
        base=base_flag,
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "python -m poet.train.start --record {params.record:q} {params.base} "
        "--needs {params.needs:q} --output {output} 2>&1 | tee {log} >&2"


rule load_chats:
    """Conversations to train the start model on, where the configuration names a data set."""
    input:
        chats=chats_folder,
    output:
        chats="results/data/{setting}/chats.parquet",
        summary="results/data/{setting}/chats.json",
    log:
        "results/logs/load_chats/{setting}.log",
    benchmark:
        "results/benchmarks/load_chats/{setting}.tsv"
    wildcard_constraints:
        setting=alternatives(TUNED),
    params:
        record=record("chats"),
        content=chats_content,
        folder=chats_flag,
    resources:
        mem_mb=8000,
        runtime=60,
    shell:
        "python -m poet.data.chats --record {params.record:q} {params.folder} "
        "--output {output.chats} --summary {output.summary} 2>&1 | tee {log} >&2"


rule take_gamed:
    """AlpacaEval's verbose and concise reference rows, which length control is regularised with."""
    input:
        alpacaeval_folder,
    output:
        "results/data/{setting}/gamed.csv",
    log:
        "results/logs/take_gamed/{setting}.log",
    wildcard_constraints:
        setting=alternatives(BENCHMARKED),
    resources:
        mem_mb=100,
        runtime=5,
    shell:
        "cp {input}/df_gamed.csv {output} 2>&1 | tee {log} >&2"


rule tokenize:
    """Token ids of every pair, once for all methods, and a table of what the limits cut."""
    input:
        pairs="results/data/{setting}/pairs.parquet",
        tokenizer="results/models/{setting}/sft",
        prompts="results/data/{setting}/prompts.jsonl",
    output:
        tokens="results/data/{setting}/tokens.parquet",
        cuts="results/data/{setting}/tokens.json",
    log:
        "results/logs/tokenize/{setting}.log",
    benchmark:
        "results/benchmarks/tokenize/{setting}.tsv"
    priority: 2  # most jobs wait for it
    threads: 4
    params:
        record=record("tokenize"),
        needs=needs_of,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "python -m poet.data.tokenization --record {params.record:q} --pairs {input.pairs} "
        "--tokenizer {input.tokenizer} --prompts {input.prompts} --needs {params.needs:q} "
        "--output {output.tokens} --cuts {output.cuts} "
        "--workers {threads} "
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
    priority: 2  # trainings wait for it
    params:
        choice=lambda wildcards: " ".join(
            f"--{name} {value}" for name, value in TRUNCATED[wildcards.truncation].items()
        ),
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.data.truncation --tokens {input} {params.choice} --output {output} "
        "2>&1 | tee {log} >&2"
