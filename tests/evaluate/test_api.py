"""The API annotator against a real server: nothing lost, nothing bought twice, no key anywhere."""

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from judge_server import JudgeServer, probability, prompt_of
from poet.evaluate import api
from poet.evaluate.annotate import main
from poet.evaluate.api import Api
from poet.evaluate.store import Store, sha256
from poet.files import UserError, read_json, write_json, write_jsonl

KEY = "sk-verySecret123"
N = 805


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer() as running:
        yield running


@pytest.fixture
def settings(server, tmp_path):
    return {
        "kind": "api",
        "judge": "weighted_alpaca_eval_gpt4_turbo",
        "base_url": server.url,
        "model": "judge",
        "key_variable": "JUDGE_KEY",
        "price": {"prompt": 10.0, "completion": 30.0},
        "max_cost": 100.0,
        "concurrency": 8,
        "requests_per_minute": None,
        "timeout": 20,
        "attempts": 4,
        "backoff": {"initial": 0.01, "longest": 0.05},
        "allow_model_change": False,
        "store": str(tmp_path / "store"),
    }


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Files of 805 prompts and of answers to them."""
    folder = tmp_path_factory.mktemp("benchmark")
    prompts = [
        {
            "index": i,
            "dataset": "d",
            "instruction": f"Say {i}.",
            "prompt": [{"role": "user", "content": f"Say {i}."}],
            "reference": f"It is {i}.",
        }
        for i in range(N)
    ]
    write_jsonl(prompts, folder / "prompts.jsonl")
    rows = [{**p, "output": f"{p['index']}!", "generator": "m"} for p in prompts]
    write_json(rows, folder / "g.json")
    return folder


def arguments(settings, benchmark, out):
    return [
        "--record", json.dumps({"reference_name": "ref", "torch_threads": 1}),
        "--annotator", "judge", "--settings", json.dumps(settings),
        "--prompts", str(benchmark / "prompts.jsonl"),
        "--generations", str(benchmark / "g.json"),
        "--output", str(out / "a.json"), "--usage", str(out / "usage.json"),
    ]  # fmt: skip


def requests(n, **more):
    return [
        {"messages": [{"role": "user", "content": f"{i}"}], "max_tokens": 1, "model": "j", **more}
        for i in range(n)
    ]


def content(choice):
    """Accept any choice with log-probabilities."""
    choice["logprobs"]["content"][0]["top_logprobs"]


def ask(settings, n, accept=content, **more):
    with Store(settings["store"]) as store:
        return Api("judge", settings, store)(requests(n, **more), accept)


def test_805_annotations_through_every_fault_lose_nothing_and_buy_nothing_twice(
    server, settings, benchmark, tmp_path
):
    faults = ["429", "500", "garbage", "half", "cut", "no-logprobs"]
    server.retry_after = "0.05"

    def fault(asked, number):
        """Every third prompt fails once, one stays silent until the client gives up."""
        seen = len(server.asked)
        return None if asked or seen % 3 else "silent" if seen == 30 else faults[seen // 3 % 6]

    server.faults = fault
    settings |= {"timeout": 5, "attempts": 10}
    main(arguments(settings, benchmark, tmp_path))
    rows = read_json(tmp_path / "a.json")
    assert [row["index"] for row in rows] == list(range(N))
    assert all(row["output_2"] == f"{i}!" for i, row in enumerate(rows))
    assert len(server.answered) == N and set(server.answered.values()) == {1}
    failed = sum(server.asked.values()) - N
    assert failed >= N // 3
    # The verdict is that of the server: 1 + P(the model's answer), whichever order it was shown in.
    bodies = {prompt_of(body) for body in server.bodies}
    found = {round(row["preference"], 6) for row in rows}
    p = [probability(prompt) for prompt in bodies]
    assert found <= {round(1 + x, 6) for x in p} | {round(2 - x, 6) for x in p}
    assert {row["judge_model"] for row in rows} == {"judge-0324"}
    usage = read_json(tmp_path / "usage.json")
    assert usage["n_calls"] == usage["n_annotations"] == usage["completion_tokens"] == N
    tokens = sum(len(prompt) // 5 for prompt in bodies)
    assert usage["prompt_tokens"] == tokens
    assert usage["price"] == pytest.approx((10 * tokens + 30 * N) / 1e6)


def test_killed_in_the_middle_and_resumed_is_as_undisturbed(server, settings, benchmark, tmp_path):
    halfway = threading.Event()
    server.delay = 0.002
    server.faults = lambda asked, number: halfway.set() if number == N // 2 else None
    run = subprocess.Popen(
        [sys.executable, "-m", "poet.evaluate.annotate"] + arguments(settings, benchmark, tmp_path),
        stderr=subprocess.PIPE,
    )
    assert halfway.wait(60), run.communicate()[1][-2000:]
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert not (tmp_path / "a.json").exists()
    bought = (tmp_path / "store" / "judge" / "answers.jsonl").read_text().count("\n")
    assert N // 2 - settings["concurrency"] <= bought < N
    server.delay, server.faults = 0.0, lambda asked, number: None
    main(arguments(settings, benchmark, tmp_path))
    assert len(server.asked) == N
    assert sum(server.asked.values()) - N <= settings["concurrency"]
    again = tmp_path / "undisturbed"
    main(arguments({**settings, "store": str(again / "store")}, benchmark, again))
    for name in ("a.json", "usage.json"):
        assert (tmp_path / name).read_bytes() == (again / name).read_bytes()


def test_nobody_is_asked_before_retry_after(server, settings):
    server.retry_after = "1"
    server.faults = lambda asked, number: "429" if number == 3 else None
    settings["concurrency"] = 1
    assert len(ask(settings, 6)) == 6
    assert server.early == 0 and sum(server.asked.values()) == 7


def test_a_date_or_nonsense_in_retry_after():
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert 290 < api._retry_after(format_datetime(later, usegmt=True)) <= 300
    assert api._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert api._retry_after("7.5") == 7.5
    assert [api._retry_after(text) for text in ("-3", "soon", "", None)] == [0, 0, 0, 0]


def test_no_more_calls_at_once_than_allowed(server, settings):
    server.delay = 0.02
    settings["concurrency"] = 3
    ask(settings, 30)
    assert 1 < server.most_busy <= 3


def test_calls_begin_at_most_so_often_and_none_in_a_pause(monkeypatch):
    class Still:
        """An event that notes how long it is waited for."""

        waits = []

        def wait(self, seconds):
            self.waits.append(seconds)

    monkeypatch.setattr(api.time, "monotonic", lambda: 100.0)
    pace = api._Pace(30, Still())
    for _ in range(3):
        pace.wait()
    pace.pause(60)
    pace.wait()
    pace.wait()
    assert Still.waits == [0, 2, 4, 60, 62]


@pytest.mark.parametrize("fault", ["402", "401", "quota"])
def test_out_of_money_stops_at_once_and_resumes_with_what_is_missing(
    server, settings, fault, planted
):
    server.faults = lambda asked, number: fault if number >= 10 else None
    settings["concurrency"] = 1
    with pytest.raises(UserError, match="What was bought is in") as error:
        ask(settings, 25)
    assert KEY not in str(error.value) and ("(key)" in str(error.value)) == (fault != "quota")
    assert len(server.bodies) == 11
    planted(f"judge: answers {fault}", error.value, "the next run asks only what is missing")
    server.faults = lambda asked, number: None
    assert len(ask(settings, 25)) == 25
    assert len(server.bodies) == 11 + 15 and set(server.answered.values()) == {1}


@pytest.mark.parametrize("fault", ["garbage", "no-logprobs", "500", "cut", "half"])
def test_what_stays_bad_is_refused_with_what_was_said(server, settings, fault, planted):
    server.faults = lambda asked, number: fault
    with pytest.raises(UserError, match="Given up after 4 attempts") as error:
        ask(settings, 1)
    assert len(server.bodies) == 4 and KEY not in str(error.value)
    planted(f"judge: {fault} again and again", error.value, "what was bought before is kept")
    if fault == "garbage":  # escaped: no control character reaches the terminal
        assert r"<html>\x1b[31mBearer (key)" in str(error.value)
    with Store(settings["store"]) as store:
        paid = store.spent
    assert (paid > 0) == (fault in ("garbage", "no-logprobs"))


def test_the_ceiling_stops_before_and_on_the_way(server, settings, capsys, planted):
    # 4 bytes are a token: one for the prompt, one for the answer, $40 per million
    with pytest.raises(UserError, match="above max_cost") as error:
        ask({**settings, "max_cost": 7 * 40e-6}, 8)
    planted("judge: the calls would cost too much", error.value, "nothing is asked")
    assert not server.bodies
    assert "8 calls with about 16 tokens, about $0.00" in capsys.readouterr().err
    # The server counts more: 6 tokens for the prompt, so $90 per million questions.
    with pytest.raises(UserError, match="are spent, above max_cost"):
        ask({**settings, "max_cost": 8 * 40e-6, "concurrency": 1}, 8)
    assert len(server.bodies) == 4
    ask(settings, 8)
    assert set(server.asked.values()) == {1} and len(server.asked) == 8


def test_a_model_that_changes_its_name_within_a_table_is_an_error(server, settings, planted):
    settings["concurrency"] = 1
    server.faults = lambda asked, number: "other-model" if number >= 3 else None
    for _ in range(2):  # and stays one, without asking again
        with pytest.raises(UserError, match="answers as j-0324 and as moved") as error:
            ask({**settings, "model": "j"}, 6)
        assert "allow_model_change" in str(error.value) and len(server.bodies) == 4
    planted("judge: another model answers", error.value, "the answers are kept, no table is made")
    allowed = ask({**settings, "model": "j", "allow_model_change": True}, 6)
    assert [row["model"] for row in allowed] == ["j-0324"] * 3 + ["moved"] * 3
    assert len(ask({**settings, "model": "another"}, 2)) == 2  # another question, another table


def test_judges_are_looked_at_in_the_order_of_the_questions(settings):
    looked_at = []
    store = SimpleNamespace(
        get=lambda key: {}, spent=0, models=lambda judge: looked_at.append(judge) or []
    )
    asked = [
        {"temperature": n, "max_tokens": 1, "messages": []} for n in range(9) for _ in range(2)
    ]
    Api("mine", settings, store)([{**each, "model": "j"} for each in asked], accept=None)
    common = {"max_tokens": 1, "model": "judge", "base_url": settings["base_url"]}
    assert looked_at == [sha256({**common, "temperature": n}) for n in range(9)]


def test_the_same_question_to_another_server_or_model_is_another(server, settings):
    for change in ({}, {"model": "other"}, {"base_url": server.url + "/"}):
        ask({**settings, **change}, 2)
        ask({**settings, **change}, 2)
    ask(settings, 2, temperature=0.5)
    assert len(server.bodies) == 8


def test_the_key_is_needed_only_to_ask_and_only_in_its_header(
    server, settings, monkeypatch, planted
):
    ask(settings, 2)
    assert server.keys == {f"Bearer {KEY}"}
    monkeypatch.delenv("JUDGE_KEY")
    assert len(ask(settings, 2)) == 2
    with pytest.raises(UserError, match="JUDGE_KEY is empty") as error:
        ask(settings, 3)
    planted("judge: no key", error.value, "nothing is asked")
    assert KEY not in (Store(settings["store"]).path).read_text()
