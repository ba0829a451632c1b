"""What a model can take, its positions and its vocabulary, against what is asked of it.

Beyond its positions a model with learned ones stops with an IndexError; one with rotary ones goes
on and writes nonsense. A token beyond the embedding's rows is an IndexError, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from poet.files import UserError, read_json
from poet.hub.folders import loadable

Need = tuple[str, int, bool]  # keys of a setting, tokens, and whether they follow a prompt


def needs(config: dict, name: str) -> list[Need]:
    """What a setting asks of its start model's positions."""
    setting = config["settings"][name]
    longest, new = setting["preference"]["max_length"], setting["generation"]["max_new_tokens"]
    found = [("preference.max_length", longest, False)]
    if "sft" in setting:
        found.append(("sft.max_length", setting["sft"]["max_length"], False))
    judges = {*setting["annotators"], setting.get("analysis", {}).get("annotator")} - {None}
    used = [config["annotators"][judge] for judge in judges]
    if any(each["kind"] == "reward_model" and "name" not in each for each in used):
        found.append(("reward_model.max_length", setting["reward_model"]["max_length"], False))
    if "analysis" in setting:  # prefixes of pairs, and of answers, are completed
        own = max(setting["analysis"]["own_prefix_lengths"])
        found.append(("preference.max_length + generation.max_new_tokens", longest + new, False))
        found.append(("analysis.own_prefix_lengths + generation.max_new_tokens", own + new, True))
    found = [(f"settings.{name}.{keys}", tokens, after) for keys, tokens, after in found]
    return [*found, answer(config, name)]


def answer(config: dict, name: str) -> Need:
    """What an answer of a setting's models asks for after its prompt."""
    tokens = config["settings"][name]["generation"]["max_new_tokens"]
    return f"settings.{name}.generation.max_new_tokens", tokens, True


def add_needs(parser: argparse.ArgumentParser) -> None:
    """Add the flag ``--needs`` to a program that checks a model."""
    said = "what the setting asks of its positions: JSON, see poet.data.model_limits.needs"
    parser.add_argument("--needs", type=json.loads, default=[], help=said)


def positions(config: dict) -> int | None:
    """Positions by the content of a ``config.json``; None where it does not say, or has no limit.

    Rotary positions may be stretched: then as many as the factor makes of the original ones.
    """
    text = _text_part(config)
    found = text.get("max_position_embeddings", text.get("n_positions"))  # GPT-2 and its like
    if not isinstance(found, int):
        return None
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    for part in (rope, *rope.values()):  # for all layers, or for each kind of them
        if isinstance(part, dict):
            kind = part.get("rope_type", part.get("type"))
            if kind in ("linear", "dynamic", "yarn") and part.get("factor"):
                original = part.get("original_max_position_embeddings") or found
                found = max(found, int(original * part["factor"]))
    return found


def _text_part(config: dict) -> dict:
    return {**config, **(config.get("text_config") or {})}


def positions_from_scratch(max_length: int) -> int:
    """Positions of a model that is made for sequences of ``sft.max_length`` tokens."""
    return 2 * max_length


def check_class(config: dict, model: str | Path, source: str) -> None:
    """Check that a model writes text: another kind would get a language head of random weights.

    Args:
        config: the content of its ``config.json``, which lists the classes that wrote it.
        source: the configuration, or what else names the model.

    Raises:
        UserError: it is a reward model, an encoder, a model without a head or of translation.
    """
    found = config.get("architectures") or []
    ends = ("CausalLM", "LMHeadModel", "WithLMHead", "GenerationDecoder")
    if not config.get("is_encoder_decoder"):  # also for images, as Gemma 3
        ends += ("ForConditionalGeneration",)
    of_its_own = "AutoModelForCausalLM" in (config.get("auto_map") or {})
    if found and not of_its_own and not any(name.endswith(ends) for name in found):
        raise UserError(
            f"{source}: the model {model} is a {' and '.join(found)} (architectures in its "
            "config.json); expected a causal language model, like LlamaForCausalLM. The head that "
            "writes text would be made up."
        )


