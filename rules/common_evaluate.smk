# Helpers of the evaluation rules.


def tokens_info(wildcards):
    """Of the tokens that a method's models were trained on; none for the start model."""
    if wildcards.method == "sft":
        return []
    return f"results/data/{wildcards.setting}/tokens.json"


def trained_on_flag(wildcards, input):
    """`--tokens-info FILE`, where the method was trained here."""
    return f"--tokens-info {input.trained_on}" if input.trained_on else ""


def engine_flag(wildcards):
    """`--vllm-python INTERPRETER`, where the setting's answers are vLLM's."""
    vllm = setting_of(wildcards)["generation"]["backend"] == "vllm"
    return f"--vllm-python {shlex.quote(CONFIG['vllm_python'])}" if vllm else ""


def check_engine(jobs):
    """Say that vLLM is missing before the trainings, not after them."""
    interpreter = CONFIG["vllm_python"]
    if os.path.isfile(interpreter):
        return
    for job in jobs:
        if job.params.get("engine") or '"vllm_python"' in str(job.params.get("settings")):
            raise WorkflowError(
                f"vllm_python is {interpreter}, which does not exist, and {job.rule.name} of "
                f"{job.wildcards.setting} asks for `backend: vllm`. `make vllm` sets it up (it needs "
                "a GPU); `backend: transformers` or `continuous` needs nothing more."
            )


def check_keys(jobs):
    """Say before the trainings that nothing can be bought; what is in a judge's store needs nothing."""
    for name in {job.wildcards.annotator for job in jobs if job.rule.name.startswith("buy_")}:
        section, where = CONFIG["annotators"][name], f"annotators.{name}"
        store = Path(section["store"], name)
        try:
            store.mkdir(parents=True, exist_ok=True)
            with open(store / "answers.jsonl", "ab"):
                empty = not os.path.getsize(store / "answers.jsonl")
        except OSError as error:
            raise WorkflowError(
                f"{where}.store is {section['store']}, where nothing can be written: "
                f"{error.strerror} ({error.filename})"
            ) from None
        variable = section.get("key_variable")
        if empty and variable and not os.environ.get(variable):
            raise WorkflowError(
                f"{where}: the environment variable {variable} is empty; expected the server's key. "
                "Export it and run again."
            )
        if empty and not section["max_cost"] and any(section["price"].values()):
            raise WorkflowError(
                f"{where}.max_cost is 0 and the price is not: nothing would be bought. Say how many "
                "US dollars this judge may cost; `make plan` estimates it."
            )


def annotator_of(wildcards):
    """The configuration's section of a rule's annotator."""
    return CONFIG["annotators"][wildcards.annotator]


def judging_model(name, setting):
    """The folder of an annotator's model: the hub's, the setting's own reward model, or none."""
    section = CONFIG["annotators"][name]
    if section["kind"] == "reward_model" and "name" not in section:
        return f"results/models/{setting}/reward_model"
    return hub_folder(section.get("name"))


def judging_settings(name):
    """The annotator's section as JSON, an unpinned revision looked up: its change re-runs a rule."""
    section = dict(CONFIG["annotators"][name])
    if section.get("name") in REPOSITORIES:
        section["revision"] = locks.pinned(CONFIG["lock"], section["name"], section.get("revision"))
    if section.get("backend") == "vllm":
        section["vllm_python"] = CONFIG["vllm_python"]
    return json.dumps(section, sort_keys=True)


def annotator_model(wildcards):
    """The folder of the annotator's model, if it has one that a rule makes."""
    return judging_model(wildcards.annotator, wildcards.setting)


def judge_check(name, setting, use):
    """What the rule check_judge says of a model or a replay; nothing of what is ours, or bought."""
    section = CONFIG["annotators"][name]
    loaded = section["kind"] in ("local_judge", "replay") or (
        section["kind"] == "reward_model" and hub_folder(section.get("name"))
    )
    return f"results/checks/{setting}/{use}/{name}.json" if loaded else []


def judged_prompts(wildcards):
    """The prompts whose answers an annotator judges."""
    folder = {"annotators": "data"}.get(wildcards.use, wildcards.use)
    return f"results/{folder}/{wildcards.setting}/prompts.jsonl"


def tasks_check(wildcards):
    """What the rule check_tasks says; nothing of the world's own tasks, which the schema knows."""
    return [] if wildcards.setting in WORLDS else f"results/checks/{wildcards.setting}/tasks.json"


def annotator_content(wildcards):
    """Digests of what the annotator has on this machine: model, judge, annotations to replay."""
    return local_inputs.content_of_annotator(annotator_of(wildcards))


def annotator_settings(wildcards):
    """The annotator's section as JSON."""
    return judging_settings(wildcards.annotator)


def annotator_model_flag(wildcards, input):
    """--model FOLDER where a rule makes the annotator's model, or nothing."""
    return f"--model {input.model}" if input.model else ""
