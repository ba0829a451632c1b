"""Files that are not what their name says: read, or refused by name; never half-read."""

import bz2
import errno
import gzip
import json
import lzma
import pickle
import re
import subprocess
import zipfile
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from poet.data.containers import HEAD, BadRow, read_rows
from poet.files import UserError

ROWS = [{"prompt": f"Frage {n}: naïve 東京 🙂\u2028?", "n": n} for n in range(5)]


def lines(rows=ROWS, **how):
    return "".join(json.dumps(row, ensure_ascii=False, **how) + "\n" for row in rows)


def rows_of(path):
    return [row for _, row in read_rows(path)]


def refused(path) -> str:
    with pytest.raises(UserError) as error:
        rows_of(path)
    text = str(error.value)
    assert str(path) in text and len(text.splitlines()) < 6
    return text


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_parquet(rows, folder):
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "made")
    return (folder / "made").read_bytes()


MADE = {  # every way to write the same rows
    "lines": lambda rows, folder: lines(rows),
    "lines, ASCII": lambda rows, folder: "".join(json.dumps(row) + "\n" for row in rows),
    "no newline at the end": lambda rows, folder: lines(rows).rstrip("\n"),
    "blank lines and CRLF": lambda rows, folder: lines(rows).replace("\n", "\r\n\r\n  \r\n"),
    "byte order mark": lambda rows, folder: "\ufeff" + lines(rows),
    "a mark at every joint": lambda rows, folder: "".join("\ufeff" + lines([r]) for r in rows),
    "array": lambda rows, folder: json.dumps(rows, ensure_ascii=False),
    "array, indented": lambda rows, folder: "\ufeff\n" + json.dumps(rows, indent=2) + "\n",
    "array, a row a line": lambda rows, folder: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]",
    "objects over lines": lambda rows, folder: "\n".join(json.dumps(r, indent=1) for r in rows),
    "objects without a newline": lambda rows, folder: "".join(map(json.dumps, rows)),
    "old Mac newlines": lambda rows, folder: lines(rows).replace("\n", "\r"),
    "parquet": as_parquet,
}


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz", "pairs.json", "pairs.parquet"])
@pytest.mark.parametrize("made", MADE)
def test_content_is_read_whatever_the_name(tmp_path, made, name):
    content = MADE[made](ROWS, tmp_path)
    path = put(tmp_path, name, content)
    assert rows_of(path) == ROWS
    if made != "parquet":
        assert rows_of(put(tmp_path, name, gzip.compress(path.read_bytes()))) == ROWS


@pytest.mark.parametrize("made", [made for made in MADE if made != "parquet"])
@pytest.mark.parametrize("place", ["the row", "a message"])
def test_a_key_that_stands_twice_is_a_bad_row_and_the_rows_around_it_are_read(
    tmp_path, made, place
):
    key = "n" if place == "the row" else "role"
    rows = [{"n": n, "m": [{"role": "user", "content": n}]} for n in range(5)]
    rows[2] = {"n": 2, "N": 7, "m": [{"role": "user", "ROLE": "assistant", "content": "x" * 50}]}
    text = MADE[made](rows, tmp_path)
    found = rows_of(put(tmp_path, "x.jsonl", text.replace(f'"{key.upper()}"', f'"{key}"')))
    assert [row for row in found if row is not found[2]] == rows[:2] + rows[3:]
    assert isinstance(found[2], BadRow) and f"stands twice in a JSON object; found '{key}'" in str(
        found[2]
    )


def test_a_key_that_stands_twice_in_a_long_row(tmp_path):
    row = '{"text": "%s", "n": 1, "n": 2}' % ("x" * 3 * HEAD)
    first, bad, last = rows_of(put(tmp_path, "x.json", f'[{{"n": 0}}, {row}, {{"n": 3}}]'))
    assert (first, last) == ({"n": 0}, {"n": 3}) and "stands twice" in str(bad)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
