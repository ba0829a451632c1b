"""A published model becomes the start model as it is: same weights, a tokenizer that can pad."""

import json
import os
import shutil

import pytest
from transformers import AutoTokenizer

from poet.evaluate.sampling import load_model
from poet.files import UserError
from poet.train import start as program

RECORD = {"model": "org/model", "model_revision": "a" * 40, "trust_remote_code": False}
RECORD["chat_template_kwargs"] = {}


def run(tmp_path, record, *flags):
    program.main(["--record", json.dumps(record), *flags, "--output", str(tmp_path / "out")])
    return tmp_path / "out"


@pytest.fixture
def published(start, tmp_path):
    """A copy of the tiny start model, whose tokenizer lost its pad token as Llama-3's has none."""
    folder = tmp_path / "published"
    shutil.copytree(start[0], folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def test_weights_of_the_hub_are_linked_and_the_rest_is_copied(published, tmp_path):
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    out = run(tmp_path, RECORD, "--base", str(published))
    assert os.path.samefile(out / "model.safetensors", published / "model.safetensors")
    assert (out / "config.json").read_bytes() == before["config.json"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.pad_token == tokenizer.eos_token is not None
    assert not (out / "pytorch_model.bin").exists()
    assert json.loads((out / "train.json").read_text())["record"] == RECORD
    # Completing the tokenizer did not write through to what the lock vouches for.
    assert {path.name: path.read_bytes() for path in published.iterdir()} == before


def test_weights_of_a_local_folder_are_copied(published, tmp_path):
    out = run(tmp_path, {**RECORD, "model": str(published)})
    assert not os.path.samefile(out / "model.safetensors", published / "model.safetensors")
    one, other = (f / "model.safetensors" for f in (out, published))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("token", "word"), [("eos_token", "EOS token"), (None, "chat template")])
def test_a_tokenizer_that_cannot_chat_is_refused(published, tmp_path, token, word):
    if token:
        tokenizer = AutoTokenizer.from_pretrained(published)
        tokenizer.eos_token = None
        tokenizer.save_pretrained(published)
    else:
        (published / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=f"has no {word}"):
        run(tmp_path, RECORD, "--base", str(published))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("missing", "message"), [("config.json", "no config.json"), ("*.safetensors", "safetensors")]
)
def test_a_folder_that_is_no_model_is_refused(published, tmp_path, missing, message):
    next(published.glob(missing)).unlink()
    with pytest.raises(UserError, match=message):
        run(tmp_path, RECORD, "--base", str(published))


@pytest.mark.parametrize("name", ["./absent", "/no/such/folder", "absent", "a/b/c"])
def test_no_such_folder(tmp_path, name):
    with pytest.raises(UserError, match="no such folder"):
        run(tmp_path, {**RECORD, "model": name})


def test_weights_that_are_not_in_the_files_are_not_made_up(published):
    """transformers makes them up and warns; the model would be trained and judged."""
    from safetensors.torch import load_file, save_file

    file = published / "model.safetensors"
    weights = load_file(file)
    gone = sorted(name for name in weights if "mlp" in name)
    save_file({n: w for n, w in weights.items() if n not in gone}, file, {"format": "pt"})
    with pytest.raises(UserError, match=f"{len(gone)} of the weights of .* first is {gone[0]}"):
        load_model(published, {"generation": {}})


def test_weights_under_a_name_that_transformers_does_not_look_for(published, tmp_path):
    (published / "model.safetensors").rename(published / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="no model.safetensors .* found model-00001-of-"):
        run(tmp_path, RECORD, "--base", str(published))
