# The sweep over beta and learning rate: each arm's best cell by validation, then all seeds of it.


checkpoint validate:
    """Mean true reward of every cell's answers to the held-out pairs' prompts; the best is chosen."""
    input:
        pairs="results/data/{setting}/pairs.parquet",
        models=cell_models,
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
        cells=lambda wildcards: list(poet_config.sweep_cells(SWEEP, wildcards.arm)),
        seed=SEEDS[0],
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=0,
    shell:
        "python -m poet.devices {resources.gpu} "
        "poet.evaluate.validation --record {params.record:q} --arm {wildcards.arm} "
        "--pairs {input.pairs} --cells {params.cells} --models {input.models} "
        "--seed {params.seed} --output {output} 2>&1 | tee {log} >&2"


rule tabulate_sweep:
    """Every cell with its validation reward; the chosen ones with their final scores and gains."""
    input:
        validations=VALIDATIONS,
        comparisons=[
            f"results/scores/{setting}/{annotator}/sweep.json"
            for setting in SWEEP["settings"]
            for annotator in CONFIG["settings"][setting]["annotators"]
        ],
    output:
        report(
            expand("results/tables/sweep.{ext}", ext=TABLE),
            caption=caption("sweep"),
            category="Tables",
        ),
    log:
        "results/logs/tabulate_sweep.log",
    benchmark:
        "results/benchmarks/tabulate_sweep.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python -m poet.report.sweep --validations {input.validations} "
        "--comparison {input.comparisons} --output {output} 2>&1 | tee {log} >&2"
