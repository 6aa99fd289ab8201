"""A list of prompts is one request: answered as a whole or refused as a whole, and whoever leaves leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine import Limits
from engine.serve.openai import routes
from engine.serve.settings import ServeSettings
from tests.serve.fakes import Server

pytest.importorskip("torch", reason="the real engine needs the extra 'local'")
MODEL = "fake"


def endless(fed: Any) -> np.ndarray:
    from tests.decode.fakes import wants

    time.sleep(0.005)
    return wants("a" * 5000)(fed)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    from tests.decode.fakes import fake_engine

    engine, _ = fake_engine(endless, tmp_path, max_batch=2, limits=Limits(queue=4))
    with engine, Server(engine, ServeSettings(served_model_name=MODEL)) as running:
        yield running


def nothing_runs(server: Server) -> None:
    limit = time.monotonic() + 2
    while server.engine.in_flight():
        assert time.monotonic() < limit, f"{len(server.engine.in_flight())} requests run on"
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_a_list_that_does_not_fit_the_queue_is_refused_before_any_of_it_begins(
    server: Server, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(server.engine, "submit", lambda request, **_: begun.append(request))
    monkeypatch.setattr(routes, "completion_requests", lambda *given: begun.append(given))
    body = {"model": MODEL, "prompt": ["x"] * 7, "max_tokens": 1500, "stream": stream}
    assert server.post("/v1/completions", body).json()["error"]["type"] == "QueueFull"
    assert not begun


@pytest.mark.parametrize("stream", [False, True])
def test_one_prompt_that_is_refused_refuses_the_list(server: Server, stream: bool) -> None:
    body = {"model": MODEL, "prompt": ["x", "y", "z" * 3000], "max_tokens": 1500, "stream": stream}
    assert server.post("/v1/completions", body).status_code == 400
    nothing_runs(server)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_a_list_leaves_nothing_running(server: Server, stream: bool) -> None:
    body = {"model": MODEL, "prompt": ["x", "y", "z"], "max_tokens": 1500, "stream": stream}
    with pytest.raises(httpx.TimeoutException):
        server.client.post("/v1/completions", json=body, timeout=0.5)
    nothing_runs(server)


@pytest.mark.parametrize("stream", [False, True])
def test_a_list_that_fits_is_answered_in_order(server: Server, stream: bool) -> None:
    body = {"model": MODEL, "prompt": ["x", "y", "z"], "max_tokens": 3, "stream": stream, "temperature": 0}
    answer = server.post("/v1/completions", body)
    assert answer.status_code == 200
    assert answer.text.count("aaa" if not stream else '"a"') == (3 if not stream else 9)
