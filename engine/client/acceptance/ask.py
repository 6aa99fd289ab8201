"""How the acceptance run reaches an engine: `ask` is a coroutine function from a request dict to an answer dict.

Does not judge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from engine.client.environment import auth_headers
from engine.client.providers.http import TIMEOUT_S

Answer = Mapping[str, Any]
Ask = Callable[[dict[str, Any]], Awaitable[Answer]]


def over_http(url: str) -> Ask:
    """`ask` for an endpoint URL, with the credentials of the environment."""

    async def ask(request: dict[str, Any]) -> Answer:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=True, headers=auth_headers()) as client:
            response = await client.post(url, json=request)
        answer: Answer = {"error": _message(response)} if response.is_error else response.json()
        return answer

    return ask


def _message(response: httpx.Response) -> str:
    """What the service says is wrong; the code and the text where something else than the service answers."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"HTTP {response.status_code}: {response.text[:200]}"


def by_function(generate: Any) -> Ask:
    """`ask` for the deployed function `generate`."""

    async def ask(request: dict[str, Any]) -> Answer:
        answer: Answer = await generate.remote.aio(**request)
        return answer

    return ask
