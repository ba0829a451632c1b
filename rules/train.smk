# The start model, the reference's log-probabilities, the preference methods, the reward model.


if not ARCHIVED:

    rule sft:
        """The start model, trained on the corpus."""
        input:
            corpus=lambda w: paths.corpus(CONFIG, w.setting),
            base=lambda w: sources.base_model(CONFIG, w.setting),
        output:
            kept("results/models/{setting}/sft"),
        log:
            "results/logs/sft/{setting}.log",
        benchmark:
            "results/benchmarks/sft/{setting}.tsv"
        wildcard_constraints:
            setting=alternatives(TUNED),
        threads: lambda w: CONFIG["settings"][w.setting]["sft"].get("torch_threads", 1)
        params:
            record=record("sft"),
            run=run_flags,
            content=lambda w: sources.base_content(CONFIG, w.setting),
            needs=model_needs,
            base=lambda w, input: given("--base", input.base),
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("sft"),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.train.sft --record {params.record:q} --corpus {input.corpus} "
            "{params.base} --needs {params.needs:q} --output {output} "
            "--checkpoints results/checkpoints/sft/{wildcards.setting} "
            "--logs results/logs/tensorboard/{wildcards.setting}/sft {params.run} 2>&1 | tee {log} >&2"

    rule reference:
        """Per-token log-probabilities of the start model on the full pairs, once per setting."""
        input:
            tokens="results/data/{setting}/tokens.parquet",
            model="results/models/{setting}/sft",
        output:
            "results/data/{setting}/reference.parquet",
        log:
            "results/logs/reference/{setting}.log",
        benchmark:
            "results/benchmarks/reference/{setting}.tsv"
        priority: 2  # every training waits for it
        params:
            record=record("reference"),
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("reference"),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.train.reference --record {params.record:q} --tokens {input.tokens} "
            "--model {input.model} --output {output} 2>&1 | tee {log} >&2"

    rule train:
        """One method with one seed, from the start model."""
        input:
            tokens=lambda w: paths.tokens(CONFIG, w.setting, w.method),
            reference="results/data/{setting}/reference.parquet",
            model="results/models/{setting}/sft",
        output:
            kept("results/models/{setting}/{method}/seed-{seed}"),
        log:
            "results/logs/train/{setting}-{method}-{seed}.log",
        benchmark:
            "results/benchmarks/train/{setting}-{method}-{seed}.tsv"
        priority: 2  # all measurements wait for it
        wildcard_constraints:
            method=alternatives(CONFIG["methods"]),
        params:
            record=record("train"),
            run=run_flags,
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("train", runtime=480),
            sharding="fsdp",  # of more than one GPU: accelerate, with this one of config/accelerate
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.train.launch --gpus {resources.gpu} --sharding {resources.sharding} "
            "poet.train.preference --record {params.record:q} --tokens {input.tokens} "
            "--reference {input.reference} --model {input.model} --output {output} --checkpoints "
            "results/checkpoints/train/{wildcards.setting}/{wildcards.method}/seed-{wildcards.seed} "
            "--logs results/logs/tensorboard/{wildcards.setting}/{wildcards.method}/seed-{wildcards.seed} "
            "{params.run} 2>&1 | tee {log} >&2"

    rule train_reward_model:
        """A Bradley-Terry reward model on the training split, to annotate own data without a judge."""
        input:
            pairs="results/data/{setting}/pairs.parquet",
            model="results/models/{setting}/sft",
        output:
            kept("results/models/{setting}/reward_model"),
        log:
            "results/logs/train_reward_model/{setting}.log",
        benchmark:
            "results/benchmarks/train_reward_model/{setting}.tsv"
        params:
            record=record("reward_model"),
            run=run_flags,
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("train_reward_model"),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.train.reward_model --record {params.record:q} --pairs {input.pairs} "
            "--base {input.model} --output {output} "
            "--checkpoints results/checkpoints/reward_model/{wildcards.setting} "
            "--logs results/logs/tensorboard/{wildcards.setting}/reward_model {params.run} "
            "2>&1 | tee {log} >&2"
