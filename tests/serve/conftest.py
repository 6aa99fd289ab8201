"""Fixtures: a scripted engine and servers around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.serve.settings import ServeSettings
from tests.serve.fakes import FakeEngine, Server


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def server(fake: FakeEngine) -> Iterator[Server]:
    with Server(fake) as running:
        yield running


@pytest.fixture
def serving() -> Iterator[Callable[..., Server]]:
    """Servers made to order, all stopped at the end."""
    started: list[Server] = []

    def start(engine: Any = None, settings: ServeSettings | None = None) -> Server:
        started.append(Server(engine or FakeEngine(), settings).__enter__())
        return started[-1]

    yield start
    for one in started:
        one.__exit__()
