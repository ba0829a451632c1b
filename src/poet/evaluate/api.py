"""A judge behind a server that speaks OpenAI's protocol: asked within limits, and only once.

Every answer is in the store before its thread asks for the next. The key comes from the environment
and is taken out of everything that is stored or shown.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from poet.evaluate.store import Store, sha256
from poet.files import UserError
from poet.progress import track

BYTES_PER_TOKEN = 4  # of UTF-8; for the estimate, and where a server counts no tokens
LONGEST_WAIT = 3600.0  # seconds; a server that asks for more has a quota, not a busy moment


class _TryAgain(Exception):
    """An attempt that failed in a way that may pass; ``after``: seconds the server asks for."""

    def __init__(self, reason: str, after: float = 0.0):
        super().__init__(reason)
        self.after = after


class Api:
    """Asks one judge.

    Args:
        name: the annotator's name, for messages.
        settings: its section of the configuration.
        store: an open store.
    """

    def __init__(self, name: str, settings: dict, store: Store):
        self.name, self.settings, self.store = name, settings, store
        variable = settings.get("key_variable")
        self._key = os.environ.get(variable, "").strip() if variable else None
        self._stop = threading.Event()
        self._pace = _Pace(settings["requests_per_minute"], self._stop)

    def __call__(self, requests: Sequence[dict], accept: Callable[[dict], None]) -> list[dict]:
        """The answers to some requests, bought where the store does not have them.

        Args:
            requests: bodies of the protocol: ``messages`` (chat) or ``prompt``, model, parameters.
            accept: raises an exception for a choice that is no answer to the question.

        Returns:
            For each request a record with ``model`` (as the server calls itself), ``choice``,
            ``prompt_tokens``, ``completion_tokens``, ``price`` and ``key`` of the request.

        Raises:
            UserError: no key in the environment; above the cost ceiling; the server refuses, or
                gives no acceptable answer; it changed its model.
        """
        requests = [self._complete(request) for request in requests]
        keys = [sha256(request) for request in requests]
        wanted = dict(zip(keys, requests, strict=True))
        missing = {k: request for k, request in wanted.items() if self.store.get(k) is None}
        self._announce(len(wanted), list(missing.values()))
        for judge in dict.fromkeys(map(_judge, requests)):
            self._check_model(judge)
        if missing:
            self._buy(missing, accept)
        return [self.store.get(key) for key in keys]

    def _complete(self, request: dict) -> dict:
        model = self.settings.get("model") or request["model"]
        return {**request, "model": model, "base_url": self.settings["base_url"]}

    def _announce(self, n_wanted: int, missing: list[dict]) -> None:
        tokens = [_estimate(request) for request in missing]
        cost = sum(self._price(*counts) for counts in tokens)
        ceiling, spent = self.settings["max_cost"], self.store.spent
        print(
            f"{self.name}: {n_wanted} questions, {n_wanted - len(missing)} of them answered before;"
            f" {len(missing)} calls with about {sum(map(sum, tokens)):,} tokens, about"
            f" ${cost:.2f}. Spent so far ${spent:.2f}, ceiling ${ceiling:.2f} (max_cost).",
            file=sys.stderr,
        )
        if missing and spent + cost > ceiling:
            raise UserError(
                f"annotators.{self.name}: these calls would bring the cost to about "
                f"${spent + cost:.2f}, above max_cost (${ceiling:.2f}). Nothing was asked.\n"
                "Raise max_cost, or ask less."
            )

    def _price(self, prompt_tokens: int, completion_tokens: int) -> float:
        price = self.settings["price"]
        return (prompt_tokens * price["prompt"] + completion_tokens * price["completion"]) / 1e6

    def _check_model(self, judge: str) -> None:
        found = self.store.models(judge)
        if len(found) > 1 and not self.settings["allow_model_change"]:
            raise UserError(
                f"annotators.{self.name}: the server answers as {' and as '.join(found)}, so one "
                f"table would hold the verdicts of several judges.\n"
                f"Ask for a model whose name does not move, and set {self.store.path} aside; or "
                "allow it (allow_model_change: true)."
            )

    def _buy(self, missing: dict[str, dict], accept) -> None:
        from openai import OpenAI

        if self._key == "":
            raise UserError(
                f"annotators.{self.name}: the environment variable {self.settings['key_variable']} "
                "is empty; expected the server's key. Export it and run again."
            )
        client = OpenAI(
            api_key=self._key or "none",
            base_url=self.settings["base_url"],
            timeout=self.settings["timeout"],
            max_retries=0,
        )
        self._stop.clear()
        retrying, failures = self._retrying(), []

        def buy(key: str, request: dict) -> None:
            try:
                retrying(self._attempt, client, key, request, accept)
            except Exception as error:
                failures.append(error)  # the first is the cause, others may follow from the stop
                self._stop.set()

        with client, ThreadPoolExecutor(self.settings["concurrency"]) as pool:
            futures = [pool.submit(buy, *item) for item in missing.items()]
            try:
                for _ in track(as_completed(futures), total=len(futures), label=self.name):
                    pass
            finally:  # after an interrupt, answers on their way are still awaited and kept
                self._stop.set()
                pool.shutdown(cancel_futures=True)
        if failures and isinstance(failures[0], _TryAgain):
            raise self._given_up(
                f"{failures[0]}\nGiven up after {self.settings['attempts']} attempts."
            )
        if failures:
            raise failures[0]

    def _given_up(self, reason: str) -> UserError:
        return UserError(
            f"annotators.{self.name}: {reason}\n"
            f"What was bought is in {self.store.path}; run again to ask for the rest."
        )

    def _retrying(self):
        import tenacity

        attempts, backoff = self.settings["attempts"], self.settings["backoff"]
        jitter = tenacity.wait_random_exponential(backoff["initial"], backoff["longest"])
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TryAgain),
            stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_when_event_set(self._stop),
            wait=lambda state: max(jitter(state), state.outcome.exception().after),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=self._tell,
            reraise=True,
        )

    def _tell(self, state) -> None:
        print(
            f"{self.name}: {state.outcome.exception()}; attempt {state.attempt_number + 1} of "
            f"{self.settings['attempts']} in {state.upcoming_sleep:.1f} s",
            file=sys.stderr,
        )

    def _attempt(self, client, key: str, request: dict, accept) -> None:
        self._pace.wait()
        if self._stop.is_set():
            raise _TryAgain("stopped")
        spent, ceiling = self.store.spent, self.settings["max_cost"]
        if spent > ceiling:
            raise self._given_up(f"${spent:.2f} are spent, above max_cost (${ceiling:.2f}).")
        text = self._post(client, request)
        record = {"key": key, "judge": _judge(request), "request": request}
        record["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        record["prompt_tokens"], record["completion_tokens"] = _estimate(request)
        refused = None
        try:
            record |= _parse(text)
            accept(record["choice"])
        except Exception as error:  # whatever a parser of alpaca-eval says to garbage
            refused = _short(repr(error))
            record |= {"refused": refused, "raw": text}
        price = self._price(record["prompt_tokens"], record["completion_tokens"])
        self.store.append({**record, "price": price})
        if refused:
            raise _TryAgain(f"the server's answer cannot be used ({refused}): {_short(repr(text))}")
        self._check_model(record["judge"])

    def _post(self, client, request: dict) -> str:
        """The body of the server's answer, without the key."""
        import openai

        body = {name: value for name, value in request.items() if name != "base_url"}
        resource = client.chat.completions if "messages" in body else client.completions
        try:
            return self._clean(resource.with_raw_response.create(**body).text)
        except openai.APIStatusError as error:
            said = self._clean(error.response.text)
            reason = f"{request['base_url']}: HTTP {error.status_code}: {_short(repr(said))}"
            passing = error.status_code in (408, 409, 429) or error.status_code >= 500
            after = _retry_after(error.response.headers.get("retry-after"))
            if not passing or "insufficient_quota" in said or after > LONGEST_WAIT:
                raise self._given_up(reason) from None
            self._pace.pause(after)
            raise _TryAgain(reason, after) from None
        except openai.APIConnectionError as error:
            reason = self._clean(f"{error} {error.__cause__!r}")
            raise _TryAgain(f"{request['base_url']}: {_short(reason)}") from None

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "(key)") if self._key else text


