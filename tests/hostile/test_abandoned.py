"""What nobody waits for any more stops in its process, and each key pays for its own: through the engine and HTTP.

Limits are so high that nothing here ends by itself: a job that is over has been stopped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest

from engine import Constraint, Engine, Limits, Request
from engine.sandbox import Task
from engine.serve.log.accounting import key_label
from engine.serve.settings import ServeSettings
from tests.hostile.test_bounded import nested_choice
from tests.serve.fakes import Server
from tests.serve.server.test_connections import connect, is_open
from tests.serve.server.test_hard_clients import wait_for

LIMITS = Limits(compile_s=3_000.0, judge_s=3_000.0)
SETTINGS = ServeSettings(api_keys=("alpha", "beta"))
COMPILING, JUDGING = "engine.grammar.store.worker", "engine.judge.worker"
PATIENCE_S = 60.0
NUMBERS = count()


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    yield
    wait_for(lambda: not tasks(engine) and not engine.in_flight() and not engine.grammars._running, PATIENCE_S)


def heavy() -> dict[str, Any]:
    """As a field of a body: takes minutes to compile."""
    parts = [{"type": "any_text", "excludes": ["a" * 12_000 + str(next(NUMBERS))]} for _ in range(60)]
    return {"structural_tag": {"format": {"type": "sequence", "elements": parts}}}


def slow() -> dict[str, Any]:
    """As a field of a body: what is written takes for ever to be judged."""
    return {"schema": {**nested_choice(40), "title": str(next(NUMBERS))}}


HOSTILE = {COMPILING: heavy, JUDGING: slow}


def tasks(engine: Engine) -> list[Task]:
    return list(engine.grammars.sandbox._tasks)


def computing(engine: Engine, module: str) -> Task:
    """The only job, once its process computes."""

    def begun() -> bool:
        return any(task.job.module == module and task.used_s > 0 and not task.done() for task in tasks(engine))

    wait_for(begun, PATIENCE_S)
    (task,) = (task for task in tasks(engine) if task.job.module == module and not task.done())
    return task


def assert_stopped(engine: Engine, task: Task) -> None:
    pid = task.child and task.child.pid
    wait_for(task.cancelled, PATIENCE_S)
    wait_for(lambda: task not in tasks(engine) and pid not in engine.grammars.sandbox.pids, PATIENCE_S)


def cancel_future(engine: Engine, request: Request) -> Callable[[], object]:
    return engine.submit(request, owner="a").cancel


def cancel_by_id(engine: Engine, request: Request) -> Callable[[], object]:
    engine.submit(request, owner="a")
    return lambda: engine.cancel(request.id, owner="a")


def leave_stream(engine: Engine, request: Request) -> Callable[[], object]:
    return engine.stream(request, owner="a").close  # type: ignore[attr-defined]  # a generator


def cancel_awaited(engine: Engine, request: Request) -> Callable[[], object]:
    """The task of `agenerate` is cancelled."""
    left: Future[None] = Future()

    async def run() -> None:
        asking = asyncio.ensure_future(engine.agenerate(request))
        await asyncio.wrap_future(left)
        asking.cancel()
        await asyncio.wait({asking})

    beside = ThreadPoolExecutor(1)
    beside.submit(asyncio.run, run())
    return lambda: (left.set_result(None), beside.shutdown())


def deadline_now(engine: Engine, request: Request) -> Callable[[], object]:
    engine.submit(request, owner="a")
    return engine.finish_now


@pytest.mark.parametrize("module", HOSTILE)
@pytest.mark.parametrize("way", [cancel_future, cancel_by_id, leave_stream, cancel_awaited, deadline_now])
def test_what_a_request_had_begun_stops_with_it(
    engine: Engine, module: str, way: Callable[[Engine, Request], Callable[[], object]]
) -> None:
    request = Request.from_mapping({"prompt": "x", "max_tokens": 900, **HOSTILE[module]()})
    leave = way(engine, request)
    task = computing(engine, module)
    leave()
    assert_stopped(engine, task)


def test_a_check_that_is_given_up_stops(engine: Engine) -> None:
    checking = engine.submit_check(Constraint.demanded(heavy()), owner="a")
    task = computing(engine, COMPILING)
    assert list(task.owners) == ["a"]
    checking.grammar.cancel()
    assert_stopped(engine, task)


CHAT = {"model": "fake", "messages": [{"role": "user", "content": "x"}], "max_tokens": 900}
TEXT = {"model": "fake", "prompt": ["x"], "max_tokens": 900}
STREAM = {"stream": True}
ROUTES: dict[str, tuple[str, str, Callable[[], dict[str, Any]]]] = {
    "generate, compiling": ("/generate", COMPILING, lambda: {"prompt": "x", **heavy()}),
    "generate, judging": ("/generate", JUDGING, lambda: {"prompt": "x", "max_tokens": 900, **slow()}),
    "check, compiling": ("/check", COMPILING, heavy),
    "chat, compiling": ("/v1/chat/completions", COMPILING, lambda: {**CHAT, "structured_outputs": heavy()}),
    "chat, judging": ("/v1/chat/completions", JUDGING, lambda: {**CHAT, "response_format": response_format()}),
    "chat stream, judging": ("/v1/chat/completions", JUDGING,
                             lambda: {**CHAT, **STREAM, "response_format": response_format()}),
    "tools, judging": ("/v1/chat/completions", JUDGING, lambda: {**CHAT, **tools(slow()["schema"])}),
    "completions stream, compiling": ("/v1/completions", COMPILING,
                                      lambda: {**TEXT, **STREAM, "structured_outputs": heavy()}),
}  # fmt: skip


def response_format() -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", **slow()}}


def tools(parameter: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "required": ["a"], **parameter}
    del schema["$ref"]
    declared = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    return {"tools": declared, "tool_choice": "required", "parallel_tool_calls": False}


def posted(path: str, body: dict[str, Any], key: str = "alpha") -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {key}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


@pytest.mark.parametrize("name", ROUTES)
def test_what_a_connection_had_begun_is_its_keys_and_stops_with_it(server: Server, engine: Engine, name: str) -> None:
    path, module, body = ROUTES[name]
    leaving = connect(server, posted(path, body()))
    task = computing(engine, module)
    assert list(task.owners) == [key_label("alpha")]
    leaving.close()
    assert_stopped(engine, task)


def test_one_of_two_that_leaves_stops_nothing_and_lends_his_turn_no_longer(server: Server, engine: Engine) -> None:
    body = heavy()
    alpha = connect(server, posted("/check", body))
    task = computing(engine, COMPILING)
    beta = connect(server, posted("/generate", {"prompt": "x", **body}, "beta"))
    wait_for(lambda: list(task.owners) == [key_label("alpha"), key_label("beta")], PATIENCE_S)
    alpha.close()
    wait_for(lambda: list(task.owners) == [key_label("beta")], PATIENCE_S)
    assert not task.cancelled()
    beta.close()
    assert_stopped(engine, task)


def test_heavy_requests_of_one_key_never_delay_anothers(server: Server, engine: Engine) -> None:
    def busy(module: str) -> bool:
        return sum(task.used_s > 0.5 for task in tasks(engine) if task.job.module == module) >= 2

    flood = [connect(server, posted("/generate", {"prompt": "x", **slow()})) for _ in range(3)]
    wait_for(lambda: busy(JUDGING), PATIENCE_S)
    flood += [connect(server, posted("/check", heavy())) for _ in range(4)]
    flood += [connect(server, posted("/generate", {"prompt": "x", **heavy()})) for _ in range(4)]
    wait_for(lambda: busy(COMPILING), PATIENCE_S)
    with httpx.Client(base_url=server.url, headers={"authorization": "Bearer beta"}, timeout=PATIENCE_S) as beta:
        small = {"enum": ["small", next(NUMBERS)]}
        assert beta.post("/check", json={"schema": {"const": next(NUMBERS)}}).json()["supported"] is True
        answer = beta.post("/generate", json={"prompt": "x", "schema": small}).json()
        assert answer["ir_json"] in small["enum"]
    assert sum(is_open(one) for one in flood) == len(flood), "none of them has been answered"
    for one in flood:
        one.close()
