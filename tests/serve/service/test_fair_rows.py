"""Two keys on one server: the one that asks for everything, and the one that asks for two tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine.serve.settings import ServeSettings
from tests.serve.fakes import Server

pytest.importorskip("torch", reason="the real engine needs the extra 'local'")

STEP_S = 0.01


def endless(fed: Any) -> np.ndarray:
    from tests.decode.fakes import wants

    return wants("a" * 5000)(fed)


def test_128_samples_of_one_key_do_not_keep_another_waiting(tmp_path: Path) -> None:
    from tests.decode.fakes import fake_engine

    engine, network = fake_engine(endless, tmp_path)
    forward = network.forward

    def on_a_device(*args: Any) -> Any:
        time.sleep(STEP_S)
        return forward(*args)

    network.forward = on_a_device  # type: ignore[method-assign]
    settings = ServeSettings(served_model_name="fake", api_keys=("sk-many", "sk-few"))
    with (
        engine,
        Server(engine, settings) as server,
        _client(server, "sk-many") as many,
        _client(server, "sk-few") as few,
    ):

        def two_tokens() -> None:
            assert few.post("/generate", json={"prompt": "y", "max_tokens": 2}).status_code == 200

        def everything() -> None:
            answers.append(many.post("/generate", json={"prompt": "x", "n": 128, "max_tokens": 400, "deadline_s": 4}))

        answers: list[httpx.Response] = []
        alone = min(_seconds(two_tokens) for _ in range(3))
        thread = threading.Thread(target=everything)
        thread.start()
        while network.most < 4:
            time.sleep(0.01)
        busy = min(_seconds(two_tokens) for _ in range(3))
        assert engine.in_flight(), "the other key's samples go on"
        assert busy < 3 * alone + 0.1
        thread.join()
        assert answers, "and are answered"


def _client(server: Server, key: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60, headers={"Authorization": f"Bearer {key}"})


def _seconds(ask: Callable[[], None]) -> float:
    started = time.perf_counter()
    ask()
    return time.perf_counter() - started
