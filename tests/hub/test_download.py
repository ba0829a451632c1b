"""The hub's door against a served hub: real HTTP, huggingface_hub unchanged, faults on command."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants, snapshot_download

from poet.files import UserError
from poet.hub import download as hub
from poet.hub import lock
from served_hub import TOKEN, Fault, ServedHub, sha256

MODEL, DATA = "tiny/model", "datasets/tiny/pairs"
WEIGHTS = "model.safetensors"


def make_repositories(root: Path) -> None:
    """A model of two tensors with its tokenizer, the same as a pickle and as code; a data set."""
    import pyarrow
    import torch
    from pyarrow import parquet
    from safetensors.torch import save_file

    for name in (MODEL, DATA, "tiny/pickled", "datasets/tiny/script"):
        (root / name).mkdir(parents=True)
    model = root / MODEL
    (model / "config.json").write_text('{"model_type": "llama", "hidden_size": 4}')
    (model / "tokenizer.json").write_text('{"version": "1.0"}')
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (model / "modeling_tiny.py").write_text("raise SystemExit('code from the hub was run')")
    save_file({"weight": torch.arange(200.0)}, model / WEIGHTS)
    torch.save({"weight": torch.arange(200.0)}, model / "pytorch_model.bin")
    (model / "original").mkdir()
    shutil.copy(model / WEIGHTS, model / "original")
    shutil.copy(model / "pytorch_model.bin", root / "tiny/pickled")
    (root / "datasets/tiny/script/script.py").write_text("raise SystemExit")
    rows = [{"prompt": "one and one?", "chosen": "two", "rejected": "three"}]
    (root / DATA / "data").mkdir()
    file = root / DATA / "data" / "train-00000-of-00001.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    make_repositories(folder)
    return folder


def point_to(monkeypatch, url: str) -> None:
    """What huggingface_hub makes of HF_ENDPOINT when it is imported."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def served(root, tmp_path, monkeypatch):
    """The hub, a fresh HF_HOME, short waits; what huggingface_hub read from the environment."""
    with ServedHub(root) as server:
        point_to(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)  # what is kept of an interruption
        monkeypatch.setattr(hub, "WAIT", 0.01)
        for name in ("HF_TOKEN", "POET_HUB_MIRROR"):
            monkeypatch.delenv(name, raising=False)
        yield server


@pytest.fixture
def pinned(served):
    """Lock entries as `make lock` writes them; what was asked for on the way is forgotten."""
    entries = {
        MODEL: hub.describe(MODEL, None, lock.MODEL_FILES),
        DATA: hub.describe(DATA, None, lock.DATA_FILES),
    }
    served.asked.clear()
    return entries


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_lock_entry_says_what_is_there(served, root):
    found = hub.describe(MODEL, None, lock.MODEL_FILES)
    assert found["revision"] == served.commit(MODEL)
    names = {"config.json", "tokenizer.json", "chat_template.jinja", WEIGHTS}
    assert set(found["files"]) == names
    for path, file in found["files"].items():
        assert file["size"] == (root / MODEL / path).stat().st_size
        assert file["sha256"] == sha256(root / MODEL / path)
    # The hub's word is taken for large files, and pickles, copies and code are not looked at.
    asked = " ".join(served.downloads())
    assert WEIGHTS not in asked and ".bin" not in asked and ".py" not in asked


def test_download_brings_what_the_lock_lists_and_nothing_else(served, pinned, root, tmp_path):
    for name in (MODEL, DATA):
        hub.download(name, pinned[name], tmp_path / name)
        found = contents(tmp_path / name)
        assert found == {path: (root / name / path).read_bytes() for path in pinned[name]["files"]}
    assert len(served.downloads()) == 5
    assert not list(tmp_path.rglob(".incomplete*"))


@pytest.mark.parametrize("kind", ["stall", "cut", 429, 503])
def test_passing_faults_are_waited_for_and_the_rest_is_fetched(served, pinned, tmp_path, kind):
    served.faults.append(Fault(WEIGHTS, kind))
    hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    assert sha256(tmp_path / "model" / WEIGHTS) == pinned[MODEL]["files"][WEIGHTS]["sha256"]
    tries = [asked for asked in served.asked if asked[1].endswith(WEIGHTS)]
    assert len(tries) == 2
    assert tries[1][2] == ("bytes=40-" if kind in ("stall", "cut") else None)


