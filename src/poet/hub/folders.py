"""What poet.hub.download has fetched, read without a connection: folders of models and data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poet.files import UserError, read_json
from poet.hub.lock import is_hub_id

# Who wrote AlpacaEval 2's reference answers
ALPACAEVAL_REFERENCE = "gpt4_1106_preview"
# What transformers makes a tokenizer of
TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*")
_INDEX = "model.safetensors.index.json"
_LFS = b"version https://git-lfs"


def loading(record: dict) -> dict:
    """What a resolved record says of loading its model, as arguments of ``from_pretrained``."""
    keys = ("attn_implementation", "trust_remote_code")
    return {key: record[key] for key in keys if record.get(key)}


def check_chat_template(folder: Path, where: str, who: str) -> None:
    """Check that a model's folder has a chat template, which ``who`` needs.

    Raises:
        UserError: ``where``, and that there is none.
    """
    settings = _object(folder / "tokenizer_config.json", where)
    patterns = ("chat_template.*", "additional_chat_templates/*")
    if not settings.get("chat_template") and not any(any(folder.glob(each)) for each in patterns):
        raise UserError(f"{where}: its tokenizer has no chat template; {who} needs one")


def named_tokenizer(name: str):
    """The tokenizer of a program's flag ``--tokenizer``, a folder or a hub's id.

    Raises:
        UserError: it is empty, or cannot be loaded.
    """
    from transformers import AutoTokenizer

    with loadable(f"--tokenizer {name}", "a folder with a tokenizer in it, or an id of the hub"):
        if not name:
            raise ValueError("the name is empty")
        return AutoTokenizer.from_pretrained(name)


def load_rows(folder: str | Path, split: str) -> Iterator[tuple[str, dict]]:
    """("row 1", row) and so on: one split of a data set repository.

    Raises:
        UserError: no such split, or nothing that `datasets` can read.
    """
    import datasets

    try:
        rows = datasets.load_dataset(str(folder), split=split)
    except (ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"data set {folder}, split {split}: {error}") from None
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))


def alpacaeval_prompts(folder: str | Path) -> list[dict]:
    """AlpacaEval 2's instructions in their order, with the reference answers, as rows of prompts.

    Raises:
        UserError: the answers are another generator's.
    """
    source = Path(folder) / "alpaca_eval_gpt4_baseline.json"
    rows = read_json(source)
    others = {row["generator"] for row in rows} - {ALPACAEVAL_REFERENCE}
    if others:
        raise UserError(
            f"{source}: found answers of {', '.join(sorted(others))}; expected "
            f"{ALPACAEVAL_REFERENCE}'s only"
        )
    return [
        {
            "index": index,
            "dataset": row["dataset"],
            "instruction": row["instruction"],
            "prompt": [{"role": "user", "content": row["instruction"]}],
            "reference": row["output"],
        }
        for index, row in enumerate(rows)
    ]


@contextmanager
def as_hub(folders: dict[str, str]) -> Iterator[None]:
    """Let ``datasets.load_dataset`` find data sets by hub id in ``folders`` (id -> folder).

    For libraries that load by id, as lm-eval does. Local files are loaded as ever.

    Raises:
        UserError: (by load_dataset) an id that is not in ``folders``.
    """
    import datasets

    original = datasets.load_dataset

    def load_dataset(path, *arguments, **options):
        if not is_hub_id(path):
            return original(path, *arguments, **options)
        if path not in folders:
            raise UserError(
                f"data set {path} is asked for, but the configuration does not name it; add "
                f"`{path}: unpinned` to `datasets` of the setting's `downstream`, then `make lock`"
            )
        options.pop("revision", None)  # the folder is the commit that the lock names
        return original(folders[path], *arguments, **options)

    datasets.load_dataset = load_dataset
    try:
        yield
    finally:
        datasets.load_dataset = original


@contextmanager
def loadable(what: str, expected: str) -> Iterator[None]:
    """Turn what transformers raises where it cannot load a folder into a UserError.

    Raises:
        UserError: naming ``what``, with the reason's first line and what was expected.
    """
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"{what} cannot be loaded: {reason}\nExpected {expected}.") from None


def whole_model(kind, folder: str | Path, **arguments):
    """A model with all its weights from its folder, that can be saved once it is trained.

    transformers gives random values to weights that it does not find, and saves no changed
    generation configuration that it finds inconsistent, as Llama-2's with a temperature but
    without do_sample: of such a one the token ids stay, which are all that is read of it.

    Args:
        kind: ``AutoModelForCausalLM`` or another class with a ``from_pretrained``.
        arguments: its own, see :func:`loading`.

    Raises:
        UserError: it cannot be loaded, or lacks weights or has them in other shapes.
    """
    from transformers import GenerationConfig

    with loadable(f"the model {folder}", f"one for {kind.__name__}"):
        model, found = kind.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
        )
    lacking = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    if lacking:
        made_for = (read_json(Path(folder) / "config.json").get("architectures") or ["nothing"])[0]
        raise UserError(
            f"{folder}: {len(lacking)} of the weights of {type(model).__name__} are not in it, or "
            f"in another shape, the first is {min(lacking)}; they would be random. Its config.json "
            f"names {made_for}. Give a whole model of the kind that is asked for, with the "
            "config.json that belongs to it."
        )
    try:
        if model.can_generate():
            model.generation_config.validate(strict=True)
    except ValueError:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        ids = {name: getattr(model.generation_config, name) for name in names}
        model.generation_config = GenerationConfig(**ids)
    return model


def model_path(folder: str | Path) -> Path:
    """A folder with a model in transformers' format; see :func:`check_model`."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"model {folder}: no such folder. Expected a folder with config.json and safetensors, "
            "or a hub id like owner/name."
        )
    check_model(folder, str(folder))
    return folder


