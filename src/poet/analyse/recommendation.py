"""From a diagnosis to advice in plain words; see :mod:`poet.analyse.diagnose`."""

from __future__ import annotations

import argparse

from poet.files import cli, read_json
from poet.methods import SIDES

ORDER_KEPT = 91.4  # percent; the weaker of the paper's data sets, where POET still helped
LITTLE_DROPPED = 5.0  # percent of the response tokens: below, POET is nearly the standard method
LENGTH_CUE = 65.0  # percent of the pairs
IDENTICAL = 2.0  # percent of the pairs
LIMITED = 10.0  # percent of the pairs


def recommend(diagnosis: dict) -> dict:
    """``verdict`` (suits | little effect | unclear | risky) and ``reasons``, sentences."""
    poet, order = diagnosis["poet"], diagnosis["order"]
    reasons = [_dropped(poet), _order(order), _length(diagnosis["lengths"]), *_defects(diagnosis)]
    if poet["dropped"] < LITTLE_DROPPED:
        verdict = "little effect"
    elif order is None or order["value"] is None:
        verdict = "unclear"
    elif order["ci_high"] < ORDER_KEPT:
        verdict = "risky"
    else:
        verdict = "suits"
    return {"verdict": verdict, "reasons": reasons}


def _dropped(poet: dict) -> str:
    shares = (
        f"POET would drop {poet['dropped']:.1f} % of the response tokens "
        f"({poet['dropped_chosen']:.1f} % of the chosen, {poet['dropped_rejected']:.1f} % of the "
        "rejected)"
    )
    if poet["dropped"] < LITTLE_DROPPED:
        return f"{shares}: the responses are so alike in length that it changes little."
    return f"{shares}, so it moves the objective's weight to the first tokens."


def _order(order: dict | None) -> str:
    if order is None or order["value"] is None:
        return (
            "Whether the truncated responses keep their order is not known, because nothing here "
            "scores them: give a reward model, or look at some truncated pairs."
        )
    found = (
        f"{order['value']:.1f} % of the orders are expected to survive truncation "
        f"[{order['ci_low']:.1f}, {order['ci_high']:.1f}], n = {order['n_pairs']}"
    )
    if order["ci_high"] < ORDER_KEPT:
        return (
            f"{found}: fewer than the {ORDER_KEPT} % of the paper's weaker data. Quality seems to "
            "show late in these responses, and POET would train on wrong orders."
        )
    return f"{found}; the paper reports 98.5 and, for weaker data, {ORDER_KEPT} %."


def _length(lengths: dict) -> str:
    longer = lengths["chosen_longer"]
    shorter = 100 - longer - lengths["equally_long"]
    side, share = ("longer", longer) if longer >= shorter else ("shorter", shorter)
    found = f"The {side} response is the chosen one in {share:.1f} % of the pairs"
    if share < LENGTH_CUE:
        return f"{found}: length says little about the order here."
    return f"{found}: length gives the order away, a cue that POET takes out of most pairs."


def _defects(diagnosis: dict):
    """What to mend or to mind, whatever the method."""
    n, poet, prompts = diagnosis["n_pairs"], diagnosis["poet"], diagnosis["prompts"]
    if 100 * poet["identical"] > IDENTICAL * n:
        yield (
            f"{poet['identical']} pairs are identical once truncated and teach POET nothing: "
            "leave them out."
        )
    limits = diagnosis["limits"]
    if limits and limits["pairs_cut"] > LIMITED:
        yield (
            f"The length limits cut {limits['pairs_cut']:.1f} % of the pairs before POET does: "
            f"raise max_length ({limits['max_length']} tokens), or the standard method sees "
            "truncated responses too."
        )
    if prompts["repeated_pairs"]:
        yield f"{prompts['repeated_pairs']} rows repeat another row: drop them."
    if prompts["contradicting_pairs"]:
        yield (
            f"{prompts['contradicting_pairs']} pairs stand in the data in the other order too: "
            "decide which one holds."
        )
    if prompts["in_several_spellings"]:
        yield (
            f"{prompts['in_several_spellings']} prompts stand in several spellings: split by "
            "prompt, they can come into both the training and the test split."
        )
    evaluation = diagnosis["evaluation"]
    if evaluation and evaluation["exact"]:
        yield (
            f"{evaluation['exact']} of the {evaluation['n_prompts']} evaluation prompts stand in "
            "the training data: take them out, or the scores are a demonstration, not a result."
        )
    if evaluation and evaluation["near"]:
        yield (
            f"{evaluation['near']} of the {evaluation['n_prompts']} evaluation prompts share half "
            f"of their runs of {evaluation['ngram']} words or more with training prompts: look at "
            "the examples; a common template can be the cause."
        )


HEADLINES = {
    "suits": "POET suits these pairs.",
    "little effect": "POET would change little on these pairs.",
    "unclear": "Nothing counted here speaks against POET, but whether orders survive is not known.",
    "risky": "POET is a risk on these pairs: too many orders are lost.",
}


def markdown(diagnosis: dict) -> str:
    """The diagnosis as Markdown that reads well in a terminal."""
    unit, lengths, poet = diagnosis["unit"], diagnosis["lengths"], diagnosis["poet"]
    advice = diagnosis["recommendation"]
    lines = [f"# {HEADLINES[advice['verdict']]}", ""]
    if dropped := diagnosis["dropped"]:
        n = sum(dropped.values())
        lines += [f"**{n} of {n + diagnosis['n_pairs']} rows were left out:**", ""]
        lines += [f"- {count} rows: {reason}" for reason, count in dropped.items()] + [""]
    lines += [f"- {reason}" for reason in advice["reasons"]]
    lines += ["", f"{diagnosis['source']}: {diagnosis['n_pairs']} pairs, lengths in {unit}", ""]
    columns = ("mean", "p5", "median", "p95", "max")
    rows = {
        **{name: lengths[name] for name in ("prompt", *SIDES)},
        "kept by POET": poet["kept"],
        "identical first": poet["shared"],
    }
    lines += [f"| {'':15} |" + "".join(f" {name:>8} |" for name in columns)]
    lines += ["|" + "-" * 17 + "|" + "---------:|" * len(columns)]
    for name, row in rows.items():
        lines += [f"| {name:15} |" + "".join(f" {row[column]:8.0f} |" for column in columns)]
    ratio = lengths["min_over_max"]
    row = "".join(f" {ratio[column]:8.2f} |" for column in columns)
    return "\n".join([*lines, f"| {'min / max':15} |{row}"]) + "\n"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="The verdicts of diagnoses, with their reasons.")
    parser.add_argument("diagnoses", nargs="+", metavar="diagnosis.json")
    args = parser.parse_args(argv)
    for path in args.diagnoses:
        found = read_json(path)
        advice = found["recommendation"]
        print(f"{found['setting'] or found['source']}: {HEADLINES[advice['verdict']]}")
        print("".join(f"- {reason}\n" for reason in advice["reasons"]) + f"All of it: {path}")


if __name__ == "__main__":
    cli(main)
