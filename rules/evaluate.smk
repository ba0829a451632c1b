# Checks beforehand, answers, annotations, further benchmarks, scores. All seeds of a method share one
# process.


rule score:
    """Win rates of every seed, by alpaca-eval's own code, and what a comparison takes of them."""
    input:
        prompts="results/data/{setting}/prompts.jsonl",
        gamed=lambda w: paths.gamed(CONFIG, w.setting),
        generations=answers_at_hand,
        annotations=per_seed("results/annotations/{setting}/{annotator}/{method}/seed-{seed}.json"),
    output:
        per_seed("results/scores/{setting}/{annotator}/{method}/seed-{seed}.json"),
    log:
        "results/logs/score/{setting}-{annotator}-{method}.log",
    benchmark:
        "results/benchmarks/score/{setting}-{annotator}-{method}.tsv"
    params:
        gamed=lambda w, input: given("--gamed", input.gamed) or "--without-gamed",
        generations=lambda w, input: given("--generations", input.generations),
    resources:
        **LIGHT,
    shell:
        "python -m poet.evaluate.alpaca --annotations {input.annotations} "
        "--prompts {input.prompts} {params.gamed} {params.generations} "
        "--output {output} 2>&1 | tee {log} >&2"


rule compare:
    """Intervals over prompts and seeds, and the paired gains of POET, on the same prompts."""
    input:
        lambda w: files_of(compared_scores(w)),
    output:
        "results/scores/{setting}/{annotator}/{comparison}.json",
    log:
        "results/logs/compare/{setting}-{annotator}-{comparison}.log",
    benchmark:
        "results/benchmarks/compare/{setting}-{annotator}-{comparison}.tsv"
    params:
        kind=lambda w: CONFIG["annotators"][w.annotator]["kind"],
        scores=lambda w: flags("--method", compared_scores(w)),
        gains=lambda w: gain_flags(CONFIG, compared(w), compared(w)),
    resources:
        **LIGHT,
    shell:
        "python -m poet.evaluate.compare --setting {wildcards.setting} "
        "--annotator {wildcards.annotator} --kind {params.kind} "
        "{params.scores} {params.gains} --output {output} 2>&1 | tee {log} >&2"


