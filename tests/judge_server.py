"""A judge behind a real HTTP server on loopback that speaks OpenAI's protocol and fails on command.

Its verdict is a function of the prompt, so that two runs must agree.
"""

import hashlib
import json
import math
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def prompt_of(body: dict) -> str:
    asked = body.get("messages") or body["prompt"]
    if isinstance(asked[0], str):  # alpaca-eval's client sends legacy prompts as a list of one
        asked = "".join(asked)
    return json.dumps(asked, sort_keys=True)


def probability(prompt: str) -> float:
    """P("m"), from the prompt."""
    return (1 + hashlib.sha256(prompt.encode()).digest()[0]) / 258


class JudgeServer:
    """Attributes:
    faults: (how often this prompt was asked before, number of the request) -> a fault or None:
        ``429``, ``500``, ``garbage``, ``half``, ``cut``, ``silent``, ``no-logprobs``,
        ``other-model``, ``402``, ``401``, ``quota``.
    asked, answered: how often each prompt was asked, and answered in full.
    bodies: of all requests; keys: their Authorization headers.
    early: requests that came while a Retry-After was running.
    """

    def __init__(self):
        self.faults = lambda asked, number: None
        self.asked, self.answered = Counter(), Counter()
        self.bodies, self.keys = [], set()
        self.early, self.retry_after = 0, "0"
        self.busy = self.most_busy = 0
        self.delay = 0.0
        self.labels = ("m", "M")
        self.verdicts = ["A>>B", "A>B", "A=B", "B>A", "B>>A"]
        self.released = threading.Event()  # ends the silence
        self._until, self._lock = 0.0, threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.serve(self, body)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def serve(self, handler, body: dict) -> None:
        prompt = prompt_of(body)
        with self._lock:
            fault = self.faults(self.asked[prompt], len(self.bodies))
            self.asked[prompt] += 1
            self.bodies.append(body)
            self.keys.add(handler.headers["authorization"])
            self.early += time.monotonic() < self._until
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            time.sleep(self.delay)
            self._reply(handler, body, prompt, fault)
        except OSError:  # the client is gone
            handler.close_connection = True
        finally:
            with self._lock:
                self.busy -= 1

    def _reply(self, handler, body: dict, prompt: str, fault: str | None) -> None:
        if fault == "cut":
            handler.close_connection = True
        elif fault == "silent":
            self.released.wait(30)
            handler.close_connection = True
        elif fault == "429":
            with self._lock:
                self._until = time.monotonic() + float(self.retry_after)
            send(handler, 429, {"error": "too many"}, {"Retry-After": self.retry_after})
        elif fault == "quota":
            send(handler, 429, {"error": {"code": "insufficient_quota"}})
        elif fault in ("500", "402", "401"):  # a rude server: it repeats the key
            send(handler, int(fault), {"error": f"no: {handler.headers['authorization']}"})
        elif fault == "garbage":
            send(handler, 200, f"<html>\x1b[31m{handler.headers['authorization']}")
        else:
            answer = self.answer(body, prompt, fault)
            send(handler, 200, answer, short=fault == "half")
            if fault in (None, "other-model"):
                with self._lock:
                    self.answered[prompt] += 1

    def answer(self, body: dict, prompt: str, fault: str | None = None) -> dict:
        p, (first, second) = probability(prompt), self.labels
        top = [
            {"token": first, "logprob": math.log(0.9 * p), "bytes": None},
            {"token": second, "logprob": math.log(0.9 * (1 - p)), "bytes": None},
            {"token": "The", "logprob": math.log(0.1), "bytes": None},
        ]
        order = [first, second] if p > 0.5 else [second, first]
        token = {**next(t for t in top if t["token"] == order[0]), "top_logprobs": top}
        message = {"role": "assistant", "content": order[0]}
        if "tools" in body:
            ranks = [{"model": name, "rank": rank} for rank, name in enumerate(order, start=1)]
            arguments = json.dumps({"ordered_models": ranks})
            call = {"id": "1", "type": "function"}
            call["function"] = {"name": "make_partial_leaderboard", "arguments": arguments}
            message |= {"content": None, "tool_calls": [call]}
        elif body["max_tokens"] > 100:  # room to write before the verdict
            level = self.verdicts[int(len(self.verdicts) * p)]
            message["content"] = f"My own answer: ...\nTherefore: [[{level}]]"
        choice = {
            "index": 0,
            "finish_reason": "length",
            "message": message,
            "logprobs": None if fault == "no-logprobs" else {"content": [token]},
        }
        if "prompt" in body:
            choice = {"index": 0, "finish_reason": "length", "text": f"Output ({'ba'[p > 0.5]})"}
        with self._lock:
            number = len(self.bodies)
        return {
            "id": f"answer-{number}",  # differs from run to run
            "object": "chat.completion",
            "created": number,
            "model": "moved" if fault == "other-model" else f"{body['model']}-0324",
            "choices": [choice],
            "usage": {
                "prompt_tokens": len(prompt) // 5,
                "completion_tokens": 1,
                "total_tokens": len(prompt) // 5 + 1,
            },
        }


def send(handler, status: int, content, headers=(), short: bool = False) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    data = text.encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    for name, value in dict(headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2] if short else data)
    if short:
        handler.close_connection = True
