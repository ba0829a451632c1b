# What comes from the hub: where the rule download puts it, and who reads it.


def hub_folder(name):
    """The folder of a hub repository; none for a local folder, or for None."""
    return f"results/hub/{name}" if name in REPOSITORIES else []


def pinned_files(wildcards):
    """What the lock says of a repository; None before `make lock`, which the job then asks for."""
    return json.dumps(locks.read(CONFIG["lock"]).get(wildcards.repository), sort_keys=True)


def pairs_source(wildcards):
    """Where a setting's pairs come from: a local file, or a data set's folder."""
    data = setting_of(wildcards)["data"]
    return data["path"] if data["kind"] == "file" else hub_folder(f"datasets/{data['dataset']}")


def chats_source(wildcards):
    """Where the chats of a start model come from: a local file, or a data set's folder."""
    name = setting_of(wildcards)["sft"]["dataset"]
    return hub_folder(f"datasets/{name}") or name


def chats_flag(wildcards):
    """`--folder FOLDER`, where the chats are the hub's."""
    name = f"datasets/{setting_of(wildcards)['sft']['dataset']}"
    return f"--folder {hub_folder(name)}" if name in REPOSITORIES else ""


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
