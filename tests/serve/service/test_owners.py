"""Ids, checks and what was abandoned: each belongs to one key, and stops with whoever asked for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from engine.errors import QueueFull
from engine.request import Request
from engine.serve.log.accounting import key_label
from engine.serve.settings import ServeSettings
from engine.serve.wire import json_body
from tests.decode.fakes import fake_engine, random_logits
from tests.serve.fakes import FakeEngine, Server
from tests.serve.server.test_connections import HEAD, connect
from tests.serve.server.test_hard_clients import wait_for

KEYS = ServeSettings(api_keys=("alpha", "beta"))
Serving = Callable[..., Server]


def post(server: Server, key: str, path: str = "/generate", **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(server.url + path, json={"prompt": "x", **body}, headers=headers, timeout=60)


def in_background(*calls: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda call=call: answers.append(call())) for call in calls]
    for thread in threads:
        thread.start()
    return threads, answers


def test_an_id_is_a_keys_own_and_the_engine_is_told_whose_it_is(serving: Serving) -> None:
    engine = FakeEngine(delay_s=1.0)
    server = serving(engine, KEYS)
    threads, answers = in_background(lambda: post(server, "alpha", id="job"), lambda: post(server, "beta", id="job"))
    wait_for(lambda: len(engine.requests) == 2)
    again = post(server, "alpha", id="job")
    assert (again.status_code, again.json()["error"]["param"]) == (400, "id")
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert {answer.json()["request_id"] for answer in answers} == {"job"}
    assert sorted(map(str, engine.owners)) == sorted(key_label(key) for key in KEYS.api_keys)
    assert "alpha" not in json.dumps([str(owner) for owner in engine.owners])


def test_a_key_that_leaves_cancels_its_own_request_of_an_id_and_nobody_elses(serving: Serving, tmp_path: Any) -> None:
    engine, _ = fake_engine(random_logits(5), tmp_path)
    server = serving(engine, KEYS)
    threads, answers = in_background(lambda: post(server, "beta", id="job", max_tokens=900))
    wait_for(lambda: engine.in_flight() == ["job"])
    body = json.dumps({"prompt": "x", "id": "job", "max_tokens": 900}).encode()
    head = HEAD + b"Authorization: Bearer alpha\r\nContent-Length: %d\r\n\r\n" % len(body)
    connect(server, head + body).close()
    for thread in threads:
        thread.join()
    assert answers[0].status_code == 200  # not 503: nobody cancelled it
    assert engine.in_flight() == []


def test_a_list_that_is_refused_leaves_nothing_running(serving: Serving) -> None:
    class Narrow(FakeEngine):
        def _admit(self, request: Request) -> None:
            super()._admit(request)
            if len(self.requests) == 5:
                raise QueueFull("full", param="queue")

    engine = Narrow(delay_s=30)
    server = serving(engine, ServeSettings(served_model_name="m"))
    began = time.monotonic()
    for stream in (False, True):
        engine.requests.clear()
        answer = post(server, "", "/v1/completions", prompt=["x"] * 8, model="m", stream=stream)
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, "QueueFull")
        asked = {request.id for request in engine.requests}
        wait_for(lambda asked=asked: asked - {engine.requests[4].id} <= set(engine.cancelled))
    wait_for(lambda: not server.app.state.service.in_flight)
    assert time.monotonic() - began < 15


def test_a_list_over_the_limit_is_refused_before_any_of_it_runs(server: Server, fake: FakeEngine) -> None:
    answer = post(server, "", "/v1/completions", prompt=["x"] * 5000, model="fake")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
    assert fake.requests == []


def test_a_stream_of_many_that_is_left_gives_all_of_them_up(serving: Serving) -> None:
    engine = FakeEngine(pause_s=0.5)
    server = serving(engine, ServeSettings(served_model_name="m"))
    body = {"model": "m", "prompt": ["a b c d e f g h i j k l m n o p"] * 3, "stream": True}
    with httpx.stream("POST", server.url + "/v1/completions", json=body, timeout=30) as answer:
        next(answer.iter_bytes())
    wait_for(lambda: len(engine.cancelled) >= 3)


@pytest.fixture
def checking(serving: Serving) -> Iterator[tuple[Server, FakeEngine]]:
    engine = FakeEngine()
    engine.checks_hang = True
    yield serving(engine, ServeSettings(api_keys=("alpha", "beta"), max_checks=4)), engine
    for check in engine.checks:
        check.grammar.cancel()


SCHEMA = json.dumps({"schema": True}).encode()
CHECK = HEAD.replace(b"/generate", b"/check") + b"Authorization: Bearer alpha\r\nContent-Length: %d\r\n\r\n%s" % (
    len(SCHEMA), SCHEMA)  # fmt: skip


def test_a_check_that_nobody_waits_for_is_given_up(checking: tuple[Server, FakeEngine]) -> None:
    server, engine = checking
    leaving = connect(server, CHECK)
    wait_for(lambda: engine.checks)
    assert engine.owners == [key_label("alpha")]
    leaving.close()
    wait_for(lambda: engine.checks[0].grammar.cancelled())


def test_checks_hold_no_thread_that_requests_need_and_no_more_run_than_may(checking: tuple[Server, FakeEngine]) -> None:
    server, engine = checking
    held = []
    for number in range(4):
        held.append(connect(server, CHECK))
        wait_for(lambda number=number: len(engine.checks) == number + 1)
    headers = {"authorization": "Bearer alpha"}
    over = httpx.post(server.url + "/check", json={"schema": True}, headers=headers, timeout=30)
    assert (over.status_code, over.json()["error"]["type"]) == (429, "QueueFull")
    held.append(connect(server, CHECK.replace(b"alpha", b"beta")))
    wait_for(lambda: len(engine.checks) == 5)
    assert post(server, "alpha").status_code == 200
    for one in held:
        one.close()
    wait_for(lambda: all(check.grammar.cancelled() for check in engine.checks))


def test_many_checks_do_not_keep_a_request_waiting(serving: Serving) -> None:
    engine = FakeEngine()
    engine.checks_hang = True
    server = serving(engine, ServeSettings(admission_threads=2))
    held = [connect(server, CHECK) for _ in range(6)]
    wait_for(lambda: len(engine.checks) == 6)
    assert post(server, "").status_code == 200
    for one in held:
        one.close()


def test_a_keys_long_admissions_leave_a_thread_to_others(serving: Serving) -> None:
    go = threading.Event()

    class Slow(FakeEngine):
        def _admit(self, request: Request) -> None:
            super()._admit(request)
            if request.id.startswith("slow"):
                go.wait(120)

    engine = Slow()
    server = serving(engine, ServeSettings(api_keys=("alpha", "beta"), admission_threads=2))
    slow = [lambda number=number: post(server, "alpha", id=f"slow{number}") for number in range(6)]
    threads, answers = in_background(*slow)
    try:
        wait_for(lambda: len(engine.requests) == 2)
        assert post(server, "beta").status_code == 200
        assert len(engine.requests) == 3
    finally:
        go.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 6


def test_a_keys_long_bodies_are_read_by_few_threads_and_leave_one_to_others(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, reading, read = threading.Event(), list[str](), json_body.read_json

    def slowly(body: bytes) -> Any:
        if b"slow" in body:
            reading.append(threading.current_thread().name)
            go.wait(120)
        return read(body)

    monkeypatch.setattr(json_body, "read_json", slowly)
    server = serving(FakeEngine(), ServeSettings(api_keys=("alpha", "beta"), admission_threads=2))
    long = "x" * json_body.ON_THE_LOOP
    threads, answers = in_background(*[lambda: post(server, "alpha", prompt="slow" + long)] * 6)
    try:
        wait_for(lambda: len(reading) == 2)
        assert post(server, "beta", prompt=long).status_code == 200
        assert len(reading) == 2
    finally:
        go.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(set(reading)) <= 3