objects = st.dictionaries(st.text(min_size=1, max_size=4), values, min_size=1, max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("random")


@settings(max_examples=60)
@given(
    st.lists(objects, min_size=1, max_size=5),
    st.sampled_from([made for made in MADE if made != "parquet"]),
)
def test_any_json_objects_in_any_text(folder, rows, made):
    assert rows_of(put(folder, "x.jsonl", MADE[made](rows, folder))) == rows


@settings(max_examples=80)
@given(st.sampled_from(list(MADE)), st.booleans(), st.data())
def test_what_is_cut_off_is_an_error_or_fewer_rows(folder, made, zipped, data):
    """Never a traceback, never a row that was not there."""
    content = MADE[made](ROWS, folder)
    content = content.encode() if isinstance(content, str) else content
    content = gzip.compress(content) if zipped else content
    end = data.draw(st.integers(0, len(content) - 1))
    path = put(folder, "cut.jsonl", content[:end])
    try:
        found = [row for _, row in read_rows(path) if not isinstance(row, BadRow)]
    except UserError:
        return
    assert found == ROWS[: len(found)]


@settings(max_examples=80)
@given(st.sampled_from(list(MADE)), st.binary(min_size=1, max_size=4), st.data())
def test_what_is_damaged_is_no_traceback(folder, made, noise, data):
    content = MADE[made](ROWS, folder)
    content = content.encode() if isinstance(content, str) else content
    at = data.draw(st.integers(0, len(content)))
    path = put(folder, "damaged.jsonl", content[:at] + noise + content[at + len(noise) :])
    try:
        rows_of(path)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("text", [lines(), json.dumps(ROWS)])
def test_another_unicode_encoding_is_named_with_what_converts_it(tmp_path, encoding, text):
    path = put(tmp_path, "a pair's.jsonl", text.encode(encoding))
    message = refused(path)
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    assert f"found {name} text, expected UTF-8" in message
    assert converted(message, tmp_path) == ROWS


def converted(message, folder):
    """The rows of the file that the message's command makes."""
    command = re.search(r"((iconv|gunzip) .*)$", message, re.MULTILINE)[1]
    subprocess.run(command, shell=True, check=True, cwd=folder)
    return rows_of(folder / "utf8.jsonl")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_text_that_is_not_utf8_is_refused_with_line_and_byte(tmp_path, encoding, zipped):
    rows = [{"prompt": "plain"}] * 3 + [{"prompt": "a café"}]
    content = lines(rows).encode(encoding)
    path = put(tmp_path, "x.jsonl.gz" if zipped else "x.jsonl", content)
    if zipped:
        path.write_bytes(gzip.compress(content))
    message = refused(path)
    assert "line 4, byte 18: found b'\\xe9', expected UTF-8" in message
    assert converted(message, tmp_path) == rows
    array = put(tmp_path, "y.json", json.dumps(rows, ensure_ascii=False, indent=0).encode(encoding))
    assert "line 12, byte 17: found" in refused(array)


def test_the_byte_of_a_long_line(tmp_path):
    text = json.dumps(["x" * 3 * HEAD, "é"], ensure_ascii=False)
    message = refused(put(tmp_path, "x.json", text.encode("latin-1")))
    assert f"line 1, byte {text.index('é') + 1}: found" in message


def test_zeros_and_unfinished_characters_are_damage(tmp_path):
    assert "NUL bytes only" in refused(put(tmp_path, "a.jsonl", b"\0" * 500))
    content = lines().encode()
    assert "line 6: NUL bytes" in refused(put(tmp_path, "b.jsonl", content + b"\0" * 50))
    joined = content + lines().encode("utf-16-le")
    assert re.search("line 6: NUL|binary data", refused(put(tmp_path, "c.jsonl", joined)))
    cut = json.dumps({"prompt": "東"}, ensure_ascii=False).encode()[:13]
    assert "cut off" in refused(put(tmp_path, "d.jsonl", content + cut))


def zipped(rows, folder):
    with zipfile.ZipFile(folder / "made.zip", "w") as file:
        file.writestr("pairs.jsonl", rows)
    return (folder / "made.zip").read_bytes()


def arrow(folder, kind):
    table = pyarrow.Table.from_pylist(ROWS)
    with kind(folder / "made.arrow", table.schema) as writer:
        writer.write_table(table)
    return (folder / "made.arrow").read_bytes()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda text, folder: zipped(text, folder), "a zip archive"),
        (lambda text, folder: bz2.compress(text.encode()), "bzip2"),
        (lambda text, folder: b"\x04\x22\x4d\x18 and more", "LZ4"),
        (lambda text, folder: lzma.compress(text.encode()), "compressed by xz"),
        (lambda text, folder: b"\x28\xb5\x2f\xfd and more", "Zstandard"),
        (lambda text, folder: gzip.compress(gzip.compress(text.encode())), "gzip within gzip"),
        (lambda text, folder: pickle.dumps(ROWS), "a Python pickle"),
        (lambda text, folder: arrow(folder, pyarrow.ipc.new_file), "an Arrow file"),
        (lambda text, folder: arrow(folder, pyarrow.ipc.new_stream), "an Arrow stream"),
        (lambda text, folder: gzip.compress(as_parquet(ROWS, folder)), "gzipped parquet"),
        (lambda text, folder: b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (lambda text, folder: b"\n<!DOCTYPE html><html>", "a web page"),
        (lambda text, folder: b"prompt,chosen,rejected\nhi,a,b\n", "CSV"),
        (lambda text, folder: b'"chosen"\t"rejected"\na\tb\n', "CSV"),
        (lambda text, folder: b"\x00\x01\x02\xff\xfe" * 40, "binary data|text|NUL"),
    ],
)
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet", "pairs"])
def test_other_kinds_of_file_are_named(tmp_path, make, said, name):
    assert re.search(said, refused(put(tmp_path, name, make(lines(), tmp_path))))


def test_csv_is_refused_by_its_name_too(tmp_path):
    for name in ("x.csv", "x.TSV"):
        assert "CSV" in refused(put(tmp_path, name, "a,b\n1,2\n"))
        for content in (lines(), json.dumps(ROWS), as_parquet(ROWS, tmp_path)):
            assert rows_of(put(tmp_path, name, content)) == ROWS


