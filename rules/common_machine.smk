# What jobs ask a scheduler for.
from poet import fits


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
