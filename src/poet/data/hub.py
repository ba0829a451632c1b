"""The door to the hub: data sets and models by id and revision; nothing that could run as code.

``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN`` and ``HF_HOME`` mean what they mean to
huggingface_hub; what was fetched once is found in its cache again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from poet.files import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# Weights as safetensors; configuration, tokenizer and chat template as text. No pickles, no Python.
_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
# Other copies of the same weights, as some repositories keep them.
_NOT_NEEDED = ("original/*", "onnx/*", "openvino/*", "*.ckpt/*")


def load_rows(dataset: str, revision: str | None, split: str) -> Dataset:
    """Rows of one split of a hub data set, at a commit hash, tag or branch (None: main).

    Raises:
        UserError: no such data set, revision or split; gated; no connection.
    """
    import datasets

    with _explained("data set", dataset, revision):
        try:
            rows = datasets.load_dataset(dataset, revision=revision, split=split)
        except datasets.exceptions.DatasetNotFoundError as error:
            raise UserError(f"{error} {_ADVICE}") from None
        except ValueError as error:  # an unknown split
            raise UserError(f"data set {dataset}: {error}") from None
    # When the hub does not answer, datasets takes any revision that it finds in its cache.
    folders = {part for file in rows.cache_files for part in Path(file["filename"]).parts}
    if revision and re.fullmatch("[0-9a-f]{40}", revision) and revision not in folders:
        raise UserError(f"data set {dataset}: only another revision than {revision} is in reach.")
    return rows


def model_path(name_or_path: str, revision: str | None = None) -> Path:
    """The folder of a model: a local folder itself, or a hub id's files in the hub's cache.

    Raises:
        UserError: neither a folder nor a model on the hub; gated; no connection; no safetensors.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") != 1:
            raise UserError(
                f"model {name_or_path}: no such folder. Expected a folder with config.json and "
                "safetensors, or a hub id like owner/name."
            )
        folder = _fetch(name_or_path, revision)
    for pattern in ("config.json", "*.safetensors"):
        if not any(folder.glob(pattern)):
            raise UserError(
                f"model {name_or_path}: no {pattern} in it. Expected a model in transformers' "
                "format with safetensors; other weight formats are not loaded."
            )
    return folder


def _fetch(model: str, revision: str | None) -> Path:
    import huggingface_hub

    with _explained("model", model, revision):
        return Path(
            huggingface_hub.snapshot_download(
                model,
                revision=revision,
                allow_patterns=list(_MODEL_FILES),
                ignore_patterns=list(_NOT_NEEDED),
            )
        )


_ADVICE = "Check the name and the revision; for a private or gated one, log in (HF_TOKEN) first."


@contextmanager
def _explained(kind: str, name: str, revision: str | None) -> Iterator[None]:
    """Turn the libraries' errors into a UserError that says which one it is and what to do."""
    from huggingface_hub import errors

    what = f"{kind} {name}" + (f" at revision {revision}" if revision else "")
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{what} is gated: accept its terms on its page. {_ADVICE}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{what} is not on the hub, or not for you to see. {_ADVICE}") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{what}: no such revision on the hub. {_ADVICE}") from None
    except (OSError, errors.HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{what} could not be fetched ({reason}).\n"
            "Is there a connection, is HF_HUB_OFFLINE set? Or give a local file or folder."
        ) from None
