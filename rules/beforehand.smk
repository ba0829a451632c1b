# What an evaluation cannot use is to show before the trainings. Results wait for these, trainings do
# not: their priority is above all others'.


rule check_tasks:
    """Are the lm-eval tasks known, and can their data sets be read?"""
    input:
        datasets=task_datasets,
    output:
        "results/checks/{setting}/tasks.json",
    log:
        "results/logs/check_tasks/{setting}.log",
    benchmark:
        "results/benchmarks/check_tasks/{setting}.tsv"
    priority: 3
    params:
        settings=lambda wildcards: json.dumps(setting_of(wildcards)["downstream"], sort_keys=True),
        datasets=dataset_flags,
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "python -m poet.evaluate.beforehand tasks --settings {params.settings:q} {params.datasets} "
        "--output {output} 2>&1 | tee {log} >&2"


rule check_questions:
    """Do the prompts of a further benchmark fit the start model?"""
    input:
        prompts="results/{rate}/{setting}/prompts.jsonl",
        model="results/models/{setting}/sft",
    output:
        "results/checks/{setting}/{rate}.json",
    log:
        "results/logs/check_questions/{rate}-{setting}.log",
    benchmark:
        "results/benchmarks/check_questions/{rate}-{setting}.tsv"
    priority: 3
    params:
        record=record("tokenize"),
        needs=answers_needs,
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.evaluate.beforehand questions --record {params.record:q} "
        "--prompts {input.prompts} --model {input.model} --needs {params.needs:q} "
        "--output {output} 2>&1 | tee {log} >&2"


rule check_judge:
    """Can a judge that is not trained here judge, and read what it will be asked?"""
    input:
        prompts=judged_prompts,
        model=annotator_model,
    output:
        "results/checks/{setting}/{use}/{annotator}.json",
    log:
        "results/logs/check_judge/{setting}-{use}-{annotator}.log",
    benchmark:
        "results/benchmarks/check_judge/{setting}-{use}-{annotator}.tsv"
    priority: 3
    wildcard_constraints:
        use="annotators|safety",
    params:
        settings=annotator_settings,
        content=annotator_content,
        model=annotator_model_flag,
        needs=answers_needs,
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "python -m poet.evaluate.beforehand judge --annotator {wildcards.annotator} "
        "--settings {params.settings:q} {params.model} --prompts {input.prompts} "
        "--needs {params.needs:q} --output {output} 2>&1 | tee {log} >&2"
