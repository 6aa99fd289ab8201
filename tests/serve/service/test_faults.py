"""The compile worker is killed under a request: an answer or a typed error comes, and the next request is served."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine import Engine, Limits
from engine.serve.settings import ServeSettings
from tests.decode.fakes import fake_engine, random_logits
from tests.grammar.fakes import BOMB
from tests.serve.fakes import Server

MODEST = {"enum": list(range(400))}
COMPILE_S = 2.0
"""Seconds, less than BOMB takes."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    made, _ = fake_engine(random_logits(3), tmp_path_factory.mktemp("cache"), limits=Limits(compile_s=COMPILE_S))
    made.grammars.start()
    return made  # closed by the server


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Server]:
    with Server(engine, ServeSettings()) as running:
        yield running


def ask(server: Server, schema: Any) -> Any:
    return server.client.post("/generate", json={"prompt": "x", "schema": schema, "max_tokens": 64}, timeout=60)


def kill_while(engine: Engine, answered: threading.Event, times: int) -> int:
    """Kill the process that compiles up to `times` times, as soon as it runs; how many were killed."""
    killed: set[int] = set()
    limit = time.monotonic() + 50
    while len(killed) < times and not answered.is_set() and time.monotonic() < limit:
        tasks = [task for task in engine.grammars.sandbox._tasks if task.job.module == "engine.grammar.store.worker"]
        for pid in {task.child.pid for task in tasks if task.child and task.child.pid and task.used_s > 0.1} - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.01)
    return len(killed)


@pytest.mark.parametrize(
    ("kills", "code", "kind"), [(1, 422, "LimitExceeded"), (2, 500, "EngineFailure")], ids=["once", "every time"]
)
def test_a_killed_compile_worker_costs_its_request_at_most(
    engine: Engine, server: Server, kills: int, code: int, kind: str
) -> None:
    answers, answered = [], threading.Event()

    def post() -> None:
        answers.append(ask(server, {**BOMB, "title": f"{kills} kills"}))
        answered.set()

    client = threading.Thread(target=post)
    client.start()
    assert kill_while(engine, answered, kills) == kills
    client.join(60)
    assert answers[0].status_code == code
    assert answers[0].json()["error"]["type"] == kind
    after = ask(server, MODEST)
    assert after.status_code == 200
    assert after.json()["ir_json"] in MODEST["enum"]
    assert server.client.get("/ready").status_code == 200
