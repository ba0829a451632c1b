"""The store of bought answers: whatever was cut off, the rest is found and more can be added."""

import json
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poet.evaluate.store import Store, sha256
from poet.files import UserError


def record(i: int, **more) -> dict:
    return {"key": f"k{i}", "judge": "j", "model": "m", "price": 0.5, "request": {"q": i}, **more}


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_any_cut_loses_only_the_line_that_it_hits(tmp_path_factory, cut, texts):
    folder = tmp_path_factory.mktemp("store")
    with Store(folder) as store:
        for i, text in enumerate(texts):
            store.append(record(i, choice=text))
    data = store.path.read_bytes()
    ends = [i for i, byte in enumerate(data) if byte == ord("\n")]
    cut %= len(data) + 1
    store.path.write_bytes(data[:cut])
    whole = sum(end <= cut for end in ends)  # a line is whole without its line break too
    for added in (0, 1):  # the first time after the cut, and again after more was written
        with Store(folder) as store:
            found = [store.get(f"k{i}") for i in range(len(texts))]
            assert [row and row["choice"] for row in found[:whole]] == texts[:whole]
            assert found[whole:] == [None] * (len(texts) - whole)
            assert (store.get("k9") is not None) == bool(added)
            assert store.spent == pytest.approx(0.5 * (whole + added))
            store.append(record(9))
    assert store.path.read_bytes().startswith(data[:cut])  # nothing is ever taken away


def test_refused_answers_cost_but_answer_nothing(tmp_path):
    with Store(tmp_path) as store:
        store.append(record(1, refused="garbage"))
        store.append(record(2))
    with Store(tmp_path) as store:
        assert store.get("k1") is None and store.get("k2")["model"] == "m"
        assert store.spent == 1.0 and store.models("j") == ["m"] and store.models("other") == []


@pytest.mark.parametrize("line", ["not ours", '["a"', "{'key': 1}"])
def test_a_foreign_line_is_named(tmp_path, line):
    with Store(tmp_path) as store:
        store.append(record(1))
    with store.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"answers.jsonl, line 2: found b.*expected an answer"):
        Store(tmp_path).__enter__()


def test_another_process_waits_until_the_first_is_done(tmp_path):
    code = (
        "import sys; from poet.evaluate.store import Store\n"
        "with Store(sys.argv[1]) as store: print(store.get('k1')['price'])"
    )
    with Store(tmp_path) as store:
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert "another job asks this judge" in other.stderr.readline()
        assert other.poll() is None
        store.append(record(1))
    assert other.communicate()[0] == "0.5\n"


def test_threads_write_whole_lines(tmp_path):
    with Store(tmp_path) as store:
        threads = [
            threading.Thread(target=lambda i=i: [store.append(record(9 * i + j)) for j in range(9)])
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = [json.loads(line) for line in store.path.read_text().splitlines()]
    assert sorted(row["key"] for row in rows) == sorted(f"k{i}" for i in range(36))


def test_the_key_is_of_the_content_and_not_of_its_order():
    import hashlib

    text = '{"a":["é",1],"b":null}'
    assert sha256({"b": None, "a": ["é", 1]}) == hashlib.sha256(text.encode()).hexdigest()
