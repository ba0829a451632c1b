# Beta and learning rate: which cells there are, and which were chosen.
SWEEP = CONFIG.get("sweep", {"settings": [], "methods": []})
SWEEP_TABLE = expand("results/tables/sweep.{ext}", ext=TABLE) if SWEEP["settings"] else []
VALIDATIONS = expand(
    "results/sweep/{setting}/{arm}.json", setting=SWEEP["settings"], arm=SWEEP["methods"]
)


def cell_models(wildcards):
    """The first seed's model of every cell of an arm."""
    return [
        f"results/models/{wildcards.setting}/{method}/seed-{SEEDS[0]}"
        for method in poet_config.sweep_cells(SWEEP, wildcards.arm)
    ]


def chosen_cells(setting):
    """Arm -> the method that validation chose for it."""
    chosen = {}
    for arm in SWEEP["methods"]:
        path = checkpoints.validate.get(setting=setting, arm=arm).output[0]
        chosen[arm] = json.loads(Path(path).read_text())["chosen"]
    return chosen