class _Pace:
    """Lets calls begin at most so often, and none while the server wants to be left alone."""

    def __init__(self, per_minute: float | None, stop: threading.Event):
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next, self._lock, self._stop = 0.0, threading.Lock(), stop

    def wait(self) -> None:
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self._interval
        self._stop.wait(max(start - time.monotonic(), 0.0))

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def _judge(request: dict) -> str:
    """Identity of who is asked: the request without the question."""
    return sha256({k: v for k, v in request.items() if k not in ("messages", "prompt")})


def _parse(text: str) -> dict:
    """What a record keeps of an answer; the tokens, where the server counts them."""
    answer = json.loads(text)
    usage = answer.get("usage") or {}
    counts = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return {
        "model": str(answer["model"]),
        "choice": answer["choices"][0],
        **{name: int(count) for name, count in counts.items() if count is not None},
    }


def _estimate(request: dict) -> tuple[int, int]:
    """Tokens of a request, about, and of its answer, at most."""
    texts = [str(message["content"]) for message in request.get("messages", ())]
    size = sum(len(text.encode()) for text in [*texts, request.get("prompt", "")])
    return -(-size // BYTES_PER_TOKEN), request["max_tokens"]


def _retry_after(header: str | None) -> float:
    """Seconds of a header Retry-After, which holds seconds or a date."""
    if not header:
        return 0.0
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):  # neither, or a date without a zone
        return 0.0


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[:limit] + "..."