def test_a_parquet_file_that_is_cut_off(tmp_path):
    path = put(tmp_path, "x.parquet", as_parquet(ROWS, tmp_path)[:-40])
    assert "not a readable parquet file" in refused(path)
    assert "cut off" in refused(put(tmp_path, "y.parquet", b"PAR1 and no more"))


def test_gzip_that_is_cut_off_or_broken(tmp_path):
    whole = gzip.compress(lines().encode())
    for content in (whole[:-12], whole[:20] + b"\0" * 40):
        assert "damaged or unreadable" in refused(put(tmp_path, "x.jsonl.gz", content))


def test_an_array_that_is_cut_off_or_goes_on(tmp_path):
    array = json.dumps(ROWS)
    for content in (array[:-1], array[:-30], array[: array.rindex(",") + 1]):
        assert re.search("item [5-6]: not valid JSON", refused(put(tmp_path, "x.json", content)))
    message = refused(put(tmp_path, "x.json", "[\n]" + array))
    assert "after the end of the array" in message
    (row,) = rows_of(put(tmp_path, "x.json", '["text"]'))
    assert "not a JSON object" in str(row)


def test_lines_of_which_the_first_is_broken_stay_lines(tmp_path):
    for broken in ('{"prompt": "a', "[1, 2]", "# rows", "{'prompt': 1}"):
        first, *rest = rows_of(put(tmp_path, "x.jsonl", broken + "\n" + lines()))
        assert isinstance(first, BadRow) and rest == ROWS


def test_large_arrays_are_given_item_by_item(tmp_path):
    rows = [{"text": "x" * 300_000, "n": n} for n in range(30)] + [{"text": "y" * 3 * HEAD}]
    assert rows_of(put(tmp_path, "x.json", json.dumps(rows))) == rows
    found = read_rows(put(tmp_path, "x.json", json.dumps(rows)[: 5 * HEAD]))
    assert next(found) == ("item 1", rows[0])  # before the place is reached where it is cut off


def test_a_folder_is_refused_with_its_files(tmp_path):
    for n in range(7):
        put(tmp_path, f"train-{n}.jsonl", lines())
    message = refused(tmp_path)
    assert "a folder" in message and "train-0.jsonl" in message and "and 2 more" in message
    assert "join them into one file" in message
    put(tmp_path, "dataset_info.json", "{}")
    assert "load_from_disk" in refused(tmp_path)


def test_a_file_that_is_not_there_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"no such file .as {tmp_path}/absent.jsonl"):
        rows_of("absent.jsonl")


def test_what_cannot_be_opened_is_said(tmp_path, monkeypatch):
    assert "not a regular file" in refused(Path("/dev/null"))
    assert "File name too long" in refused(tmp_path / ("x" * 300))
    path = put(tmp_path, "x.jsonl", lines())
    (tmp_path / "link").symlink_to("x.jsonl")
    (tmp_path / "loop").symlink_to("loop")
    assert rows_of(tmp_path / "link") == ROWS
    assert "no such file" in refused(tmp_path / "loop")

    def denied(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may read every file
    assert "Permission denied. Allow it to be read" in refused(path)


def written(folder, columns, names):
    parquet.write_table(pyarrow.table(columns, names=names), folder / "x.parquet")
    return folder / "x.parquet"


def test_parquet_columns_of_one_name(tmp_path):
    path = written(tmp_path, [["a"], ["b"], ["c"], [1], [2]], ["p", "q", "q", "n", "n"])
    assert "several columns are named q, n. Rename" in refused(path)
    with pytest.raises(UserError, match="several columns are named q. Rename"):
        list(read_rows(path, lambda name: name != "n"))
    assert [row for _, row in read_rows(path, lambda name: name == "p")] == [
        {"p": "a", "q": None, "n": None}
    ]


def test_parquet_values_that_are_nothing_in_python(tmp_path):
    twice = pyarrow.StructArray.from_arrays([["a"], ["b"]], names=["role", "role"])
    date = pyarrow.array([10**18], pyarrow.timestamp("us"))
    for column in (twice, date):
        path = written(tmp_path, [pyarrow.array(["a"]), column], ["p", "q"])
        assert "a value that cannot be read in one of the rows from 1 on" in refused(path)
        assert len(list(read_rows(path, lambda name: name == "p"))) == 1


def test_parquet_columns_that_nobody_reads(tmp_path):
    path = put(tmp_path, "x.parquet", as_parquet(ROWS, tmp_path))
    assert [row for _, row in read_rows(path, lambda name: name == "n")] == [
        {"prompt": None, "n": n} for n in range(5)
    ]
    assert len(list(read_rows(path, lambda name: False))) == 5


def test_parquet_text_that_is_not_utf8(tmp_path):
    text = pyarrow.array([b"a", b"caf\xe9"]).cast(pyarrow.string(), safe=False)
    parquet.write_table(pyarrow.table({"prompt": text}), tmp_path / "x.parquet")
    assert "not UTF-8" in refused(tmp_path / "x.parquet")
