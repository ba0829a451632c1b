# What jobs ask for: of a scheduler, or of this machine.
from poet import devices
from poet.plan import fits
from poet.train import launch, requirements


def asked(job):
    """GPUs and memory of a job, however a profile writes the former."""
    of = job.resources
    gpu = of.get("gpu") or of.get("gres") or "gpu" in str(of.get("slurm_extra"))
    return fits.Asked(job.rule.name, dict(job.wildcards_dict), bool(gpu), of.get("mem_mb", 0))


def check_memory(jobs):
    """Refuse what a scheduler would kill, before the first job; one machine limits no memory."""
    if workflow.non_local_exec:
        try:
            fits.check([asked(job) for job in jobs], CONFIG, f"{PAPER}/models.yaml")
        except UserError as error:
            raise WorkflowError(str(error)) from None


def check_trainings(jobs):
    """Say what this machine lacks before the first job, not where the training that needs it starts."""
    here = not workflow.non_local_exec and "SLURM_JOB_ID" not in os.environ
    found = None
    try:
        for job in jobs:
            gpus = job.resources.get("gpu", 0)
            if gpus and here:
                found = devices.devices() if found is None else found
                devices.check(gpus, found)
            if job.rule.name == "train":
                launch.command("", [], gpus, job.resources["sharding"])
            if job.rule.name == "train" and not workflow.deployment_settings.deployment_method:
                requirements.check_optimizer(setting_of(job.wildcards)["preference"]["optim"])
        others = set(CONFIG["report_to"]) - {"tensorboard"}  # which is pinned
        if others and not workflow.deployment_settings.deployment_method:
            requirements.check_reporting(sorted(others))
    except UserError as error:
        raise WorkflowError(str(error)) from None
