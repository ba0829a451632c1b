"""Files and progress: complete or absent, read back as written, errors that name the line."""

import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import absent
from poet.files import (
    UserError,
    cli,
    load_record,
    publish,
    read_json,
    read_jsonl,
    record_parser,
    remove,
    write_json,
    write_jsonl,
)
from poet.progress import track

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
rows = st.lists(st.dictionaries(texts, values, max_size=4), max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@given(values)
def test_json_round_trip(folder, value):
    write_json(value, folder / "a.json")
    assert read_json(folder / "a.json") == value
    assert json.loads((folder / "a.json").read_bytes()) == value  # UTF-8, as JSON wants
    assert list(folder.glob(".partial*")) == []


@given(rows, st.integers(0, 2))
def test_jsonl_round_trip(folder, rows, blanks):
    write_jsonl(rows, folder / "a.jsonl")
    assert read_jsonl(folder / "a.jsonl") == rows
    # Compressed, blank lines between, no newline at the end.
    text = ("\n" * blanks + "\n").join(json.dumps(row) for row in rows)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert read_jsonl(folder / "a.jsonl.gz") == rows


def test_keys_keep_their_order(tmp_path):
    write_json({"b": 1, "a": 2}, tmp_path / "a.json")
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"a": 1}', '{"a": '], r"a.jsonl, line 2: not valid JSON \(.+ at column \d+\)"),
        (['{"a": 1}', "", "[1]"], "a.jsonl, line 3: found a JSON list, expected an object"),
        (["3"], "a.jsonl, line 1: found a JSON int, expected an object"),
    ],
)
def test_broken_lines_are_named(tmp_path, lines, message):
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        read_jsonl(tmp_path / "a.jsonl")


def test_long_broken_line_is_shortened(tmp_path):
    (tmp_path / "a.jsonl").write_text("{" + "x" * 100_000)
    with pytest.raises(UserError) as error:
        read_jsonl(tmp_path / "a.jsonl")
    assert len(str(error.value)) < 500


def test_absent_file_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.jsonl.gz does not exist"):
        read_jsonl(tmp_path / "absent.jsonl.gz")


WHOLE = gzip.compress(b"".join(b'{"row": %d, "text": "abc"}\n' % i for i in range(50)), mtime=0)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_damaged_archives_are_user_errors(folder, position, flip):
    damaged = bytearray(WHOLE)
    damaged[position] ^= flip
    (folder / "flipped.jsonl.gz").write_bytes(damaged)
    (folder / "cut.jsonl.gz").write_bytes(WHOLE[:position])
    for name in ("flipped", "cut"):
        try:
            found = read_jsonl(folder / f"{name}.jsonl.gz")
        except UserError as error:
            assert f"{name}.jsonl.gz" in str(error)
        else:  # a bit of the header that means nothing, or nothing but an empty file
            assert found == [{"row": i, "text": "abc"} for i in range(50)] or position == 0


