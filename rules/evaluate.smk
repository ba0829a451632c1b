# Answers, annotations, scores and comparisons. All seeds of a method share one process.


rule generate:
    """Sample an answer to every evaluation prompt with every seed of a method."""
    input:
        prompts="results/data/{setting}/prompts.jsonl",
        models=model_folders,
        trained_on=tokens_info,
    output:
        answers=per_seed("results/generations/{setting}/{method}/seed-{seed}.json"),
        summary="results/generations/{setting}/{method}/summary.json",
    log:
        "results/logs/generate/{setting}-{method}.log",
    benchmark:
        "results/benchmarks/generate/{setting}-{method}.tsv"
    priority: 1  # the analyses wait for it
    params:
        record=record("generate"),
        seeds=SEEDS,
        trained_on=trained_on_flag,
        engine=engine_flag,
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
    shell:
        "python -m poet.devices {resources.gpu} "
        "poet.evaluate.generation --record {params.record:q} --prompts {input.prompts} "
        "--models {input.models} --seeds {params.seeds} {params.trained_on} "
        "{params.engine} --output {output.answers} --summary {output.summary} "
        "2>&1 | tee {log} >&2"


rule annotate:
    """Compare every answer with the reference answer."""
    input:
        prompts="results/data/{setting}/prompts.jsonl",
        generations=per_seed("results/generations/{setting}/{method}/seed-{seed}.json"),
        model=annotator_model,
        checked=lambda wildcards: judge_check(wildcards.annotator, wildcards.setting, "annotators"),
    output:
        annotations=per_seed("results/annotations/{setting}/{annotator}/{method}/seed-{seed}.json"),
        usage="results/annotations/{setting}/{annotator}/{method}/usage.json",
    log:
        "results/logs/annotate/{setting}-{annotator}-{method}.log",
    benchmark:
        "results/benchmarks/annotate/{setting}-{annotator}-{method}.tsv"
    priority: 1  # scores and analyses wait for it
    wildcard_constraints:
        annotator=alternatives(set(CONFIG["annotators"]) - set(BOUGHT)),
    params:
        record=record("annotate"),
        settings=annotator_settings,
        content=annotator_content,
        model=annotator_model_flag,
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
    shell:
        "python -m poet.devices {resources.gpu} "
        "poet.evaluate.annotators --record {params.record:q} "
        "--annotator {wildcards.annotator} "
        "--settings {params.settings:q} {params.model} --prompts {input.prompts} "
        "--generations {input.generations} --output {output.annotations} --usage {output.usage} "
        "2>&1 | tee {log} >&2"


use rule annotate as buy_annotations with:
    # The judge is behind a network, which a cluster's nodes may lack. Its key stays in the environment.
    localrule:
        True
    wildcard_constraints:
        annotator=alternatives(BOUGHT),


rule evaluate_downstream:
    """The setting's lm-eval tasks with every seed of a method."""
    input:
        models=model_folders,
        tasks=tasks_folder,
        datasets=task_datasets,
        checked=tasks_check,
    output:
        per_seed("results/downstream/{setting}/{method}/seed-{seed}.json"),
    log:
        "results/logs/evaluate_downstream/{setting}-{method}.log",
    benchmark:
        "results/benchmarks/evaluate_downstream/{setting}-{method}.tsv"
    params:
        record=record("downstream"),
        tasks=lambda wildcards, input: f"--tasks-dir {input.tasks}" if input.tasks else "",
        datasets=dataset_flags,
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
    shell:
        "python -m poet.devices {resources.gpu} "
        "poet.evaluate.downstream --record {params.record:q} --models {input.models} "
        "{params.tasks} {params.datasets} --output {output} "
        "2>&1 | tee {log} >&2"
