"""From runs to figures, and to a table that can be read."""

from __future__ import annotations

from statistics import median

from benchmarks.measure import Run
from benchmarks.pairs import Pairs

# Arms whose loss is TRL's on the same truncated pairs, so that differences mean something.
BASE = "trl_best"
OTHER_LOSS = ("trl_simpo", "prefix_sharing_full_pairs")
STEPS = {  # arm -> the step that it lacks
    "prefix_sharing_full_pairs": "truncation",
    "ours_prompt_twice": "prefix sharing",
    "ours_padded": "no padding",
    "ours_one_pair_per_row": "many pairs per row",
    "ours_head_everywhere": "head on responses only",
    "ours_live_reference": "cached reference",
    "ours_checkpointing": "no checkpointing",
    "ours_torch_products": "matrix products by oneDNN",  # the one of these two that is chosen
    "ours_onednn_products": "matrix products by torch",
}


def pairs_per_s(count: int, run: Run, runs: int) -> float:
    """Pairs per second when the reference's pass serves so many runs."""
    return count / (run.seconds + run.reference_seconds / runs)


def summarise(runs: dict[str, list[Run]], count: int, flops: float, rate: float) -> list[dict]:
    """One entry per arm: medians over its runs, their spread, and its distance from TRL."""
    base = runs.get(BASE, [None])[0]
    entries = []
    for name, found in runs.items():
        speeds = {n: [pairs_per_s(count, r, n) for r in found] for n in (1, 4)}
        seconds = median(r.seconds for r in found)
        comparable = base is not None and name not in OTHER_LOSS
        entries.append({
            "name": name,
            "runs": len(found),
            "pairs_per_s": round(median(speeds[1]), 4),
            "pairs_per_s_amortised": round(median(speeds[4]), 4),
            "spread_amortised": [round(min(speeds[4]), 4), round(max(speeds[4]), 4)],
            "step_s": round(seconds, 4),
            "reference_s": round(median(r.reference_seconds for r in found), 4),
            "useful_flop_utilisation": round(flops / seconds / rate, 4),
            "peak_gb": round(median(r.peak_gb for r in found), 3),
            "loss": found[0].loss,
            "max_loss_diff": _loss_difference(found, base) if comparable else None,
            "max_gradient_diff": _gradient_difference(found[0], base) if comparable else None,
        })  # fmt: skip
    return entries


def _loss_difference(found: list[Run], base: Run) -> float:
    return max(abs(run.loss - base.loss) for run in found)


def _gradient_difference(run: Run, base: Run) -> float:
    """Largest difference of any weight's gradient, relative to the largest gradient."""
    return float((run.gradients - base.gradients).abs().max() / base.gradients.abs().max())


def lengths(pairs: Pairs) -> dict[str, float]:
    """Mean tokens of prompts and responses, before and after truncation."""

    def mean(rows: dict, name: str) -> float:
        return round(sum(map(len, rows[name])) / len(rows[name]), 1)

    return {
        "mean_prompt": mean(pairs.full, "prompt_ids"),
        "mean_chosen": mean(pairs.full, "chosen_ids"),
        "mean_rejected": mean(pairs.full, "rejected_ids"),
        "mean_kept": mean(pairs.short, "chosen_ids"),
    }


def markdown(result: dict) -> str:
    """The comparison and the steps' shares, as two tables."""
    arms = {arm["name"]: arm for arm in result["arms"]}
    mine = arms.get("ours")
    lines = [
        f"Shape {result['shape']['name']}, {result['pairs']['per_step']} pairs a step, "
        f"{result['repeats']} interleaved repeats, medians; {result['pairs']['source']}.",
        f"Machine: {result['hardware']}; matrix products {result['matmul_gflops_per_s']} GFLOP/s, "
        f"by torch's own choice {result['torch_matmul_gflops_per_s']}; ours by "
        f"{result['matrix_products']['by']}.",
        "",
        "| arm | runs | pairs/s | over four runs | min-max | ours is | utilisation | peak GB "
        "| loss diff | gradient diff |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms.values():
        low, high = arm["spread_amortised"]
        ratio = mine["pairs_per_s_amortised"] / arm["pairs_per_s_amortised"] if mine else 0
        lines.append(
            f"| {arm['name']} | {arm['runs']} | {arm['pairs_per_s']:.3f} "
            f"| {arm['pairs_per_s_amortised']:.3f} | {low:.3f}-{high:.3f} | {ratio:.2f} x "
            f"| {arm['useful_flop_utilisation']:.1%} | {arm['peak_gb']:.2f} "
            f"| {_scientific(arm['max_loss_diff'])} | {_scientific(arm['max_gradient_diff'])} |"
        )
    if mine:
        lines += ["", "| step | a step's time without it | share of that time it saves |"]
        lines += ["|---|---|---|"]
        for name in filter(arms.get, STEPS):
            seconds = arms[name]["step_s"]
            saved = 1 - mine["step_s"] / seconds
            lines.append(f"| {STEPS[name]} | {seconds:.2f} s | {saved:.0%} |")
        lines.append(f"| (ours, all of them) | {mine['step_s']:.2f} s | |")
    return "\n".join(lines) + "\n"


def _scientific(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
