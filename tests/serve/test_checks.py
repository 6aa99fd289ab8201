"""Checks by name over HTTP, on the real engine behind a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine import Engine, Limits
from engine.errors import CheckFailed
from tests.decode.fakes import fake_engine, random_logits, wants
from tests.decode.requests.test_checks import (
    HERE,
    NO_ANSWER,
    PATIENT,
    SCHEMA,
    eventually,
    gone,
    limits_for,
    running_check,
)
from tests.serve.fakes import Server

REGISTERED = {name: f"{HERE}:{name}" for name in ("short", "gated", "told", *(f.__name__ for f, _, _ in NO_ANSWER))}
CHAT = {
    "model": "fake",
    "messages": [{"role": "user", "content": "x"}],
    "temperature": 0,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
}


def made(tmp_path: Path, text: str = "hello", **settings: Any) -> Engine:
    return fake_engine(wants(f'{{"a":"{text}","b":12}}'), tmp_path, checks=REGISTERED, **settings)[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with made(tmp_path) as engine, Server(engine) as running:
        yield running


def asked(check: str, **fields: Any) -> dict[str, Any]:
    return {"prompt": "x", "schema": SCHEMA, "temperature": 0, "checks": {"/a": check}, **fields}


def pieces(client: httpx.Client, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


def test_a_registered_check_is_asked_by_its_name_on_every_route(server: Server) -> None:
    client = server.client
    assert client.post("/generate", json=asked("short", checks=None)).json()["text"]["a"] == "hello"
    assert len(client.post("/generate", json=asked("short")).json()["text"]["a"]) <= 3
    chat = client.post("/v1/chat/completions", json={**CHAT, "checks": {"/a": "short"}}).json()
    assert len(json.loads(chat["choices"][0]["message"]["content"])["a"]) <= 3
    verdicts = client.post("/check", json={"schema": SCHEMA, "checks": {"/a": "short"}}).json()["verdicts"]
    assert [(v["pointer"], v["verdict"]) for v in verdicts if v["keyword"] == "check"] == [("/a", "checked")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (asked("unknown"), "no check 'unknown' is registered here"),
        (asked("short", checks={"/c": "short"}), "'/c' is no place of this schema"),
        (asked("short", checks={"/a": 3}), "checks./a must be"),
        (asked("short", require_enforced=True), "require_enforced excludes them"),
        (asked("short", schema=None, regex="a"), "checks does not apply to regex"),
    ],
)
def test_a_mistake_is_told_with_400(server: Server, body: dict[str, Any], told: str) -> None:
    answer = server.client.post("/generate", json=body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"].startswith("checks")


@pytest.mark.parametrize(("check", "kind", "told"), NO_ANSWER, ids=lambda value: getattr(value, "__name__", ""))
def test_a_check_without_an_answer_is_422_and_others_are_answered(
    tmp_path: Path, check: Any, kind: type[CheckFailed], told: str
) -> None:
    beside: list[httpx.Response] = []
    plain = asked("short", checks=None)
    with made(tmp_path, limits=limits_for(kind)) as engine, Server(engine) as server:
        url = f"{server.url}/generate"
        other = threading.Thread(target=lambda: beside.append(httpx.post(url, json=plain, timeout=60)))
        other.start()
        answer = server.client.post("/generate", json=asked(check.__name__))
        other.join()
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert (error["type"], error["param"], error["pointer"]) == (kind.__name__, "checks", "/a")
        assert told in error["message"]
        assert [response.json()["text"]["a"] for response in beside] == ["hello"]
        assert server.client.get("/ready").status_code == 200


def test_a_stream_waits_for_a_check_and_tells_its_failure(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with made(tmp_path, str(gate), limits=PATIENT) as engine, Server(engine) as server:
        stream = pieces(server.client, {**CHAT, "checks": {"/a": "gated"}})
        written = ""
        for piece in stream:
            written += (piece["choices"][0]["delta"].get("content") if piece["choices"] else None) or ""
            if '"a"' in written and not gate.exists():
                assert str(gate)[:3] not in written, "the value waits for its check"
                gate.touch()
        assert json.loads(written)["a"] == str(gate)
        *_, last = pieces(server.client, {**CHAT, "checks": {"/a": "raises"}})
        assert last["error"]["type"] == "CheckFailed"


def test_every_sample_is_checked(tmp_path: Path) -> None:
    logits = random_logits(5, scale=1.0)
    with fake_engine(logits, tmp_path, checks=REGISTERED)[0] as engine, Server(engine) as server:
        body = asked("short", n=4, temperature=1, seed=1, max_tokens=80)
        samples = server.client.post("/generate", json=body).json()["samples"]
    assert len(samples) == 4
    for sample in samples:
        assert sample["valid"] is (len(sample["text"]["a"]) <= 3)


def test_a_client_that_leaves_ends_the_check(tmp_path: Path) -> None:
    with made(tmp_path, str(tmp_path / "pid"), limits=PATIENT) as engine, Server(engine) as server:
        with httpx.Client(base_url=server.url) as client, pytest.raises(httpx.ReadTimeout):
            client.post("/generate", json=asked("told"), timeout=httpx.Timeout(60, read=3))
        pid = running_check(tmp_path)
        eventually(lambda: gone(pid))
        eventually(lambda: engine.in_flight() == [])


def test_a_deadline_ends_the_check(tmp_path: Path) -> None:
    with made(tmp_path, str(tmp_path / "pid"), limits=PATIENT) as engine, Server(engine) as server:
        answer = server.client.post("/generate", json=asked("told", deadline_s=1.5))
        assert (answer.status_code, answer.json()["error"]["type"]) == (422, "CheckTimeout")
        assert "deadline" in answer.json()["error"]["message"]
        pid = running_check(tmp_path)
        eventually(lambda: gone(pid))


def test_a_server_that_is_closed_during_a_check_leaves_no_process(tmp_path: Path) -> None:
    engine = made(tmp_path, str(tmp_path / "pid"), limits=PATIENT)
    with Server(engine) as server:
        url = f"{server.url}/generate"

        def ask() -> None:
            with suppress(httpx.HTTPError):
                httpx.post(url, json=asked("told"), timeout=60)

        threading.Thread(target=ask, daemon=True).start()
        pid = running_check(tmp_path)
    engine.close(drain=False)
    eventually(lambda: gone(pid))


def test_the_event_loop_answers_while_checks_hang(tmp_path: Path) -> None:
    with made(tmp_path, limits=Limits(check_s=2.0)) as engine, Server(engine) as server:
        server.client.post("/generate", json=asked("short"))
        stuck = threading.Thread(
            target=lambda: httpx.post(f"{server.url}/generate", json=asked("holds_the_lock"), timeout=60)
        )
        stuck.start()
        waits = []
        while stuck.is_alive():
            started = time.perf_counter()
            assert server.client.get("/health").status_code == 200
            waits.append(time.perf_counter() - started)
        assert len(waits) > 10
        assert max(waits) < 1.0, "half of what the check hangs"
