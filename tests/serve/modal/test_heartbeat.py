"""A container's entry for the health function: renewed by its own thread, with what is true when it is written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.serve.modal import heartbeat
from engine.serve.modal.container import ModalService
from engine.serve.modal.deployment import Deployment
from tests.serve.fakes import FakeEngine


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_an_entry_is_renewed_every_ten_seconds_with_the_calls_that_run_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert heartbeat.EVERY_S == 10
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.02)
    entries: dict[str, Any] = {}
    service = ModalService(
        Deployment(), str(tmp_path), entries, factory=lambda _: FakeEngine(delay_s=1.0), on_wedged=lambda: None
    )
    service.load()

    def told(fact: str) -> Any:
        return next(iter(entries.values()), {}).get(fact)

    wait_for(lambda: told("state") == "ready")
    first = told("at")
    call = threading.Thread(target=lambda: asyncio.run(service.functions.generate("x")))
    call.start()
    wait_for(lambda: told("in_flight") == 1)
    assert told("at") > first
    call.join()
    wait_for(lambda: told("in_flight") == 0)
    service.stop()
    assert entries == {}
