"""Between the event loop and the engine's threads: one submission, one stream, one answer.

Knows threads and loops. Does not know what the requests are.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future

from engine.errors import EngineError, EngineFailure
from engine.request import Request, Result
from engine.serve.engine_protocol import ServedEngine

SILENT = "the engine gave no answer within the deadline and its grace"


def settle_from_any_thread(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Result], outcome: Future[Result] | EngineError
) -> None:
    """Settle `answer` on its loop; the first outcome counts, and a loop that has closed needs none."""

    def settle() -> None:
        if answer.done():
            return
        error = outcome if isinstance(outcome, EngineError) else _exception(outcome)
        if error is not None:
            answer.set_exception(error)
        elif isinstance(outcome, Future):
            answer.set_result(outcome.result())

    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)


def _exception(future: Future[Result]) -> BaseException | None:
    if future.cancelled():
        return EngineFailure("the engine dropped the request")
    return future.exception()


class Ticket:
    """One submission from a thread that can be abandoned at any moment, also while `submit` is still running."""

    def __init__(self, engine: ServedEngine, request: Request) -> None:
        self._engine, self._request = engine, request
        self._abandoned = threading.Event()

    def submit(self) -> Future[Result]:
        if self._abandoned.is_set():
            raise EngineFailure("the caller left before the request was admitted")
        future = self._engine.submit(self._request)
        if self._abandoned.is_set():
            self._engine.cancel(self._request.id)
        return future

    def abandon(self) -> None:
        self._abandoned.set()
        self._engine.cancel(self._request.id)


class Pump:
    """A thread that carries a blocking iterator into the loop; one per stream, alive as long as its request."""

    def __init__(self, engine: ServedEngine, request: Request) -> None:
        self._engine, self._request = engine, request
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | Result | EngineError] = asyncio.Queue()

    async def items(self, patience_s: float) -> AsyncIterator[str | Result]:
        threading.Thread(target=self._run, name=f"stream-{self._request.id}", daemon=True).start()
        while True:
            try:
                item = await asyncio.wait_for(self._queue.get(), patience_s)
            except TimeoutError:
                raise EngineFailure(SILENT) from None
            if isinstance(item, EngineError):
                raise item
            yield item
            if isinstance(item, Result):
                return

    def _run(self) -> None:
        try:
            for item in self._engine.stream(self._request):
                self.put(item)
            self.put(EngineFailure("the stream ended without a result"))
        except EngineError as error:
            self.put(error)
        except Exception as error:  # noqa: BLE001 - a thread must not die in silence
            self.put(EngineFailure(f"{type(error).__name__} in the engine"))

    def put(self, item: str | Result | EngineError) -> None:
        """Hand an item to the loop, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            self._engine.cancel(self._request.id)
