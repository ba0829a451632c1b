"""The downstream table's rows: lm-eval's results of every method."""

from __future__ import annotations

import math
import statistics

from scipy import stats

from poet.evaluate.statistics import holm
from poet.files import UserError
from poet.report.formats import SHARE, Layout, fixed

_YES = {True: "yes", False: "no"}
GAIN = ("gain_average", "gain_ci_low", "gain_ci_high", "p_holm")
NOTES = (
    "Shares of 1, means over seeds: mean ± lm-eval's standard error over questions (standard error "
    "over seeds; - with one model). n: questions. average: over tasks; its gain over the same "
    "objective without POET with a 95 % interval over seeds, given these questions, and p after "
    "Holm's correction over the setting.",
)


def rows_of(results: dict[tuple[str, str], list[dict]], gains=()) -> list[dict]:
    """One row of text cells per setting x method: lm-eval's metrics in its own unit (shares of 1).

    Per task and metric: the mean over seeds; ``*_se_questions``, lm-eval's standard error (which
    questions were asked), averaged over seeds because all seeds answer the same ones;
    ``*_se_seeds``, the standard deviation over seeds divided by the root of their number. Results
    of one model count once (``sft`` is one model whatever the seed). ``average`` is over tasks, of
    ``acc_norm`` where a task has it and of its first metric elsewhere: on the paper's six tasks,
    the metrics of the Open LLM Leaderboard v1. ``chat_template`` says who was asked in the model's
    own, where any was: yes, no, or in which tasks.

    Args:
        results: (setting, method) -> one lm-eval result per seed, in the order of the rows.
        gains: (method, baseline) whose averages are compared.

    Raises:
        UserError: the results come from several backends, precisions or versions of lm-eval.
    """
    backends = {result["backend"] for of_seeds in results.values() for result in of_seeds}
    if len(backends) > 1:
        raise UserError(
            f"the downstream results come from several backends: {'; '.join(sorted(backends))}.\n"
            "One table has one: evaluate the older models again (delete their files below "
            "results/downstream)."
        )
    templated = any(r.get("apply_chat_template") for seeds in results.values() for r in seeds)
    rows, averages = [], {}
    for (setting, method), of_seeds in results.items():
        models = list({result["model_name"]: result for result in of_seeds}.values())
        row = {"setting": setting, "method": method, "n_seeds": str(len(models))}
        if templated:
            chats = models[0].get("apply_chat_template")
            row["chat_template"] = " ".join(chats) if isinstance(chats, list) else _YES[bool(chats)]
        row |= dict.fromkeys(("average", *GAIN), "")
        primary = []
        # Tasks and groups that were asked for, without the members of groups.
        members = {task for group in models[0]["group_subtasks"].values() for task in group}
        for task in [task for task in models[0]["results"] if task not in members]:
            keys = models[0]["results"][task]
            metrics = [key for key in keys if "," in key and "_stderr," not in key]
            for metric in metrics:
                row |= _summary(task, metric, [model["results"][task] for model in models])
            row[f"{task}_n"] = str(models[0]["results"][task]["sample_len"])
            first = next((m for m in metrics if m.startswith("acc_norm,")), metrics[0])
            primary.append([model["results"][task][first] for model in models])
        averages[setting, method] = [*map(statistics.fmean, zip(*primary, strict=True))]
        row["average"] = fixed(statistics.fmean(averages[setting, method]), SHARE)
        rows.append(row)
    for setting in dict.fromkeys(setting for setting, _ in results):
        of_setting = {method: found for (s, method), found in averages.items() if s == setting}
        compared = _gains(of_setting, gains)
        for row in rows:
            if row["setting"] == setting:
                row |= compared.get(row["method"], {})
    return rows


def _gains(averages: dict[str, list[float]], gains) -> dict[str, dict[str, str]]:
    """Method -> its gain over its baseline: Welch's t over seeds, which train independently."""
    tests = {}
    for method, baseline in gains:
        both = [averages.get(name, []) for name in (method, baseline)]
        if all(len(seeds) > 1 for seeds in both) and any(len(set(seeds)) > 1 for seeds in both):
            tests[method] = stats.ttest_ind(*both, equal_var=False), baseline
    corrected = holm([test.pvalue for test, _ in tests.values()])
    found = {}
    for (method, (test, baseline)), p_holm in zip(tests.items(), corrected, strict=True):
        gain = statistics.fmean(averages[method]) - statistics.fmean(averages[baseline])
        numbers = (gain, *test.confidence_interval(0.95), p_holm)
        found[method] = {c: fixed(float(n), SHARE) for c, n in zip(GAIN, numbers, strict=True)}
    return found


def _summary(task: str, metric: str, of_seeds: list[dict]) -> dict[str, str]:
    name, _, of_filter = metric.partition(",")
    column = f"{task}_{name}" if of_filter == "none" else f"{task}_{name}_{of_filter}"
    values = [found[metric] for found in of_seeds]
    errors = [found.get(f"{name}_stderr,{of_filter}") for found in of_seeds]
    known = all(isinstance(error, int | float) for error in errors)  # else lm-eval says "N/A"
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {
        column: fixed(statistics.fmean(values), SHARE),
        f"{column}_se_questions": fixed(statistics.fmean(errors) if known else None, SHARE),
        f"{column}_se_seeds": fixed(spread, SHARE),
    }


def layout(columns: list[str]) -> Layout:
    """What is shown of the columns: each metric with its two standard errors."""
    hidden = {c + end for c in columns for end in ("_se_questions", "_se_seeds")}
    shown = {
        column: (column, f"{column}_se_questions", f"{column}_se_seeds")
        if f"{column}_se_questions" in columns
        else (column,)
        for column in columns
        if column not in hidden
    }
    return Layout(shown, "{} ± {} ({})")