@pytest.mark.parametrize("kind", ["corrupt", "short", "longer"])
def test_wrong_content_is_deleted_and_asked_for_again(served, pinned, tmp_path, capsys, kind):
    served.faults.append(Fault(WEIGHTS, kind, times=2))
    hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    assert sha256(tmp_path / "model" / WEIGHTS) == pinned[MODEL]["files"][WEIGHTS]["sha256"]
    assert capsys.readouterr().err.count("not what the lock says") == 2
    # Bytes of the wrong file are never kept as the beginning of the right one.
    assert [asked[2] for asked in served.asked if asked[1].endswith(WEIGHTS)] == [None] * 3


@pytest.mark.parametrize("kind", ["corrupt", "short"])
def test_content_that_stays_wrong_is_refused(served, pinned, tmp_path, kind, planted):
    served.faults.append(Fault(WEIGHTS, kind, times=99))
    with pytest.raises(UserError) as error:
        hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    message = str(error.value)
    assert f"{MODEL}/{WEIGHTS}" in message and pinned[MODEL]["files"][WEIGHTS]["sha256"] in message
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.rglob(f"{WEIGHTS}*"))
    planted(f"hub: a file is {kind}, and stays so", message, "the wrong file is deleted")


def test_an_interrupted_download_goes_on_where_it_was(served, pinned, tmp_path, planted):
    served.faults.append(Fault(WEIGHTS, "cut", times=99, after=50))
    with pytest.raises(
        UserError, match=r"could not be fetched .*\n.*is kept, so that the next try"
    ) as error:
        hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    assert not (tmp_path / "model").exists()
    served.faults.clear()
    served.asked.clear()
    hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    # What was complete is not asked for again, and of the rest only what is missing.
    assert len(served.downloads()) == 1
    assert int(served.asked[-1][2].removeprefix("bytes=").removesuffix("-")) >= 50
    planted("hub: the connection is cut, every time", error.value, "the next run asks for the rest")
    assert sha256(tmp_path / "model" / WEIGHTS) == pinned[MODEL]["files"][WEIGHTS]["sha256"]


def test_a_hub_that_stays_down(served, pinned, tmp_path, planted):
    served.faults.append(Fault("config.json", 503, times=99))
    refused = f"{MODEL} at revision .* could not be fetched .*503"
    with pytest.raises(UserError, match=refused) as error:
        hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    planted("hub: answers 503", error.value, "finished files are kept; run again")


def test_a_hub_that_is_not_there(served, pinned, tmp_path, monkeypatch):
    point_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "ATTEMPTS", 1)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match="could not be fetched"):
        hub.download(MODEL, pinned[MODEL], tmp_path / "model")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_other", 403)])
def test_gated_names_the_page_and_the_variable(
    served, pinned, tmp_path, monkeypatch, token, status, planted
):
    served.gated.add(MODEL)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    for call in (
        lambda: hub.download(MODEL, pinned[MODEL], tmp_path / "model"),
        lambda: hub.describe(MODEL, None, lock.MODEL_FILES),
    ):
        with pytest.raises(UserError) as error:
            call()
        message = str(error.value)
        assert f"accept its terms at {served.url}/{MODEL}" in message and "HF_TOKEN" in message
        assert token is None or token not in message
    planted(f"hub: a gated model answers {status}", message, "set the variable and run again")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    assert (tmp_path / "model" / WEIGHTS).exists()


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        ("tiny/absent", None, "tiny/absent is not on the hub"),
        ("datasets/tiny/absent", None, "datasets/tiny/absent is not on the hub"),
        (MODEL, "f" * 40, "no such revision on the hub"),
        ("tiny/pickled", None, "lacks what is taken from the hub"),
        ("datasets/tiny/script", None, "lacks what is taken from the hub"),
    ],
)
def test_what_cannot_be_locked(served, name, revision, expected, planted):
    patterns = lock.DATA_FILES if name.startswith("datasets/") else lock.MODEL_FILES
    with pytest.raises(UserError, match=expected) as error:
        hub.describe(name, revision, patterns)
    planted(f"hub: `make lock` for {name}, {expected}", error.value, "the lock file is not written")


def test_a_file_that_left_the_hub(served, pinned, tmp_path, planted):
    pinned[MODEL]["files"]["gone.json"] = {"size": 3, "sha256": "0" * 64}
    with pytest.raises(UserError, match=r"a file of the lock is not there: .*\n?.*") as error:
        hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    planted("hub: a file answers 404", error.value, "nothing under the final name")