if not ARCHIVED:

    rule check_tasks:
        """Are the lm-eval tasks known, and can their data sets be read?"""
        input:
            datasets=lambda w: files_of(sources.task_datasets(CONFIG, w.setting)),
            model=lambda w: paths.chat_model(CONFIG, w.setting),
        output:
            "results/checks/{setting}/tasks.json",
        log:
            "results/logs/check_tasks/{setting}.log",
        benchmark:
            "results/benchmarks/check_tasks/{setting}.tsv"
        priority: 3
        params:
            record=record("downstream"),
            datasets=lambda w: flags("--dataset", sources.task_datasets(CONFIG, w.setting)),
            model=lambda w, input: given("--model", input.model),
        resources:
            **READING,
        shell:
            "python -m poet.evaluate.beforehand tasks --record {params.record:q} {params.datasets} "
            "{params.model} --output {output} 2>&1 | tee {log} >&2"

    rule check_questions:
        """Do the prompts of a further benchmark fit the start model?"""
        input:
            prompts="results/{benchmark}/{setting}/prompts.jsonl",
            model="results/models/{setting}/sft",
        output:
            "results/checks/{setting}/{benchmark}.json",
        log:
            "results/logs/check_questions/{benchmark}-{setting}.log",
        benchmark:
            "results/benchmarks/check_questions/{benchmark}-{setting}.tsv"
        priority: 3
        params:
            record=record("tokenize"),
            needs=answer_needs,
        resources:
            **LIGHT,
        shell:
            "python -m poet.evaluate.beforehand questions --record {params.record:q} "
            "--prompts {input.prompts} --model {input.model} --needs {params.needs:q} "
            "--output {output} 2>&1 | tee {log} >&2"

    rule check_judge:
        """Can a judge that is not trained here judge, and read what it will be asked?"""
        input:
            prompts=lambda w: judging.prompts(w.setting, w.use),
            model=lambda w: judging.model(CONFIG, w.annotator, w.setting),
        output:
            "results/checks/{setting}/{use}/{annotator}.json",
        log:
            "results/logs/check_judge/{setting}-{use}-{annotator}.log",
        benchmark:
            "results/benchmarks/check_judge/{setting}-{use}-{annotator}.tsv"
        priority: 3
        wildcard_constraints:
            use=alternatives(["annotators", *BENCHMARKS]),
        params:
            settings=lambda w: judging.settings(CONFIG, w.annotator),
            content=lambda w: judging.content(CONFIG, w.annotator),
            model=lambda w, input: given("--model", input.model),
            needs=answer_needs,
        resources:
            **READING,
        shell:
            "python -m poet.evaluate.beforehand judge --annotator {wildcards.annotator} "
            "--settings {params.settings:q} {params.model} --prompts {input.prompts} "
            "--needs {params.needs:q} --output {output} 2>&1 | tee {log} >&2"

    rule generate:
        """Sample an answer to every evaluation prompt with every seed of a method."""
        input:
            prompts="results/data/{setting}/prompts.jsonl",
            models=lambda w: paths.models(CONFIG, w.setting, w.method),
            trained_on=lambda w: paths.tokens_info(w.setting, w.method),
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
            trained_on=lambda w, input: given("--tokens-info", input.trained_on),
            engine=lambda w: sources.engine_flag(CONFIG, w.setting),
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("generate"),
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
            model=lambda w: judging.model(CONFIG, w.annotator, w.setting),
            checked=lambda w: judging.check(CONFIG, w.annotator, w.setting, "annotators"),
        output:
            judged=per_seed("results/annotations/{setting}/{annotator}/{method}/seed-{seed}.json"),
            usage="results/annotations/{setting}/{annotator}/{method}/usage.json",
        log:
            "results/logs/annotate/{setting}-{annotator}-{method}.log",
        benchmark:
            "results/benchmarks/annotate/{setting}-{annotator}-{method}.tsv"
        priority: 1  # scores and analyses wait for it
        wildcard_constraints:
            annotator=alternatives(set(CONFIG["annotators"]) - BOUGHT),
        params:
            record=record("annotate"),
            settings=lambda w: judging.settings(CONFIG, w.annotator),
            limits=lambda w, input: json.dumps(judging.limits(CONFIG, w.annotator)),
            content=lambda w: judging.content(CONFIG, w.annotator),
            model=lambda w, input: given("--model", input.model),
            benchmark=lambda w: given("--benchmark", w.get("benchmark")),
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("annotate"),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.evaluate.annotate {params.benchmark} --record {params.record:q} "
            "--annotator {wildcards.annotator} --settings {params.settings:q} "
            "--limits {params.limits:q} {params.model} --prompts {input.prompts} "
            "--generations {input.generations} --output {output.judged} --usage {output.usage} "
            "2>&1 | tee {log} >&2"

    use rule annotate as buy_annotations with:
        # The judge is behind a network, which a cluster's nodes may lack. Its key stays in the environment.
        localrule: True
        wildcard_constraints:
            annotator=alternatives(BOUGHT),

    rule evaluate_downstream:
        """The setting's lm-eval tasks with every seed of a method."""
        input:
            models=lambda w: paths.models(CONFIG, w.setting, w.method),
            tasks=lambda w: paths.tasks(CONFIG, w.setting),
            datasets=lambda w: files_of(sources.task_datasets(CONFIG, w.setting)),
            checked=lambda w: paths.tasks_check(CONFIG, w.setting),
        output:
            per_seed("results/downstream/{setting}/{method}/seed-{seed}.json"),
        log:
            "results/logs/evaluate_downstream/{setting}-{method}.log",
        benchmark:
            "results/benchmarks/evaluate_downstream/{setting}-{method}.tsv"
        params:
            record=record("downstream"),
            tasks=lambda w, input: given("--tasks-dir", input.tasks),
            datasets=lambda w: flags("--dataset", sources.task_datasets(CONFIG, w.setting)),
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("evaluate_downstream"),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.evaluate.downstream --record {params.record:q} --models {input.models} "
            "{params.tasks} {params.datasets} --output {output} "
            "2>&1 | tee {log} >&2"

    rule read_questions:
        """The prompts of a benchmark, with the baseline's answers where it has one."""
        input:
            lambda w: sources.each_file(sources.folder, CONFIG, w.setting, w.benchmark),
        output:
            "results/{benchmark}/{setting}/prompts.jsonl",
        log:
            "results/logs/read_questions/{benchmark}-{setting}.log",
        benchmark:
            "results/benchmarks/read_questions/{benchmark}-{setting}.tsv"
        priority: 3  # what is wrong with them is to show before the trainings
        params:
            flags=lambda w: sources.question_flags(CONFIG, w.benchmark, w.setting),
            content=lambda w: sources.each_file(sources.content, CONFIG, w.setting, w.benchmark),
        resources:
            **LIGHT,
        shell:
            "python -m poet.evaluate.questions {wildcards.benchmark} {params.flags} "
            "--output {output} 2>&1 | tee {log} >&2"

    use rule generate as answer_questions with:
        input:
            prompts="results/{benchmark}/{setting}/prompts.jsonl",
            models=lambda w: paths.models(CONFIG, w.setting, w.method),
            trained_on=lambda w: paths.tokens_info(w.setting, w.method),
            checked="results/checks/{setting}/{benchmark}.json",
        output:
            answers=per_seed("results/{benchmark}/{setting}/answers/{method}/seed-{seed}.json"),
            summary="results/{benchmark}/{setting}/answers/{method}/summary.json",
        log:
            "results/logs/answer_questions/{benchmark}-{setting}-{method}.log",
        benchmark:
            "results/benchmarks/answer_questions/{benchmark}-{setting}-{method}.tsv"

    use rule annotate as judge_answers with:
        # A verdict on every answer, by an annotator or by the benchmark's own program.
        input:
            prompts="results/{benchmark}/{setting}/prompts.jsonl",
            generations=per_seed("results/{benchmark}/{setting}/answers/{method}/seed-{seed}.json"),
            model=lambda w: judging.model(CONFIG, w.annotator, w.setting),
            checked=lambda w: judging.check(CONFIG, w.annotator, w.setting, w.benchmark),
        output:
            judged=per_seed("results/{benchmark}/{setting}/{annotator}/{method}/seed-{seed}.json"),
            usage="results/{benchmark}/{setting}/{annotator}/{method}/usage.json",
        log:
            "results/logs/judge_answers/{benchmark}-{setting}-{annotator}-{method}.log",
        benchmark:
            "results/benchmarks/judge_answers/{benchmark}-{setting}-{annotator}-{method}.tsv"
        priority: 0
        wildcard_constraints:
            annotator=alternatives(members.judges(CONFIG) - BOUGHT),

    use rule judge_answers as buy_verdicts with:
        localrule: True
        wildcard_constraints:
            annotator=alternatives(members.judges(CONFIG) & BOUGHT),

    rule summarise:
        """A benchmark's scores of every method with intervals, and the paired gains of POET."""
        input:
            lambda w: files_of(paths.verdicts(CONFIG, w.benchmark, w.setting)),
        output:
            "results/{benchmark}/{setting}/{annotator}/summary.json",
        log:
            "results/logs/summarise/{benchmark}-{setting}-{annotator}.log",
        benchmark:
            "results/benchmarks/summarise/{benchmark}-{setting}-{annotator}.tsv"
        params:
            methods=lambda w: flags("--method", paths.verdicts(CONFIG, w.benchmark, w.setting)),
            gains=lambda w: gain_flags(CONFIG, GRID[w.setting]),
        resources:
            **LIGHT,
        shell:
            "python -m poet.evaluate.summary {wildcards.benchmark} --setting {wildcards.setting} "
            "--annotator {wildcards.annotator} {params.methods} {params.gains} --output {output} "
            "2>&1 | tee {log} >&2"
