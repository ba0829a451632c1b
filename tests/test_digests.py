"""Digests of local files and folders: they change with the content, and with nothing else."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet import digests
from poet.files import UserError


@pytest.fixture
def settled(monkeypatch):
    """Take files that a test has just written for old ones."""
    monkeypatch.setattr(digests, "_TICK", -(10**18))


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read."""
    names, read = [], digests._sha256
    monkeypatch.setattr(
        digests, "_sha256", lambda file, bar: names.append(file.name) or read(file, bar)
    )
    return names


def model(folder: Path) -> Path:
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.model", "chat_template.jinja"):
        (folder / name).write_text(name)
    return folder


def test_equal_content_has_equal_digests_wherever_it_lies(tmp_path):
    one, other = model(tmp_path / "one"), model(tmp_path / "other")
    cache = tmp_path / "cache.json"
    assert digests.digest(one, cache) == digests.digest(other, cache)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.model", "chat_template.jinja"]
)
def test_same_size_and_time_hide_no_change(tmp_path, settled, name):
    folder, cache = model(tmp_path / "m"), tmp_path / "cache.json"
    before = digests.digest(folder, cache)
    found = os.stat(folder / name)
    text = (folder / name).read_text()
    (folder / name).write_text(text[::-1])
    os.utime(folder / name, ns=(found.st_atime_ns, found.st_mtime_ns))
    changed = os.stat(folder / name)
    assert (changed.st_size, changed.st_mtime_ns, changed.st_ino) == (
        found.st_size, found.st_mtime_ns, found.st_ino,
    )  # fmt: skip
    assert digests.digest(folder, cache) != before
    (folder / name).write_text(text)
    assert digests.digest(folder, cache) == before


def test_a_file_that_comes_goes_or_is_renamed_is_a_change(tmp_path):
    folder, cache = model(tmp_path / "m"), tmp_path / "cache.json"
    found = [digests.digest(folder, cache)]
    (folder / "model.safetensors").rename(folder / "model-2.safetensors")
    found.append(digests.digest(folder, cache))
    (folder / "generation_config.json").write_text("{}")
    found.append(digests.digest(folder, cache))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")
    found.append(digests.digest(folder, cache))
    assert len(set(found)) == 4
    # What is never loaded: pickles, optimizer states, a note.
    for name in ("pytorch_model.bin", "optimizer.pt", "README.md"):
        (folder / name).write_text("x")
    assert digests.digest(folder, cache) == found[-1]


def test_nothing_is_read_twice(tmp_path, settled, reads):
    folder, cache = model(tmp_path / "m"), tmp_path / ".snakemake" / "cache.json"
    first = digests.digest(folder, cache)
    assert len(reads) == 4
    assert digests.digest(folder, cache) == first and len(reads) == 4
    (folder / "config.json").write_text("{}")
    digests.digest(folder, cache)
    assert reads[4:] == ["config.json"]


def test_what_was_written_this_moment_is_read_again(tmp_path, reads):
    """A change within the same tick of the file system's clock would have the same stamp."""
    path, cache = tmp_path / "pairs.jsonl", tmp_path / "cache.json"
    path.write_text("a")
    digests.digest(path, cache)
    digests.digest(path, cache)
    assert reads == ["pairs.jsonl"] * 2


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"PATH": 3}', '{"PATH": ["abc"]}', "\x00"])
def test_a_damaged_cache_is_made_anew(tmp_path, settled, reads, content):
    path, cache = tmp_path / "pairs.jsonl", tmp_path / "cache.json"
    path.write_text("a")
    cache.write_text(content.replace("PATH", str(path)))
    found = digests.digest(path, cache)
    assert digests.digest(path, cache) == found and reads == ["pairs.jsonl"]
    assert found == digests.digest(path, tmp_path / "other.json")


def test_many_at_once(tmp_path, settled):
    paths = [tmp_path / f"{number}.jsonl" for number in range(20)]
    for path in paths:
        path.write_text(path.name)
    cache = tmp_path / "cache.json"
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        found = list(pool.map(digests.digest, paths, [cache] * 20))
    assert len(set(found)) == len(paths)
    assert [digests.digest(path, tmp_path / "alone.json") for path in paths] == found


@given(st.binary(), st.binary())
def test_digests_differ_as_the_contents_do(tmp_path_factory, one, other):
    folder = tmp_path_factory.mktemp("two")
    found = []
    for content in (one, other):
        (folder / "f").write_bytes(content)
        found.append(digests.digest(folder / "f", folder / "cache.json"))
    assert (found[0] == found[1]) == (one == other)


def test_a_big_folder_says_that_it_is_read(tmp_path, settled, monkeypatch, capsys):
    folder, cache = model(tmp_path / "m"), tmp_path / "cache.json"
    (folder / "model.safetensors").write_bytes(bytes(2**21))
    monkeypatch.setattr(digests, "BIG", 2**21)
    digests.digest(folder, cache)
    assert "read m (MiB)" in capsys.readouterr().err
    digests.digest(folder, cache)
    assert capsys.readouterr().err == ""


def test_what_is_not_there_is_named_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/absent.jsonl: no such file"):
        digests.digest("absent.jsonl", "cache.json")
