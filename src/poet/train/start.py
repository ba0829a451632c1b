"""A published model as the start model: its files as they are, its tokenizer completed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from poet.data.ends import configured_ends
from poet.data.model_limits import (
    add_needs,
    check_class,
    check_positions,
    check_vocabulary,
    positions,
    text_config,
)
from poet.data.template_checks import check_template
from poet.files import UserError, cli, publish, read_json, record_parser, write_json
from poet.hub.folders import loadable, model_path
from poet.provenance import provenance


def load_tokenizer(record: dict, folder: str | Path):
    """The tokenizer of a published model, which can template and end answers, and pad.

    Raises:
        UserError: it has no EOS token, or no chat template (:func:`template_of`), or one whose text
            depends on the day.
    """
    from transformers import AutoTokenizer

    with loadable(f"the tokenizer of {record['model']}", "one that transformers can read"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=record.get("trust_remote_code")
        )
    check_template(tokenizer, record.get("chat_template_kwargs", {}))
    if tokenizer.eos_token is None:
        raise UserError(
            f"the tokenizer of {record['model']} has no EOS token; expected one, because answers "
            "have to end. Save the tokenizer with `eos_token` set."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_start(record: dict, source: Path, tokenizer, needs: list) -> None:
    """Check a published model's class, positions, vocabulary and ends, before it is used.

    ``needs``: see :func:`poet.data.model_limits.needs`.

    Raises:
        UserError: as the checks of :mod:`poet.data.model_limits`, and as :func:`configured_ends`.
    """
    check_class(read_json(source / "config.json"), record["model"], "the configuration")
    configured_ends(source)
    model = text_config(source, record.get("trust_remote_code"))
    check_positions(positions(model), needs, record["model"], "the configuration")
    check_vocabulary(tokenizer, model, record["model"])


def take(tokenizer, source: Path, folder: Path, shared: bool) -> None:
    """Bring a model's files into ``folder``; ``shared`` weights are linked rather than copied."""
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix in (".safetensors", ".json", ".py"):
            target = folder / file.name
            if shared and file.suffix == ".safetensors":
                with suppress(OSError):  # another file system, or one without hard links
                    os.link(file, target)
            if not target.exists():
                shutil.copyfile(file, target)
    tokenizer.save_pretrained(folder)


def main(argv=None) -> None:
    parser = record_parser(__doc__, "model folder")
    parser.add_argument("--base", help="folder of the hub's model, where the record names one")
    add_needs(parser)
    args = parser.parse_args(argv)
    record = args.record
    source = model_path(args.base or record["model"])
    tokenizer = load_tokenizer(record, source)
    check_start(record, source, tokenizer, args.needs)
    with publish(args.output) as folder:
        # Nobody changes what came from the hub; a folder of the user's may change any time.
        take(tokenizer, source, folder, shared=args.base is not None)
        write_json({"record": record, "provenance": provenance()}, folder / "train.json")


if __name__ == "__main__":
    cli(main)
