# Does POET suit the data, and where and why a method helps.


if not ARCHIVED:

    rule diagnose_pairs:
        """Lengths, orders and defects of the training pairs, and whether POET suits them."""
        input:
            pairs="results/data/{setting}/pairs.parquet",
            corpus="results/data/{setting}/corpus.parquet",
            prompts="results/data/{setting}/prompts.jsonl",
        output:
            json="results/analysis/{setting}/diagnosis.json",
            figure="results/analysis/{setting}/diagnosis.csv",
        log:
            "results/logs/diagnose_pairs/{setting}.log",
        benchmark:
            "results/benchmarks/diagnose_pairs/{setting}.tsv"
        params:
            record=record("diagnose"),
            content=lambda w: sources.base_content(CONFIG, w.setting),
            tokenizer=lambda w, input: sources.diagnosis_flags(CONFIG, w.setting, input.corpus),
        resources:
            **READING,
        shell:
            "python -m poet.analyse.diagnose --record {params.record:q} --pairs {input.pairs} "
            "{params.tokenizer} --evaluation-prompts {input.prompts} --output {output.json} "
            "--figure {output.figure} 2>&1 | tee {log} >&2"

    rule measure_prefixes:
        """Quality of prefixes: of chosen against rejected, and of what the models write first."""
        input:
            lambda w: files_of(paths.analysed_answers(CONFIG, w.setting)),
            pairs="results/data/{setting}/pairs.parquet",
            tokens="results/data/{setting}/tokens.parquet",
            prompts="results/data/{setting}/prompts.jsonl",
            start="results/models/{setting}/sft",
            scorer=lambda w: judging.model(CONFIG, scorer_of(CONFIG, w.setting), w.setting),
            checked=lambda w: judging.check(
                CONFIG, scorer_of(CONFIG, w.setting), w.setting, "annotators"
            ),
        output:
            json="results/analysis/{setting}/prefix_quality.json",
            figure="results/analysis/{setting}/prefix_quality.csv",
            completions="results/analysis/{setting}/prefix_completions.parquet",
        log:
            "results/logs/measure_prefixes/{setting}.log",
        benchmark:
            "results/benchmarks/measure_prefixes/{setting}.tsv"
        priority: 1  # long, and among the last
        params:
            record=record("prefix_quality"),
            content=lambda w: judging.content(CONFIG, scorer_of(CONFIG, w.setting)),
            annotator=lambda w: scorer_of(CONFIG, w.setting),
            settings=lambda w: judging.settings(CONFIG, scorer_of(CONFIG, w.setting)),
            model=lambda w, input: given("--model", input.scorer),
            generations=lambda w: flags("--generations", paths.analysed_answers(CONFIG, w.setting)),
            gains=lambda w: gain_flags(CONFIG, members.methods_of(CONFIG, "main", w.setting)),
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("measure_prefixes", runtime=480),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.analyse.prefix_quality --record {params.record:q} --pairs {input.pairs} "
            "--tokens {input.tokens} --prompts {input.prompts} --start {input.start} "
            "--annotator {params.annotator} --settings {params.settings:q} {params.model} "
            "{params.generations} {params.gains} --output {output.json} "
            "--figure {output.figure} --completions {output.completions} 2>&1 | tee {log} >&2"

    rule measure_reward_gap:
        """Implicit rewards of every prefix of the held-out pairs, before and after training."""
        input:
            lambda w: files_of(paths.analysed_answers(CONFIG, w.setting)),
            lambda w: files_of(judging.scorers_annotations(CONFIG, w.setting)),
            lambda w: files_of(paths.trained_models(CONFIG, w.setting, "main")),
            tokens="results/data/{setting}/tokens.parquet",
            reference="results/data/{setting}/reference.parquet",
            start="results/models/{setting}/sft",
        output:
            json="results/analysis/{setting}/reward_gap.json",
            curves="results/analysis/{setting}/reward_gap.csv",
            positions="results/analysis/{setting}/token_positions.csv",
        log:
            "results/logs/measure_reward_gap/{setting}.log",
        benchmark:
            "results/benchmarks/measure_reward_gap/{setting}.tsv"
        priority: 1  # long, and among the last
        params:
            record=record("reward_gap"),
            models=lambda w: flags("--models", paths.trained_models(CONFIG, w.setting, "main")),
            generations=lambda w: flags("--generations", paths.analysed_answers(CONFIG, w.setting)),
            annotations=lambda w: flags(
                "--annotations", judging.scorers_annotations(CONFIG, w.setting)
            ),
            # No objective trained the start model: it has no implicit rewards.
            gains=lambda w: gain_flags(CONFIG, paths.trained_models(CONFIG, w.setting, "main")),
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("measure_reward_gap"),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.analyse.reward_gap --record {params.record:q} --tokens {input.tokens} "
            "--reference {input.reference} --start {input.start} {params.models} "
            "{params.generations} {params.annotations} {params.gains} --output {output.json} "
            "--curves {output.curves} --positions {output.positions} 2>&1 | tee {log} >&2"
