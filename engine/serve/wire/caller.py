"""Who calls a route: by which key, and whether they are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request as HTTPRequest

T = TypeVar("T")


class ClientGone(Exception):
    """The client left while we were reading from it or writing to it; there is nobody to tell."""


def caller(http: HTTPRequest) -> str:
    """The label of the key this request came with."""
    return str(http.scope["state"].get("key", "anonymous"))


async def while_connected(http: HTTPRequest, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; when the client leaves first, the work is cancelled and nobody is told."""
    doing: asyncio.Task[T] = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientGone
    finally:
        watching.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})


async def _gone(http: HTTPRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        continue
