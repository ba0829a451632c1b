"""What stands before the answer: the reasons why the numbers may not mean what they seem to.

Each is a sentence, made of what the run wrote anyway. What is not there (in an archive of scores
alone, say) is unknown or left out, and no failure.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from poet.evaluate.annotators import KINDS
from poet.files import cli, load_record, read_json, write_json

FEW_PROMPTS = 100  # a win rate's 95 % interval is then some 15 points wide or wider
CUT_OFF = 0.1  # share of a model's answers that do not end by themselves
# Lower bound of the interval of a reward model's accuracy on held-out pairs. People agree with one
# another on two thirds to three quarters of such pairs (docs/judges.md).
LOW_ACCURACY = 0.7
ALIKE = 0.9  # share of a method's answers that are the start model's to the letter


def cautions(
    comparisons: Sequence[dict], config: dict, judges: Sequence[dict], summaries: Sequence[dict]
) -> list[str]:
    """The sentences, the gravest first, none twice.

    Args:
        comparisons: what ``poet.evaluate.compare`` writes, of the main table.
        config: the validated configuration; ``annotators`` and each setting's ``model`` are read.
        judges: ``train.json`` of the reward models trained on the settings' own pairs.
        summaries: of the rule generate.
    """
    stops = {
        (found["record"]["setting"], found["record"]["method"]): found["runs"]
        for found in summaries
    }
    weak, others = judged(comparisons, config, judges)
    sentences = [*weak]
    for kind in (
        lambda of: _published(of, config["annotators"][of["annotator"]], stops),
        _identical, _degenerate, lambda of: _cut_off(of, stops),
        lambda of: _thoughts(of, stops), _few, lambda of: others.get(_name(of), []), _one_seed,
        lambda of: _scratch(of, config["settings"][of["setting"]]),
    ):  # fmt: skip
        sentences += [text for of in comparisons for text in kind(of)]
    return [*dict.fromkeys(sentences)]


def _published(comparison: dict, annotator: dict, stops: dict) -> Iterator[str]:
    from poet.evaluate.length_control import MINIMAL  # loads scipy

    setting = comparison["setting"]
    if annotator["kind"] != "replay" or any(of == setting for of, _ in stops):
        return
    yield (
        f"{setting}: published answers and verdicts. Nothing was trained, sampled or judged here, "
        "and each model is one run."
    )
    for baseline in dict.fromkeys(gain["baseline"] for gain in comparison["gains"]):
        yield f"{setting}: gains are those of the other models over {baseline}, named first."
    if comparison["lc_kind"] == MINIMAL:
        yield (
            f"{setting}: the length-controlled win rates are by a regression of our own "
            f"({MINIMAL}), not the leaderboard's, which needs its df_gamed.csv (GAMED=FILE)."
        )


def _identical(comparison: dict) -> Iterator[str]:
    shares = {
        name: found.get("share_as_start") or 0.0 for name, found in comparison["methods"].items()
    }
    same = [name for name, share in shares.items() if share == 1]
    if same:
        yield (
            f"{comparison['setting']}: every answer of {_listed(same)} is the very same as the "
            "start model's. Training moved the model too little to tell: look at the learning rate "
            "and the number of steps."
        )
    alike = [name for name, share in shares.items() if ALIKE <= share < 1]
    if alike:
        yield (
            f"{comparison['setting']}: most answers are the start model's to the letter "
            f"({_shares(alike, shares)}). Training moved the model little: look at the learning "
            "rate and the number of steps."
        )
    for gain in comparison["gains"]:
        if gain.get("share_identical") == 1 and gain["method"] not in same:
            yield (
                f"{comparison['setting']}: every answer of {gain['method']} is the very same as "
                f"{gain['baseline']}'s."
            )


def _degenerate(comparison: dict) -> Iterator[str]:
    empty = [
        f"{name} ({found['lc_degenerate_seeds']} of {found['n_seeds']} seeds)"
        for name, found in comparison["methods"].items()
        if found.get("lc_degenerate_seeds")
    ]
    if empty:
        yield (
            f"{comparison['setting']}, {comparison['annotator']}: alpaca-eval's length-controlled "
            f"win rate is degenerate for {_listed(empty)}: its penalty took the model's own term "
            "to zero, and the number says nothing. Look at the win rate."
        )


def _cut_off(comparison: dict, stops: dict) -> Iterator[str]:
    setting = comparison["setting"]
    shares = {
        name: 1 - found["share_ended"]
        for name, found in comparison["methods"].items()
        if found["share_ended"] is not None and 1 - found["share_ended"] > CUT_OFF
    }
    if shares:
        runs = [run for name in shares for run in stops.get((setting, name), [])]
        tokens = sorted({token for run in runs for token in run.get("stop_token_ids", [])})
        ends = f" (an answer ends at the token ids {', '.join(map(str, tokens))})" if tokens else ""
        yield (
            f"{setting}: many answers do not end and are cut off at max_new_tokens: "
            f"{_shares(shares, shares)}{ends}. Scores judge those fragments: raise "
            "generation.max_new_tokens, or name the token that ends a turn in "
            "generation.stop_token_ids."
        )


def _thoughts(comparison: dict, stops: dict) -> Iterator[str]:
    setting, shares = comparison["setting"], {}
    for name in comparison["methods"]:
        runs = stops.get((setting, name), [])
        if n := sum(run.get("n_with_thoughts", 0) for run in runs):
            shares[name] = n / sum(run["n_prompts"] for run in runs)
    if shares:
        yield (
            f"{setting}: answers hold thoughts (<think>), which are judged and counted as a part "
            f"of them: {_shares(shares, shares)}. Where the template knows it, set "
            "chat_template_kwargs: {enable_thinking: false}."
        )


def _few(comparison: dict) -> Iterator[str]:
    if comparison["n_prompts"] < FEW_PROMPTS:
        yield (
            f"{comparison['setting']}: only {comparison['n_prompts']} evaluation prompts; fewer "
            f"than {FEW_PROMPTS} show nothing but large effects."
        )


def judged(
    comparisons: Sequence[dict], config: dict, judges: Sequence[dict]
) -> tuple[list[str], dict[tuple, list[str]]]:
    """Who judged, and how well: sentences on judges not to trust, and those on the others.

    The others by setting and annotator; arguments are those of :func:`cautions`. Of the comparisons
    only setting and annotator are read, so that rows of a table will do.
    """
    trained = {found["record"]["setting"]: found for found in judges}
    weak, others = [], {}
    for comparison in comparisons:
        annotator = config["annotators"][comparison["annotator"]]
        if not KINDS[annotator["kind"]].loads:
            continue
        text, low = _judge(comparison, annotator, trained.get(comparison["setting"]))
        if low:
            weak.append(text)
        else:
            others[_name(comparison)] = [text]
    return weak, others


def about_judges(rows: Sequence[dict], config: dict, judges: Sequence[dict]) -> list[str]:
    """What stands with a table: the sentences of :func:`judged`, those not to trust first."""
    weak, others = judged(rows, config, judges)
    return [*dict.fromkeys([*weak, *(text for texts in others.values() for text in texts)])]


def _name(comparison: dict) -> tuple[str, str]:
    return comparison["setting"], comparison["annotator"]


def _judge(comparison: dict, annotator: dict, trained: dict | None) -> tuple[str, bool]:
    """A sentence on who judged, and whether a trained one is known to be a poor judge."""
    setting, name = _name(comparison)
    if "name" in annotator:
        of = f"{setting}: judged by {name} ({annotator['name']})"
        return f"{of}, whose accuracy on such pairs is unknown.", False
    text = f"{setting}: judged by {name}, a reward model trained on these pairs"
    found = (trained or {}).get("test_accuracy")
    if not isinstance(found, dict):  # none, or an older release's, over pairs and not over prompts
        return f"{text}, whose held-out accuracy is unknown.", False
    alone = found["length_alone"]
    parts = [f"{where} {_share(of)}, n {of['n']}" for where, of in found["by_length"].items()]
    text += (
        f", right on {_share(found)} of {found['n']} held-out pairs of {found['n_prompts']} "
        f"prompts ({'; '.join(parts)}); the longer answer alone would be right on "
        f"{alone['accuracy']:.2f}."
    )
    weak = []
    if found["ci_low"] < LOW_ACCURACY:
        weak.append(" That is too low or too uncertain to trust its verdicts.")
    if found["ci_low"] <= alone["accuracy"]:
        weak.append(" It cannot be told from one that counts tokens.")
    return text + "".join(weak), bool(weak)


def _share(of: dict) -> str:
    return f"{of['accuracy']:.2f} [{of['ci_low']:.2f}, {of['ci_high']:.2f}]"


def _one_seed(comparison: dict) -> Iterator[str]:
    seeds = [found["n_seeds"] for name, found in comparison["methods"].items() if name != "sft"]
    if seeds and max(seeds) == 1:
        yield (
            f"{comparison['setting']}: one seed only. Intervals hold for these trained models; "
            "another run may differ by more."
        )


def _scratch(comparison: dict, setting: dict) -> Iterator[str]:
    if "scratch" in setting["model"]:
        yield (
            f"{comparison['setting']}: the model is trained from scratch, which shows the "
            "mechanism and not what a good model would do."
        )


def _shares(names, shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * shares[name]:.0f} %" for name in names)


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparison", nargs="+", required=True, help="the main table's")
    parser.add_argument("--config-json", required=True, help="resolved config: JSON or a file")
    parser.add_argument("--judges", nargs="*", default=[], help="train.json of reward models")
    parser.add_argument("--summaries", nargs="*", default=[], help="of the answers, per method")
    parser.add_argument("--output", required=True, help="JSON: a list of sentences")
    args = parser.parse_args(argv)
    files = (args.comparison, args.judges, args.summaries)
    comparisons, judges, summaries = ([*map(read_json, paths)] for paths in files)
    found = cautions(comparisons, load_record(args.config_json), judges, summaries)
    write_json(found, args.output)


if __name__ == "__main__":
    cli(main)