def check_model(folder: Path, name: str) -> None:
    """Refuse a folder that is no model in transformers' format, or needs code that it lacks.

    Code is there only if the configuration allowed it when the lock was made; it is run only if
    the configuration allows it now.

    Raises:
        UserError: saying what is missing, or how code is allowed.
    """
    for pattern in ("config.json", "*.safetensors"):
        if not any(folder.glob(pattern)):
            raise UserError(
                f"model {name}: no {pattern} in it. Expected a model in transformers' format with "
                "safetensors; other weight formats are not loaded."
            )
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES):
        raise UserError(
            f"model {name}: no tokenizer in it, neither of {', '.join(TOKENIZER_FILES)}. Save it "
            "there with `tokenizer.save_pretrained`."
        )
    for file in ("tokenizer_config.json", "generation_config.json"):
        _object(folder / file, name)
    config = _object(folder / "config.json", name)
    if not isinstance(config.get("text_config") or {}, dict):
        raise UserError(f"model {name}: text_config in its config.json is no object")
    _check_weights(folder, name)
    if "auto_map" in config and not any(folder.glob("*.py")):
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if config.get("model_type") not in CONFIG_MAPPING_NAMES:
            raise UserError(
                f"model {name} brings code of its own ({', '.join(config['auto_map'].values())}), "
                "which is not run. If you have read it and trust it, set `trust_remote_code: true` "
                "beside its name and a full commit hash as `revision`, delete its entry from the "
                "lock file, and run `make lock`."
            )


def _object(file: Path, name: str) -> dict:
    """The JSON object in a model's file; an empty one where there is no such file."""
    if not file.is_file():
        return {}
    try:
        found = read_json(file)
    except ValueError as error:
        raise UserError(f"model {name}: its {file.name} is no JSON ({error})") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise UserError(f"model {name}: its {file.name} is a JSON {kind}, expected an object")
    return found


def _check_weights(folder: Path, name: str) -> None:
    """Refuse weights that are not all there: shards, and their bytes, as far as headers tell."""
    if not (folder / "model.safetensors").is_file():
        listed = _object(folder / _INDEX, name).get("weight_map")
        if not listed or not isinstance(listed, dict):
            found = ", ".join(sorted(file.name for file in folder.glob("*.safetensors"))[:3])
            raise UserError(
                f"model {name}: no model.safetensors in it, and no {_INDEX} that lists its parts "
                f"in a weight_map; found {found}. Copy or download the whole folder, or save the "
                "model anew with `model.save_pretrained`."
            )
        shards = sorted(set(listed.values()))
        if lacking := [shard for shard in shards if not (folder / shard).is_file()]:
            raise UserError(
                f"model {name}: {len(lacking)} of the {len(shards)} files that {_INDEX} lists are "
                f"not there, the first is {lacking[0]}. Copy or download the whole folder."
            )
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            if stream.read(len(_LFS)) == _LFS:
                raise UserError(
                    f"model {name}: {file.name} is Git LFS's note on a file, not the weights. Run "
                    "`git lfs pull` in the folder."
                )
        found, expected = file.stat().st_size, _whole(file)
        if found != expected:
            raise UserError(
                f"model {name}: {file.name} is cut off or damaged: found {found} bytes, expected "
                f"{expected or 'a header of safetensors'}. Copy or download it again."
            )


def _whole(file: Path) -> int | None:
    """How many bytes a safetensors file has by its header; None where it has no such header."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size:
            return None
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            return 8 + length + max((of["data_offsets"][1] for of in header.values()), default=0)
        except (ValueError, AttributeError, TypeError, KeyError):
            return None
