"""What the decode thread makes reaches the event loop in order, and wakes it once for all that comes meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from engine.errors import EngineFailure
from engine.serve.service.async_bridge import StreamQueue, TextChunk

STREAMS, STEPS = 64, 3


def alive() -> None:
    return


def test_the_pieces_of_all_streams_wake_the_loop_once_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> tuple[int, list[list[Any]]]:
        loop, woken = asyncio.get_running_loop(), list[Any]()
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call: woken.append(call) or wake(call))
        queues = [StreamQueue() for _ in range(STREAMS)]

        def decode() -> None:
            for step in range(STEPS):
                for queue in queues:
                    queue.on_text(0, str(step))

        for _ in range(2):  # the loop is busy until the thread has ended
            thread = threading.Thread(target=decode)
            thread.start()
            thread.join()
            await asyncio.sleep(0)
        for queue in queues:
            queue.put(EngineFailure("the end"))
        return len(woken), [await everything(queue) for queue in queues]

    woken, texts = asyncio.run(read())
    assert woken == 3
    assert texts == [[str(step) for step in range(STEPS)] * 2] * STREAMS


async def everything(queue: StreamQueue) -> list[str]:
    """The pieces before a failure."""
    texts = []
    try:
        async for item in queue.items(5.0, alive):
            assert isinstance(item, TextChunk)
            texts.append(item.text)
    except EngineFailure:
        return texts
    raise AssertionError("no failure came")


def test_what_comes_after_the_loop_has_closed_harms_nobody() -> None:
    async def begin() -> StreamQueue:
        return StreamQueue()

    queue = asyncio.run(begin())
    queue.on_text(0, "late")
    queue.on_text(0, "later")
