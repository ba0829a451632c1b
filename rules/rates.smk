# Further benchmarks: the safety rate, and Arena-Hard scores.


rule read_questions:
    """The prompts of a benchmark, with the baseline's answers where it has one."""
    input:
        question_folders,
    output:
        "results/{rate}/{setting}/prompts.jsonl",
    log:
        "results/logs/read_questions/{rate}-{setting}.log",
    benchmark:
        "results/benchmarks/read_questions/{rate}-{setting}.tsv"
    priority: 3  # what is wrong with them is to show before the trainings
    params:
        flags=question_flags,
        content=question_content,
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.evaluate.questions {params.flags} --output {output} 2>&1 | tee {log} >&2"


use rule generate as answer_questions with:
    input:
        prompts="results/{rate}/{setting}/prompts.jsonl",
        models=model_folders,
        trained_on=tokens_info,
        checked="results/checks/{setting}/{rate}.json",
    output:
        answers=per_seed("results/{rate}/{setting}/answers/{method}/seed-{seed}.json"),
        summary="results/{rate}/{setting}/answers/{method}/summary.json",
    log:
        "results/logs/answer_questions/{rate}-{setting}-{method}.log",
    benchmark:
        "results/benchmarks/answer_questions/{rate}-{setting}-{method}.tsv"


rule judge_safety:
    """Is every answer safe?"""
    input:
        generations=per_seed("results/safety/{setting}/answers/{method}/seed-{seed}.json"),
        model=annotator_model,
        checked=lambda wildcards: judge_check(wildcards.annotator, wildcards.setting, "safety"),
    output:
        verdicts=per_seed("results/safety/{setting}/{annotator}/{method}/seed-{seed}.json"),
        usage="results/safety/{setting}/{annotator}/{method}/usage.json",
    log:
        "results/logs/judge_safety/{setting}-{annotator}-{method}.log",
    benchmark:
        "results/benchmarks/judge_safety/{setting}-{annotator}-{method}.tsv"
    wildcard_constraints:
        annotator=judges_of("safety", bought=False),
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
        "poet.evaluate.safety --record {params.record:q} "
        "--annotator {wildcards.annotator} --settings {params.settings:q} {params.model} "
        "--generations {input.generations} --output {output.verdicts} --usage {output.usage} "
        "2>&1 | tee {log} >&2"


use rule judge_safety as buy_safety_verdicts with:
    localrule: True
    wildcard_constraints:
        annotator=judges_of("safety", bought=True),


use rule annotate as buy_arena_verdicts with:
    input:
        prompts="results/arena/{setting}/prompts.jsonl",
        generations=per_seed("results/arena/{setting}/answers/{method}/seed-{seed}.json"),
        model=[],
    output:
        annotations=per_seed("results/arena/{setting}/{annotator}/{method}/seed-{seed}.json"),
        usage="results/arena/{setting}/{annotator}/{method}/usage.json",
    localrule: True
    log:
        "results/logs/buy_arena_verdicts/{setting}-{annotator}-{method}.log",
    benchmark:
        "results/benchmarks/buy_arena_verdicts/{setting}-{annotator}-{method}.tsv"
    wildcard_constraints:
        annotator=judges_of("arena", bought=True),
    params:
        record=arena_record,
        settings=annotator_settings,
        content=annotator_content,
        model=annotator_model_flag,


rule rate:
    """Rates of every method with intervals, and the paired gains of POET."""
    input:
        lambda wildcards: sum(verdicts_of(wildcards.rate, wildcards.setting).values(), []),
    output:
        "results/{rate}/{setting}/{annotator}/rates.json",
    log:
        "results/logs/rate/{rate}-{setting}-{annotator}.log",
    benchmark:
        "results/benchmarks/rate/{rate}-{setting}-{annotator}.tsv"
    params:
        methods=lambda wildcards: [
            f"--method {method} {' '.join(files)}"
            for method, files in verdicts_of(wildcards.rate, wildcards.setting).items()
        ],
        gains=lambda wildcards: gains_between(GRID[wildcards.setting]),
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m poet.evaluate.rates {wildcards.rate} --setting {wildcards.setting} "
        "--annotator {wildcards.annotator} {params.methods} {params.gains} --output {output} "
        "2>&1 | tee {log} >&2"
