# Pairs, tokens and truncated tokens: simulated, from the hub, or from this machine.


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
        **LIGHT,
    shell:
        "python -m poet.world.simulate --record {params.record:q} --pairs {output.pairs} "
        "--corpus {output.corpus} --prompts {output.prompts} --gamed {output.gamed} "
        "--tasks {output.tasks} 2>&1 | tee {log} >&2"


if not ARCHIVED:

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
            lock=lambda w, input: CONFIG["lock"],  # not compared: what counts is the entry
            pinned=lambda w: sources.pinned(CONFIG, w.repository),
        shell:
            "HF_HUB_OFFLINE=0 python -m poet.hub.download --repository {wildcards.repository} "
            "--lock {params.lock:q} --output {output} 2>&1 | tee {log} >&2"

    rule load:
        """Read preference pairs from a local file or the hub, check them, split them by prompt."""
        input:
            pairs=lambda w: sources.folder(CONFIG, w.setting, "data"),
            alpacaeval=lambda w: sources.folder(CONFIG, w.setting, "data", "evaluation"),
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
            content=lambda w: sources.content(CONFIG, w.setting, "data"),
            pairs=lambda w, input: given("--dataset", input.pairs),
            alpacaeval=lambda w, input: given("--alpacaeval", input.alpacaeval),
        resources:
            **READING,
        shell:
            "python -m poet.data.preferences --record {params.record:q} {params.pairs} "
            "{params.alpacaeval} --pairs {output.pairs} --corpus {output.corpus} "
            "--prompts {output.prompts} --summary {output.summary} 2>&1 | tee {log} >&2"

    rule take_model:
        """The start model: a published checkpoint as it is."""
        input:
            base=lambda w: sources.base_model(CONFIG, w.setting),
        output:
            directory("results/models/{setting}/sft"),
        log:
            "results/logs/take_model/{setting}.log",
        benchmark:
            "results/benchmarks/take_model/{setting}.tsv"
        wildcard_constraints:
            setting=alternatives(set(GRID) - set(TUNED)),
        params:
            record=record("start"),
            content=lambda w: sources.base_content(CONFIG, w.setting),
            needs=model_needs,
            base=lambda w, input: given("--base", input.base),
        resources:
            **LIGHT,
        shell:
            "python -m poet.train.start --record {params.record:q} {params.base} "
            "--needs {params.needs:q} --output {output} 2>&1 | tee {log} >&2"

    rule load_chats:
        """Conversations to train the start model on, where the configuration names a data set."""
        input:
            chats=lambda w: sources.folder(CONFIG, w.setting, "sft"),
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
            content=lambda w: sources.content(CONFIG, w.setting, "sft"),
            folder=lambda w, input: given("--folder", input.chats),
        resources:
            mem_mb=8000,
            runtime=60,
        shell:
            "python -m poet.data.chats --record {params.record:q} {params.folder} "
            "--output {output.chats} --summary {output.summary} 2>&1 | tee {log} >&2"

    rule take_gamed:
        """AlpacaEval's verbose and concise reference rows, which length control is regularised with."""
        input:
            lambda w: sources.folder(CONFIG, w.setting, "data", "evaluation"),
        output:
            "results/data/{setting}/gamed.csv",
        log:
            "results/logs/take_gamed/{setting}.log",
        wildcard_constraints:
            setting=alternatives(members.benchmarked(CONFIG)),
        resources:
            **LIGHT,
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
            needs=model_needs,
        resources:
            **READING,
        shell:
            "python -m poet.data.tokenization --record {params.record:q} --pairs {input.pairs} "
            "--tokenizer {input.tokenizer} --prompts {input.prompts} --needs {params.needs:q} "
            "--output {output.tokens} --cuts {output.cuts} --workers {threads} "
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
            choice=lambda w: [
                f"--{key} {value}" for key, value in TRUNCATIONS[w.truncation].items()
            ],
        resources:
            **LIGHT,
        shell:
            "python -m poet.data.truncation --tokens {input} {params.choice} "
            "--output {output} 2>&1 | tee {log} >&2"
