# What comes from outside. Of the hub: where the rule download puts it, and who reads it. Of this
# machine: digests of what is in the files and folders, as parameters (see poet.local_inputs).


def hub_folder(name):
    """The folder of a hub repository; none for a local folder, or for None."""
    return f"results/hub/{name}" if name in REPOSITORIES else []


def pinned_files(wildcards):
    """What the lock says of a repository; None before `make lock`, which the job then asks for."""
    return json.dumps(locks.read(CONFIG["lock"]).get(wildcards.repository), sort_keys=True)


def check_lock(jobs):
    """Say that the lock lacks a repository, or that a folder is mistyped, before anything is done."""
    for job in jobs:
        name = job.wildcards.get("repository")
        if job.rule.name == "diagnose_pairs":
            name = setting_of(job.wildcards)["model"].get("name")
        if name in REPOSITORIES and name not in locks.read(CONFIG["lock"]):
            mistyped = Path(name.removeprefix("datasets/")).absolute()
            raise WorkflowError(
                f"{name} is not in the lock file {CONFIG['lock']}, which says what the hub has to "
                f"deliver. With access to the hub, run once:\n  {lock_command()}\n"
                f"If a path on this machine is meant: there is no {mistyped}."
            )


def lock_command():
    """`make lock` with this run's configuration file and command line."""
    files, given = workflow.configfiles, workflow.config_settings.config.items()
    command = " ".join(f"make lock CONFIG={shlex.quote(os.path.relpath(file))}" for file in files)
    said = shlex.join(f"{key}={value}" for key, value in given)
    arguments = shlex.quote(f"--config {said}")
    return f"{command} ARGS={arguments}" if said else command


def pairs_folder(wildcards):
    """The folder of a setting's pairs, where they are a data set of the hub's."""
    data = setting_of(wildcards)["data"]
    return hub_folder(f"datasets/{data['dataset']}") if data["kind"] == "hub" else []


def pairs_content(wildcards):
    """The digest of the file of a setting's pairs, where they are one."""
    data = setting_of(wildcards)["data"]
    return digests.digest(data["path"]) if data["kind"] == "file" else None


def chats_folder(wildcards):
    """The folder of a start model's chats, where they are a data set of the hub's."""
    return hub_folder(f"datasets/{setting_of(wildcards)['sft']['dataset']}")


def chats_content(wildcards):
    """The digest of the file of a start model's chats, where they are one."""
    return None if chats_folder(wildcards) else digests.digest(setting_of(wildcards)["sft"]["dataset"])


def chats_flag(wildcards, input):
    """`--folder FOLDER`, where the chats are the hub's."""
    return f"--folder {input.chats}" if input.chats else ""


def sft_corpus(wildcards):
    """What the start model is trained on: chats of its own, or what comes with the pairs."""
    name = "chats" if "dataset" in setting_of(wildcards)["sft"] else "corpus"
    return f"results/data/{wildcards.setting}/{name}.parquet"


def alpacaeval_folder(wildcards):
    """The folder of AlpacaEval's data, where a setting is evaluated on its prompts."""
    evaluation = setting_of(wildcards)["data"].get("evaluation")
    return hub_folder(f"datasets/{evaluation['dataset']}") if evaluation else []


def folder_flags(wildcards, input):
    """What poet.data.preferences is told of folders from the hub."""
    flags = f"--dataset {input.pairs}" if setting_of(wildcards)["data"]["kind"] == "hub" else ""
    return f"{flags} --alpacaeval {input.alpacaeval}" if input.alpacaeval else flags


def base_model(wildcards):
    """The folder of the published model that a setting starts from."""
    return hub_folder(setting_of(wildcards)["model"].get("name"))


def base_content(wildcards):
    """The digest of the published model's folder, where it is not the hub's."""
    return local_inputs.content_of_model(setting_of(wildcards)["model"].get("name"))


def needs_of(wildcards, input):
    """What a setting asks of its model's positions.

    It decides about no result, only about an error: Snakemake compares no parameters that are made
    of inputs, so that another limit re-runs nothing.
    """
    return json.dumps(model_limits.needs(CONFIG, wildcards.setting))


def answers_needs(wildcards, input):
    """What an answer asks of whoever reads it after its prompt; see :func:`needs_of`."""
    return json.dumps([model_limits.answer(CONFIG, wildcards.setting)])


def base_flag(wildcards, input):
    """`--base FOLDER`, where the published model is the hub's."""
    return f"--base {input.base}" if input.base else ""


def task_names(wildcards):
    """The hub's data sets of a setting's lm-eval tasks."""
    return setting_of(wildcards).get("downstream", {}).get("datasets", {})


def task_datasets(wildcards):
    """The folders of the data sets of a setting's lm-eval tasks."""
    return [hub_folder(f"datasets/{name}") for name in task_names(wildcards)]


def dataset_flags(wildcards, input):
    """`--dataset NAME FOLDER` for every data set of a setting's lm-eval tasks."""
    names = task_names(wildcards)
    return [f"--dataset {n} {folder}" for n, folder in zip(names, input.datasets, strict=True)]