def test_no_file_leaves_its_folder(served, pinned, tmp_path):
    pinned[MODEL]["files"]["../evil.json"] = {"size": 3, "sha256": "0" * 64}
    with pytest.raises(UserError, match="outside the repository"):
        hub.download(MODEL, pinned[MODEL], tmp_path / "model")


def test_disk_space_comes_first(served, pinned, tmp_path, monkeypatch, planted):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(UserError, match=r"needs 0.0 GB, but 0.0 GB are free") as error:
        hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    planted("hub: no room for a download", error.value, "nothing is downloaded")
    assert served.downloads() == []


def test_mirror_is_asked_first_and_checked_too(served, pinned, root, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    shutil.copytree(root, mirror)
    monkeypatch.setenv("POET_HUB_MIRROR", str(mirror))
    hub.download(MODEL, pinned[MODEL], tmp_path / "whole")
    assert served.asked == [] and (tmp_path / "whole" / WEIGHTS).exists()
    (mirror / MODEL / "config.json").write_text("{}")  # not what the lock says
    hub.download(MODEL, pinned[MODEL], tmp_path / "damaged")
    assert [Path(path).name for path in served.downloads()] == ["config.json"]
    assert contents(tmp_path / "damaged") == contents(tmp_path / "whole")


def test_the_libraries_cache_is_used(served, pinned, tmp_path):
    revision = pinned[MODEL]["revision"]
    snapshot_download(MODEL, revision=revision)
    served.asked.clear()
    hub.download(MODEL, pinned[MODEL], tmp_path / "model")
    assert served.asked == []


# One file


@pytest.fixture
def lock_file(pinned, tmp_path) -> Path:
    path = tmp_path / "hub.lock.yaml"
    path.write_text(lock.HEADER + yaml.safe_dump(pinned))
    return path


def test_fetch_one_file(served, lock_file, root):
    path = hub.fetch("tiny/model", "config.json", lock_file)
    assert path.read_bytes() == (root / MODEL / "config.json").read_bytes()
    served.asked.clear()
    assert hub.fetch("tiny/model", "config.json", lock_file) == path
    assert served.asked == []
    path.write_text("{}")  # somebody's change is noticed
    assert hub.fetch("tiny/model", "config.json", lock_file) == path
    assert json.loads(path.read_text())["model_type"] == "llama"


@pytest.mark.parametrize(
    ("name", "filename", "expected"),
    [
        ("tiny/other", "config.json", "tiny/other is not in the lock file"),
        ("datasets/tiny/model", "config.json", "datasets/tiny/model is not in the lock file"),
        ("tiny/model", "pytorch_model.bin", "lists no pytorch_model.bin"),
    ],
)
def test_what_the_lock_lacks_names_make_lock(lock_file, name, filename, expected):
    with pytest.raises(UserError, match=expected) as error:
        hub.fetch(name, filename, lock_file)
    assert "make lock" in str(error.value).replace("\n", " ")


def test_no_lock_at_all_names_make_lock(tmp_path, planted):
    with pytest.raises(UserError, match="make lock") as error:
        hub.main(["--repository", MODEL, "--lock", str(tmp_path / "no.yaml"), "--output", "x"])
    planted("hub: no lock file", error.value, "nothing is downloaded")


# Code


def test_remote_code_is_refused_unless_named(served, root, tmp_path, pinned, lock_file):
    config = root / MODEL / "config.json"
    before = config.read_text()
    config.write_text(json.dumps({"model_type": "odd", "auto_map": {"AutoModel": "m.Odd"}}))
    try:
        for patterns, allowed in ((lock.MODEL_FILES, False), ((*lock.MODEL_FILES, "*.py"), True)):
            entries = {MODEL: hub.describe(MODEL, None, patterns)}
            lock_file.write_text(yaml.safe_dump(entries))
            arguments = ["--repository", MODEL, "--lock", str(lock_file)]
            output = tmp_path / f"model-{allowed}"
            if allowed:
                hub.main([*arguments, "--output", str(output)])
                assert (output / "modeling_tiny.py").exists()
            else:
                with pytest.raises(UserError, match=r"code of its own \(m.Odd\), which is not run"):
                    hub.main([*arguments, "--output", str(output)])
    finally:
        config.write_text(before)
