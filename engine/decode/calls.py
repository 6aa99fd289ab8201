"""How an engine is asked: at once, many together, as a stream, from an event loop; with a Request or in short form.

Knows futures, threads and loops. What becomes of a job is the engine's business.
"""

from __future__ import annotations

import asyncio
import queue
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Any, Unpack

from engine.config import EngineConfig
from engine.decode.requests.job import Job, OnText
from engine.decode.requests.outcome import Identity, failed_result
from engine.errors import EngineError, RequestError
from engine.model.loaded_model import LoadedModel
from engine.options import RequestOptions
from engine.request import Request, Result


class Calls(ABC):
    """What `Engine` offers beside `submit`."""

    config: EngineConfig
    loaded: LoadedModel
    identity: Identity

    @abstractmethod
    def submit(self, request: Request, *, owner: str | None = None, on_text: OnText | None = None) -> Future[Result]:
        """Queue a request."""

    @abstractmethod
    def _job(self, request: Request, owner: str | None = None, on_text: OnText | None = None) -> Job:
        """The request with its prompt encoded and its grammar on the way."""

    @abstractmethod
    def _entered(self, job: Job) -> Job:
        """Queue it. Where it raises, the job's future has the error, too."""

    def generate(self, request: Request | str | None = None, **options: Unpack[RequestOptions]) -> Result:
        """Submit and wait. Raises what `submit` and its future raise. Interrupted (Ctrl-C), it cancels the request.

        In short form a prompt and fields of Request, SamplingParams and Constraint: `generate("...", schema=...)`.
        """
        job = self._job(_request(request, options))
        try:
            self._entered(job)
            return job.future.result()
        finally:
            job.future.cancel()

    def generate_batch(self, requests: Sequence[Request]) -> list[Result]:
        """Results in order; what would raise becomes a Result with status `error` in its place."""
        return list(self.generate_each(requests))

    def generate_each(self, requests: Sequence[Request]) -> Iterator[Result]:
        """The same as an iterator, never more than a queue's worth in flight."""
        window = max(1, min(self.config.limits.queue, 2 * self.loaded.runner.max_batch))
        in_flight: deque[tuple[Request, Job | EngineError]] = deque()
        left = iter(requests)
        try:
            while True:
                for request in islice(left, window - len(in_flight)):
                    in_flight.append((request, self._made(request)))  # before it runs: an interrupt finds it here
                    self._enter(in_flight[-1][1])
                if not in_flight:
                    return
                yield self._settled(*in_flight[0])
                in_flight.popleft()
        finally:
            for _, made in in_flight:
                if isinstance(made, Job):
                    made.future.cancel()

    def _made(self, request: Request) -> Job | EngineError:
        try:
            return self._job(request)
        except EngineError as error:
            if not isinstance(request, Request):
                raise
            return error

    def _enter(self, made: Job | EngineError) -> None:
        if isinstance(made, Job):
            with suppress(EngineError):
                self._entered(made)

    def _settled(self, request: Request, made: Job | EngineError) -> Result:
        if isinstance(made, EngineError):
            return failed_result(request.id, made, self.identity)
        try:
            return made.future.result()
        except EngineError as error:
            return failed_result(request.id, error, self.identity)

    def stream(
        self, request: Request | str | None = None, *, owner: str | None = None, **options: Unpack[RequestOptions]
    ) -> Iterator[str | Result]:
        """Pieces of text (sample 0's), the Result last. Leaving the iterator early cancels the request."""
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def on_text(sample: int, text: str) -> None:
            if sample == 0:
                pieces.put(text)

        job = self._job(_request(request, options), owner, on_text)
        job.future.add_done_callback(lambda _: pieces.put(None))
        stream = _pieces(pieces, job.future)
        next(stream)  # begun: a stream that is dropped before its first piece cancels the request too
        try:
            self._entered(job)
        except BaseException:  # Ctrl-C, too: a traceback would keep the stream
            job.future.cancel()
            raise
        return stream

    async def agenerate(self, request: Request | str | None = None, **options: Unpack[RequestOptions]) -> Result:
        """`generate` for an event loop, which it never blocks. Cancelling the task cancels the request."""
        return await asyncio.wrap_future(await self._entered_beside(_request(request, options)))

    async def astream(
        self, request: Request | str | None = None, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[str | Result]:
        """`stream` for an event loop. Leaving the iterator early (`aclose`) cancels the request."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def hand_over(piece: str | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        future = await self._entered_beside(
            _request(request, options), on_text=lambda sample, text: hand_over(text) if sample == 0 else None
        )
        future.add_done_callback(lambda _: hand_over(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield future.result()
        finally:
            future.cancel()

    async def _entered_beside(self, request: Request, on_text: OnText | None = None) -> Future[Result]:
        """Submitted in a thread, since a long prompt takes its time. Cancelled meanwhile, it leaves nothing behind."""
        entering = asyncio.ensure_future(asyncio.to_thread(self.submit, request, on_text=on_text))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(_cancel_what_entered)
            raise


def _request(request: Request | str | None, options: RequestOptions) -> Request:
    """The request that was meant; RequestError for a Request with options beside it."""
    if isinstance(request, Request):
        if options:
            raise RequestError("give either a Request or its single fields", param=next(iter(options)))
        return request
    given: dict[str, Any] = {**options}
    return Request.from_mapping({"prompt": request, **given})


def _pieces(pieces: queue.SimpleQueue[str | None], future: Future[Result]) -> Iterator[str | Result]:
    """An empty piece, then those that come, then the Result."""
    try:
        yield ""
        while (piece := pieces.get()) is not None:
            yield piece
        yield future.result()
    finally:
        future.cancel()


def _cancel_what_entered(entering: asyncio.Task[Future[Result]]) -> None:
    if not entering.cancelled() and entering.exception() is None:
        entering.result().cancel()