def test_publish_writes_whole_files_or_none(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with publish(target) as temporary:
        temporary.write_text("one")
        assert temporary.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(RuntimeError), publish(target) as temporary:
        temporary.write_text("two")
        raise RuntimeError
    assert target.read_text() == "one"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_publish_replaces_folders(tmp_path):
    target = tmp_path / "model"
    for content in ("one", "two"):
        with publish(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["two"]
    with pytest.raises(RuntimeError), publish(target) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "two"]


def test_two_processes_publish_the_same_folder(tmp_path):
    """As an orphan of a killed run and the job that does its work again."""
    publish_often = (
        "import sys; from poet.files import publish\n"
        "for _ in range(300):\n"
        "    with publish(sys.argv[1]) as folder:\n"
        "        folder.mkdir()\n"
        "        [(folder / name).touch() for name in 'abc']"
    )
    target = tmp_path / "model"
    command = [sys.executable, "-c", publish_often, str(target)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "c", "model"]


MODES = """
import os, sys, tempfile
from pathlib import Path
from poet.files import publish
folder = Path(sys.argv[1])
with publish(folder / "model") as model:
    (model / "deep").mkdir(parents=True)
    for name in ("weights", "deep/weights"):
        os.close(os.open(model / name, os.O_CREAT, 0o600))
    os.link(folder / "shared", model / "shared")
    (model / "named").symlink_to(folder / "shared")
with publish(folder / "file") as file:
    os.rename(tempfile.mkstemp(dir=folder)[1], file)
"""


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_published_files_can_be_read_by_whom_the_umask_allows(tmp_path, mask, mode):
    """Also those of libraries that make theirs private; files that are another's too stay as is."""
    (tmp_path / "shared").touch(0o600)
    subprocess.run([sys.executable, "-c", MODES, tmp_path], umask=mask, check=True)
    made = [tmp_path / name for name in ("model/weights", "model/deep/weights", "file")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [mode] * 3
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o600


def test_publish_starts_afresh_after_a_kill(tmp_path, planted):
    write = (
        "import os, signal, sys; from poet.files import publish\n"
        "with publish(sys.argv[1]) as folder:\n"
        "    (folder / 'half').mkdir(parents=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    model = tmp_path / "model"
    killed = subprocess.run([sys.executable, "-c", write, str(model)])
    assert killed.returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".partial-")
    with publish(model) as temporary:
        assert not temporary.exists() and not list(tmp_path.iterdir())
        temporary.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["model"]
    planted(
        "a job dies while it writes an output",
        "nothing under the final name; a leftover `.partial-*` beside it",
        "the next run removes the leftover and writes the output again",
    )


def test_full_disk(tmp_path, planted):
    """On a file system of 64 KiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        absent("mount", "a small file system cannot be mounted here (needs root)")
    try:
        write_json({"kept": True}, disk / "first.json")
        with pytest.raises(SystemExit) as stopped:
            cli(lambda: write_json(["x" * 100] * 1000, disk / "second.json"))
        assert [path.name for path in disk.iterdir()] == ["first.json"]
        assert read_json(disk / "first.json") == {"kept": True}
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "No space left on device" in str(stopped.value)
    planted("the disk is full", stopped.value, "the half-written output is removed")


def test_remove(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("folder", "link", "absent"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_records_come_inline_or_from_a_file(tmp_path):
    record = {"setting": "world", "beta": 0.1}
    write_json(record, tmp_path / "record.json")
    assert load_record(json.dumps(record)) == load_record(str(tmp_path / "record.json")) == record
    with pytest.raises(UserError, match="absent.json does not exist"):
        load_record(str(tmp_path / "absent.json"))
    with pytest.raises(UserError, match='{"setting": is not valid JSON'):
        load_record('{"setting":')


def test_programs_take_a_record_and_an_output(tmp_path, capsys):
    write_json({"setting": "world"}, tmp_path / "record.json")
    parser = record_parser("Train it.\n\nWith pairs.", "model folder")
    args = parser.parse_args(["--output", "out", "--record", str(tmp_path / "record.json")])
    assert (args.record, args.output) == ({"setting": "world"}, "out")
    assert parser.description == "Train it."
    with pytest.raises(UserError, match="absent.json does not exist"):
        parser.parse_args(["--output", "out", "--record", str(tmp_path / "absent.json")])
    for flags in (["--output", "out"], ["--record", "{}"]):
        with pytest.raises(SystemExit):
            parser.parse_args(flags)
    assert "required: --output" in capsys.readouterr().err


def test_user_errors_end_without_a_traceback(capsys):
    def fail():
        raise UserError("a.jsonl, line 2: ...")

    with pytest.raises(SystemExit) as end:
        cli(fail)
    assert end.value.code == "error: a.jsonl, line 2: ..."  # Python prints it and exits with 1
    with pytest.raises(ZeroDivisionError):  # anything else is a fault of ours and keeps its trace
        cli(lambda: 1 / 0)


def test_an_interrupt_ends_without_a_traceback(capsys):
    with pytest.raises(SystemExit) as end:
        cli(lambda: signal.raise_signal(signal.SIGINT))
    assert end.value.code == 130
    assert capsys.readouterr().err == "error: interrupted; the same command does the work again\n"


def test_programs_write_utf8_in_any_locale(tmp_path):
    code = "import sys; from poet.files import *; write_json(chr(0x2581), sys.argv[1])"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.json"], check=True, env=environment)
    assert read_json(tmp_path / "a.json") == chr(0x2581)


def test_progress_is_plain_lines(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(track(range(7), label="tokenize world")) == list(range(7))
    bar = track(total=3, label="train")
    bar.update(3)
    bar.set_postfix_str("loss 0.5")
    bar.close()
    lines = stream.getvalue().splitlines()
    assert all(line.isprintable() and len(line) <= 100 for line in lines)
    done = [line for line in lines if "100%" in line]
    assert any(line.startswith("tokenize world 100% |") and " 7/7 " in line for line in done)
    assert any(line.startswith("train 100% |") and line.endswith("loss 0.5") for line in done)
