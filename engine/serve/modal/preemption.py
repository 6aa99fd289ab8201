"""What a container does when Modal takes its machine away (SIGINT): documents are closed and sent, the rest runs again.

Modal's own handler of the signal cancels every running call at once and cuts every HTTP response. This one comes before
it: documents are ended by their grammar as a deadline would end them, streams end with an error event, and what has no
answer then (free text, what waits in the queue) leaves none, so that Modal gives it to another container: it is logged
as preempted, without a cost. Then the process ends as after Modal's handler, with its exit hooks. A second signal ends
it at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress

from engine.errors import NotReady
from engine.request import Request, Result
from engine.serve.log.accounting import Call
from engine.serve.service.async_bridge import TextChunk
from engine.serve.service.service import Service

CLOSE_WITHIN_S = 10.0
"""Closing takes a step of the engine; how long Modal waits before it kills the process is not documented."""
SEND_WITHIN_S = 0.5
"""What is answered is still on its way out of the runtime; nothing tells when it has left."""


class PreemptibleService(Service):
    """A service whose event loop is the runtime's, in the main thread."""

    interrupted = False

    async def generate(self, request: Request, call: Call) -> Result:
        """As `Service.generate`; never returns what an interruption left unfinished."""
        self._listen()
        if self.interrupted:
            self.accounting.preempted(call, request)
        else:
            result = await super().generate(request, call)
            if result.ok or not self.interrupted:
                return result
        never: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        return await never

    async def stream(self, request: Request, call: Call) -> AsyncGenerator[TextChunk | Result]:
        """As `Service.stream`; an interruption before the end is a NotReady, since something may have been sent."""
        self._listen()
        if self.interrupted:
            self.accounting.preempted(call, request)
            await asyncio.get_running_loop().create_future()
        async with aclosing(super().stream(request, call)) as items:
            async for item in items:
                if isinstance(item, Result) and self.interrupted and not item.ok:
                    raise NotReady("the container was interrupted before the text was finished; ask again")
                yield item

    def _listen(self) -> None:
        """Take the signal. For every request anew: the runtime installs its handler when it begins to take calls."""
        with suppress(RuntimeError, ValueError, NotImplementedError):  # not the main thread: nothing to listen to
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)

    def _interrupt(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = self.accounting.interrupted = True
        self.drain()
        self.accounting.log.write("interrupted", in_flight=len(self.in_flight))
        engine = self.slot.peek()
        if engine is not None:
            engine.finish_now()
        self._leaving = asyncio.ensure_future(self._leave())

    async def _leave(self) -> None:
        """KeyboardInterrupt in the event loop: the runtime's way to its exit hooks that answers nothing more."""
        until = time.monotonic() + CLOSE_WITHIN_S
        while self.in_flight and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await asyncio.sleep(SEND_WITHIN_S)
        raise KeyboardInterrupt


@contextmanager
def ending_at_interrupt(before: Callable[[], None]) -> Iterator[None]:
    """While nothing is loaded nobody waits for an answer of this process: SIGINT calls `before` and ends it.

    Python's own handler raises KeyboardInterrupt in whatever runs, and a destructor or callback swallows it.
    """

    def end(*_: object) -> None:
        before()
        leave_at_once()

    if threading.current_thread() is not threading.main_thread():  # which alone has handlers
        yield
        return
    previous = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def leave_at_once() -> None:
    """End the process from its last exit hook: calls without an answer still wait in the runtime's tasks, and it would
    cancel each with a traceback. What the caches' Volume lacks is what the last seconds added to them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
