"""The plan before the money: jobs, device-hours, disk, downloads, calls and dollars, per rule.

Reads what Snakemake says in two dry runs (`make plan`): of all jobs (``--forceall``), and of those
that are left. The difference is done. A rule's seconds come from the operations of its jobs and a
rate: the achieved one where a job of the rule has finished and its seconds were kept, else that of
the assumptions.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path

import yaml

from poet.config import read
from poet.config_shortcuts import add_flag
from poet.files import UserError, cli
from poet.plan.fits import BYTES, Job
from poet.plan.machine import Device, known
from poet.plan.needs import memory
from poet.plan.workload import Work, Workload
from poet.sizes.architecture import PAPER

COLUMNS = {
    "rule": "rule", "jobs": "jobs", "done": "done", "hours": "hours left", "memory": "GB",
    "card": "GB on a card", "disk": "disk left, GB", "download": "download left, GB",
    "calls": "calls left", "dollars": "US dollars left",
}  # fmt: skip
LARGEST = ("memory", "card")  # of the rule's jobs; else their sum
SUMS = ("jobs", "done", "disk", "download", "calls", "dollars")


def read_jobs(text: str) -> list[Job]:
    """The jobs of a Snakemake dry run's output, without those that only name targets."""
    jobs: list[Job] = []
    for line in text.splitlines():
        if head := re.fullmatch(r"(?:local)?(?:rule|checkpoint) (\S+):", line):
            jobs.append(Job(head[1]))
        elif (found := re.fullmatch(r"    (\w+): (.*)", line)) and jobs:
            key, value = found.groups()
            if key in ("input", "output"):
                setattr(jobs[-1], f"{key}s", value.split(", "))
            elif key in ("wildcards", "resources"):
                setattr(jobs[-1], key, dict(item.partition("=")[::2] for item in value.split(", ")))
            elif key == "benchmark":
                jobs[-1].benchmark = value
    return [job for job in jobs if job.outputs]


def seconds_of(job: Job) -> float | None:
    """What a finished job took, by Snakemake's benchmark file; None where there is none."""
    path = Path(job.benchmark or "")
    if not path.is_file():
        return None
    return float(next(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))["s"])


def achieved(done: list[tuple[Job, Work]], device: Device) -> dict[str, float]:
    """Rule -> amount of work per second and device, of the finished jobs whose time was kept."""
    amounts, seconds = defaultdict(float), defaultdict(float)
    for job, work in done:
        took = seconds_of(job)
        if work.kind and took:
            amounts[job.rule] += device.amount(work)
            seconds[job.rule] += took * max(int(job.resources.get("gpu", 0)), 1)
    return {rule: amounts[rule] / seconds[rule] for rule in amounts}


def make_plan(
    jobs: list[Job], pending: list[Job], load: Workload, known: list[Device], config: dict
) -> dict:
    """Rows per rule in the order of the jobs, their total, rates and assumptions.

    ``known`` are the devices; the finished jobs ran on the first.
    """
    left, here = {job.name for job in pending}, known[0]
    worked = [(job, load.work(job)) for job in jobs]
    rates = achieved([(job, work) for job, work in worked if job.name not in left], here)
    rows: dict[str, dict] = {}
    for job, work in worked:
        empty = dict.fromkeys((*SUMS, *LARGEST), 0) | {"hours": {d.name: 0.0 for d in known}}
        row = rows.setdefault(job.rule, {"rule": job.rule, **empty})
        row["jobs"] += 1
        if job.rule in BYTES:
            for key, card in (("memory", False), ("card", True)):
                size = memory(job.rule, config, job.wildcards, card) / 1000
                row[key] = max(row[key], size)
        if job.name not in left:
            row["done"] += 1
            continue
        for device in known if work.kind else ():
            rate = device.rates[work.kind]
            start = device.start
            if device is here and job.rule in rates:
                rate, start = rates[job.rule], 0  # which the achieved rate holds
            row["hours"][device.name] += (start + device.amount(work) / rate) / 3600
        row["disk"] += work.disk / 1e9
        row["download"] += work.download / 1e9
        row["calls"] += work.calls
        row["dollars"] += work.dollars
    total = {"rule": "total", **{n: sum(row[n] for row in rows.values()) for n in SUMS}}
    total |= {n: max((row[n] for row in rows.values()), default=0) for n in LARGEST}
    total["hours"] = {d.name: sum(r["hours"][d.name] for r in rows.values()) for d in known}
    kinds = {job.rule: work.kind for job, work in worked if work.kind}
    return {
        "rows": [*rows.values(), total],
        "rates": {
            rule: {
                "per_second": rates.get(rule) or here.rates[kind],
                "unit": here.unit(kind),
                "source": "achieved" if rule in rates else here.said,
            }
            for rule, kind in kinds.items()
        },
        "devices": [[device.name, device.memory] for device in known],
        "assumptions": list(load.assumed),
    }


def as_text(plan: dict) -> str:
    """The plan as a table that reads well in a terminal, its rates and assumptions below."""
    decimals = {"memory": 1, "card": 1, "disk": 1, "download": 1, "dollars": 2}
    names = [name for name, _ in plan["devices"]]
    before, after = [*COLUMNS][:3], [*COLUMNS][4:]
    heading = [COLUMNS[n] for n in before] + [f"hours, {name}" for name in names]
    cells = [heading + [COLUMNS[n] for n in after]]
    for row in plan["rows"]:
        numbers = {n: f"{row[n]:,.{decimals.get(n, 0)}f}" for n in (*before[1:], *after)}
        hours = [_hours(row, *device) for device in plan["devices"]]
        cells.append([row["rule"], *(numbers[n] for n in before[1:]), *hours])
        cells[-1] += [numbers[n] for n in after]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    ]
    lines[-1:-1] = lines[1:1] = ["  ".join("-" * width for width in widths)]
    rates = [
        f"{rule}: {rate['per_second']:.3g} {rate['unit']} per second and device ({rate['source']})"
        for rule, rate in plan["rates"].items()
    ]
    said = [
        f"hours are of jobs one after the other; rates of {names[0]}:", *rates,
        "hours in brackets: it takes more memory than the card has", *plan["assumptions"],
    ]  # fmt: skip
    return "\n".join([*lines, "", "Rates and assumptions:", *(f"- {line}" for line in said)])


def _hours(row: dict, device: str, size: float | None) -> str:
    text = f"{row['hours'][device]:,.2f}"
    return f"({text})" if size is not None and row["card"] > size else text


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", required=True)
    add_flag(parser)
    parser.add_argument("--jobs", required=True, help="snakemake --dry-run --forceall, its output")
    parser.add_argument("--pending", required=True, help="snakemake --dry-run, its output")
    args = parser.parse_args(argv)
    jobs, pending = (read_jobs(Path(path).read_text()) for path in (args.jobs, args.pending))
    if not jobs:
        raise UserError(f"{args.jobs} lists no jobs; expected the output of a dry run")
    of = yaml.safe_load((PAPER / "assumptions.yaml").read_text())
    config = read(args.configfile, **dict(args.config))
    dtypes = {setting["preference"]["dtype"] for setting in config["settings"].values()}
    print(as_text(make_plan(jobs, pending, Workload(config, of), known(of, dtypes), config)))


if __name__ == "__main__":
    cli(main)