def check_configuration(config: dict, source: str) -> None:
    """Check what is known before anything is loaded: models from scratch, and in local folders.

    Raises:
        UserError: as :func:`check_class` and :func:`check_positions`; a token that ends answers is
            none of the model's.
    """
    for name in config["grid"]:
        setting = config["settings"][name]
        model = setting["model"].get("name", "from scratch")
        written = Path(model) / "config.json"
        if "scratch" in setting["model"]:
            found = positions_from_scratch(setting["sft"]["max_length"])
            rows = setting["model"]["scratch"]["vocab_size"]
        else:
            content = read_json(written) if written.is_file() else {}
            check_class(content, model, f"{source}: settings.{name}.model.name")
            found, rows = positions(content), _text_part(content).get("vocab_size")
        check_positions(found, needs(config, name), model, source)
        beyond = [end for end in setting["generation"]["stop_token_ids"] if rows and end >= rows]
        if beyond:
            raise UserError(
                f"{source}: settings.{name}.generation.stop_token_ids has {beyond[0]}, expected an "
                f"id below {rows}, as many tokens as the model {model} knows"
            )


def check_positions(
    found: int | None, asked: list[Need], model: str | Path, source: str, prompt: int = 1
) -> None:
    """Check that a model has the positions that are asked of it.

    Args:
        found: its positions; None is no limit.
        source: the configuration, or the file with the prompts.
        prompt: tokens of the longest prompt.

    Raises:
        UserError: naming all keys that ask for more.
    """
    lines = []
    for keys, tokens, after_prompt in asked if found is not None else []:
        total = tokens + after_prompt * prompt
        if total > found:
            first = f"a prompt of {prompt} + " if after_prompt else ""
            lines.append(f"  {keys}: {first}{tokens} tokens")
    if lines:
        raise UserError(
            f"{source}: the model {model} has {found} positions, fewer than are asked for:\n"
            + "\n".join(lines)
            + "\nGive smaller numbers, shorter prompts, or a model with more positions; one from "
            "scratch has twice sft.max_length."
        )


def text_config(folder: str | Path, trust_remote_code: bool | None = None) -> dict:
    """A model's configuration of its text part, with what its class adds to ``config.json``."""
    from transformers import AutoConfig

    written = read_json(Path(folder) / "config.json")
    if "auto_map" in written and not trust_remote_code:
        return _text_part(written)
    with loadable(f"the configuration of {folder}", "one that transformers can read"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return config.get_text_config().to_dict()


def check_vocabulary(tokenizer, model: dict, name: str) -> None:
    """Check that the embedding has a row for every token of text, and for BOS, EOS and padding.

    Other added tokens may lie beyond it, as Gemma 3 1B's image token does: they count where they
    occur, see :func:`check_ids`.

    Args:
        model: what :func:`text_config` returns.

    Raises:
        UserError: naming the last token without a row.
    """
    added = tokenizer.added_tokens_decoder
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    ids = {id for id in tokenizer.get_vocab().values() if id not in added} | special
    check_ids(tokenizer, max(ids), model, f"the tokenizer of {name}")


def check_ids(tokenizer, largest: int | None, model: dict, source: str) -> None:
    """Check that the embedding has a row for the largest token id that is found in ``source``.

    Raises:
        UserError: naming the token.
    """
    rows = model.get("vocab_size")
    if largest is not None and rows is not None and largest >= rows:
        raise UserError(
            f"{source}: found the token {tokenizer.convert_ids_to_tokens(largest)!r} with the id "
            f"{largest}, but the model's embedding has {rows} rows. Give the tokenizer that "
            "belongs to the model, or save the model after "
            f"model.resize_token_embeddings({largest + 1})."
        )


def largest_id(column) -> int | None:
    """The largest token id in an Arrow column of lists; None in an empty one."""
    import pyarrow.compute as pc

    return pc.max(pc.list_flatten(column)).as_py()


def check_prompts(
    folder: str | Path, tokenizer, asked: list[Need], prompts: list[list[int]]
) -> None:
    """Check the prompts that a setting's models are to answer, before any training.

    Args:
        folder: the start model's.
        prompts: token ids, of one prompt at least.

    Raises:
        UserError: as :func:`check_positions` and :func:`check_ids`.
    """
    model = text_config(folder)
    row, longest = max(enumerate(prompts), key=lambda item: len(item[1]))
    place = f"evaluation prompt {row} ({tokenizer.decode(longest)[:60]!r})"
    check_positions(positions(model), asked, folder, place, len(longest))
    check_ids(tokenizer, max(map(max, prompts)), model, "evaluation prompts")


def check_tokens(folder: str | Path, tokenizer, tokens: str | Path) -> None:
    """Check the pairs of ``tokens``, a file tokens.parquet, against the start model's embedding.

    Raises:
        UserError: as :func:`check_ids`.
    """
    from pyarrow import parquet

    model = text_config(folder)
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        column = parquet.read_table(tokens, columns=[name])[name]
        check_ids(tokenizer, largest_id(column), model, f"{tokens}, {name}")
