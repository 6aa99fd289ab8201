"""One engine made awaitable: requests in, Results out, nothing ever decoded on the event loop.

Knows deadlines, cancellation and who is in flight. Does not know HTTP, Modal or any wire format: the ASGI app and the
Modal functions both stand on it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, TypeVar

from engine.bundled import bundled_names, bundled_schema
from engine.errors import EngineError, EngineFailure, NotReady, RequestError
from engine.request import Constraint, Request, Result
from engine.sandbox.lanes import Lane
from engine.serve.log.accounting import Accounting, Call
from engine.serve.service.async_bridge import (
    PULSE_S,
    SILENT,
    StreamQueue,
    Submission,
    TextChunk,
    settle_from_any_thread,
)
from engine.serve.service.checks import Checks
from engine.serve.service.engine_protocol import ServedEngine
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.settings import ServeSettings
from engine.serve.wire.json_answer import Beside

T = TypeVar("T")
MOMENTARY = ("in_flight", "ready")
"""What an engine tells of itself that is not for keeping."""


class Service:
    """Share one per process. Coroutines belong to one event loop; `drain` and `close` may be called from anywhere."""

    def __init__(self, engine: ServedEngine | EngineSlot, settings: ServeSettings | None = None) -> None:
        self.settings = settings or ServeSettings()
        self.slot = engine if isinstance(engine, EngineSlot) else EngineSlot.holding(engine)
        self.accounting = Accounting(self.settings)
        self.in_flight: dict[tuple[str, str], Callable[[EngineError], None]] = {}
        """By key and request id, how to fail a request from any thread."""
        self.checks = Checks(self.settings.max_checks, self.settings.deadline_s, self.for_key)
        self._admission = Lane("admission", self.settings.admission_threads)

    @property
    def model_name(self) -> str:
        """The one name `/v1/models` lists; NotReady as long as only the engine could say it."""
        name = self.settings.served_model_name or self.accounting.identity.get("model")
        if not name:
            raise NotReady(f"the engine is {self.slot.state}; its model is not known yet")
        return str(name)

    def load_here(self) -> None:
        """Load the engine, log it, remember who it is; does nothing when it is loaded. Blocks."""
        loaded = self.slot.load()
        identity = self.identify()
        if loaded:
            self.accounting.log.write("loaded", load_s=self.slot.load_s, phases_s=identity.get("load_s"))

    async def load(self) -> None:
        """`load_here` in a thread."""
        await asyncio.to_thread(self.load_here)

    def ir_schema(self) -> dict[str, Any]:
        """What `generate_ir` produces when the caller sends no constraint: the settings' file or LIFT's IR."""
        path = self.settings.ir_schema
        if path is None:
            return bundled_schema("lift_ir")
        try:
            schema: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise EngineFailure(f"the IR schema file cannot be read: {error}") from None
        return schema

    def identify(self) -> dict[str, Any]:
        """Ask the engine once for its identity; health and accounting use the copy."""
        engine = self.slot.peek()
        if engine is not None and not self.accounting.identity:
            told = engine.info()
            self.accounting.identity = {name: value for name, value in told.items() if name not in MOMENTARY}
        return self.accounting.identity

    async def for_key(self, key: str, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a key's work off the loop, in threads that keys share fairly; what is cancelled before its turn never."""
        return await asyncio.wrap_future(self._admission.put((key,), partial(work, *args, **kwargs)))

    def beside(self, key: str) -> Beside:
        """`for_key` of this key."""
        return partial(self.for_key, key)

    async def generate(self, request: Request, call: Call) -> Result:
        """Raises EngineError before admission. Being cancelled cancels the request in the engine."""
        engine = self.slot.get()
        place = self._place(request, call)
        submission = self._submission(engine, request, call)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.in_flight[place] = partial(settle_from_any_thread, answer.get_loop(), answer)
        try:
            future = await self.for_key(call.key, submission.submit)
            future.add_done_callback(lambda done: settle_from_any_thread(answer.get_loop(), answer, done))
            result = await self._settled(answer, self._patience(request))
        except EngineError as error:
            self.accounting.refused(call, request, error)
            raise
        except asyncio.CancelledError:
            submission.abandon()
            self.accounting.vanished(call, request)
            raise
        except Exception as error:
            submission.abandon()
            reason = SILENT if isinstance(error, TimeoutError) else f"{type(error).__name__} in the engine"
            failure = EngineFailure(reason)
            self.accounting.refused(call, request, failure)
            raise failure from error
        finally:
            self.in_flight.pop(place, None)
        self.accounting.finished(call, request, result)
        return result

    async def stream(self, request: Request, call: Call) -> AsyncGenerator[TextChunk | Result]:
        """Pieces of text, then the Result. Errors before admission come out of the first `anext`."""
        engine = self.slot.get()
        place = self._place(request, call)
        submission, queue = self._submission(engine, request, call), StreamQueue()
        self.in_flight[place] = queue.put
        settled = False
        try:
            future = await self.for_key(call.key, submission.submit, queue.on_text)
            future.add_done_callback(queue.on_done)
            async for item in queue.items(self._patience(request), self._alive):
                if isinstance(item, Result):
                    settled = True
                    self.accounting.finished(call, request, item)
                yield item
        except EngineError as error:
            settled = True
            submission.abandon()
            self.accounting.refused(call, request, error)
            raise
        finally:
            self.in_flight.pop(place, None)
            if not settled:
                submission.abandon()
                self.accounting.vanished(call, request)

    def refuse_when_full(self, count: int, call: Call) -> None:
        """QueueFull where the engine would not take so many more, before anything is begun for any of them."""
        engine = self.slot.get()
        try:
            engine.refuse_when_full(count, owner=call.key)
        except EngineError as error:
            self.accounting.refused(call, None, error)
            raise

    async def check(self, constraint: Constraint, call: Call) -> dict[str, Any]:
        """The verdict object; ConstraintError where the constraint cannot even be read. Being cancelled gives it up."""
        return await self.checks.run(self.slot.get(), constraint, call.key)

    async def warmup(self) -> dict[str, Any]:
        """Load if need be, then warm; blocks (this coroutine only) until done."""
        await self.load()
        engine = self.slot.get()
        await asyncio.to_thread(engine.warmup, common_constraints())
        return self.identify()

    def drain(self) -> None:
        """Refuse what is new; what runs goes on."""
        self.slot.mark("draining")

    def cancel_all(self) -> int:
        """Cancel what still runs; each is answered with status `cancelled`. How many there were."""
        engine, running = self.slot.peek(), tuple(self.in_flight)
        for key, request_id in running:
            if engine is not None:
                engine.cancel(request_id, owner=key)
        return len(running)

    def fail_all(self, reason: str) -> None:
        """Answer everyone in flight with an EngineFailure, without the engine's help."""
        for fail in tuple(self.in_flight.values()):
            fail(EngineFailure(reason))

    def close(self) -> None:
        """Close the engine and the threads; blocks until the decode thread has stopped."""
        self.cancel_all()
        self.slot.close()
        self._admission.close(wait=False)

    def _place(self, request: Request, call: Call) -> tuple[str, str]:
        """Its place among those in flight."""
        place = (call.key, request.id)
        if place in self.in_flight:
            raise RequestError(f"a request with the id {request.id!r} is still running", param="id")
        return place

    def _submission(self, engine: ServedEngine, request: Request, call: Call) -> Submission:
        """With the service's deadline, and the prompt's cache entries kept to the caller's key."""
        deadline_s = self.settings.deadline_s if request.deadline_s is None else request.deadline_s
        salt = f"{call.key}/{request.cache_salt or ''}"
        return Submission(engine, request, call.key, deadline_s=deadline_s, cache_salt=salt)

    async def _settled(self, answer: asyncio.Future[Result], patience_s: float) -> Result:
        """The answer; EngineFailure when the decode thread has ended, TimeoutError when patience has."""
        until = time.monotonic() + patience_s
        while not answer.done():
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            await asyncio.wait({answer}, timeout=min(PULSE_S, left_s))
            if not answer.done():
                self._alive()
        return answer.result()

    def _alive(self) -> None:
        if self.slot.state == "failed":
            raise EngineFailure("the decode thread has ended")

    def _patience(self, request: Request) -> float:
        return (request.deadline_s or self.settings.deadline_s) + self.settings.answer_grace_s


def common_constraints() -> list[Constraint]:
    """The schemas that ship, LIFT's six among them: what a warm engine has compiled."""
    return [Constraint.json_schema(bundled_schema(name)) for name in bundled_names()]
