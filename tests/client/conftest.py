"""Fixtures of the client tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Coroutine tests run on asyncio, which the engine's service needs."""
    return "asyncio"
