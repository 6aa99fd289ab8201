"""Between the event loop and the engine's threads: one submission, one stream, one answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from engine.errors import EngineError, EngineFailure
from engine.request import Request, Result
from engine.serve.service.engine_protocol import OnText, ServedEngine

PULSE_S = 1.0
"""How often someone who waits looks whether the engine is still there."""
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


class Submission:
    """One submission from a thread that can be abandoned at any moment, also while `submit` is still running."""

    def __init__(self, engine: ServedEngine, request: Request, owner: str, **changes: Any) -> None:
        """`changes` are made to the request by `submit`, which checks all of it once more."""
        self._engine, self._request, self._owner, self._changes = engine, request, owner, changes
        self._abandoned = threading.Event()

    def submit(self, on_text: OnText | None = None) -> Future[Result]:
        if self._abandoned.is_set():
            raise EngineFailure("the caller left before the request was admitted")
        request = replace(self._request, **self._changes)
        future = self._engine.submit(request, owner=self._owner, on_text=on_text)
        if self._abandoned.is_set():
            self._engine.cancel(self._request.id, owner=self._owner)
        return future

    def abandon(self) -> None:
        self._abandoned.set()
        self._engine.cancel(self._request.id, owner=self._owner)


@dataclass(frozen=True, slots=True)
class TextChunk:
    """Text of one sample as it is made."""

    sample: int
    text: str


class Mailbox:
    """What other threads hand to one event loop, which is woken once for all that comes before it gets there: the
    decode thread has a piece for each stream at every step, and to wake a loop is a call of the system."""

    def __init__(self) -> None:
        self._items: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._woken = False

    def put(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Any], None], item: Any) -> None:
        """Have `deliver(item)` called in the loop, in the order of these calls. RuntimeError when that has closed."""
        self._items.append((deliver, item))
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._woken = False  # first: what is put from here on wakes the loop again
        while self._items:
            deliver, item = self._items.popleft()
            deliver(item)


_MAILBOXES: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakKeyDictionary()


class StreamQueue:
    """Carries what the decode thread makes of one request into the loop. No thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._mailbox = _MAILBOXES.setdefault(self._loop, Mailbox())
        self._queue: asyncio.Queue[TextChunk | Result | EngineError] = asyncio.Queue()

    async def items(self, patience_s: float, alive: Callable[[], None]) -> AsyncIterator[TextChunk | Result]:
        """Pieces, then the Result. EngineError as soon as there is one, when `alive` raises it, or after silence."""
        while True:
            item = await self._next(patience_s, alive)
            if isinstance(item, EngineError):
                raise item
            yield item
            if isinstance(item, Result):
                return

    async def _next(self, patience_s: float, alive: Callable[[], None]) -> TextChunk | Result | EngineError:
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(min(PULSE_S, patience_s)):
                    return await self._queue.get()
            except TimeoutError:
                alive()
        raise EngineFailure(SILENT)

    def on_text(self, sample: int, text: str) -> None:
        """Called from the decode thread."""
        self.put(TextChunk(sample, text))

    def on_done(self, future: Future[Result]) -> None:
        """Called with the request's future once it is settled."""
        error = _exception(future)
        if error is None:
            self.put(future.result())
        elif isinstance(error, EngineError):
            self.put(error)
        else:
            self.put(EngineFailure(f"{type(error).__name__} in the engine"))

    def put(self, item: TextChunk | Result | EngineError) -> None:
        """Hand an item to the loop, from any thread; a loop that has closed needs none."""
        with contextlib.suppress(RuntimeError):
            self._mailbox.put(self._loop, self._queue.put_nowait, item)
