# The sweep over beta and learning rate: each arm's best cell by validation, then all seeds of it.


if not ARCHIVED:

    checkpoint validate:
        """Mean true reward of every cell's answers to the held-out pairs' prompts; the best is chosen."""
        input:
            pairs="results/data/{setting}/pairs.parquet",
            models=lambda w: paths.cell_models(CONFIG, w.setting, w.arm),
        output:
            "results/sweep/{setting}/{arm}.json",
        log:
            "results/logs/validate/{setting}-{arm}.log",
        benchmark:
            "results/benchmarks/validate/{setting}-{arm}.tsv"
        wildcard_constraints:
            arm=alternatives(SWEEP["methods"]),
        params:
            record=record("generate"),
            cells=lambda w: members.cells(CONFIG, w.arm),
            seed=SEEDS[0],
        threads: CONFIG["torch_threads"]
        resources:
            **of_model("validate"),
        shell:
            "python -m poet.devices {resources.gpu} "
            "poet.evaluate.validation --record {params.record:q} --arm {wildcards.arm} "
            "--pairs {input.pairs} --cells {params.cells} --models {input.models} "
            "--seed {params.seed} --output {output} 2>&1 | tee {log} >&2"
