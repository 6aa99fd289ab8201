"""A scripted engine behind the real service, and a real server on a real port."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import httpx

from engine.errors import BudgetTooSmall, NotReady, QueueFull, SchemaRefused
from engine.judge import judge
from engine.request import Constraint, Request, Result, Timings, Usage
from engine.serve.app import create_app
from engine.serve.server.run import Server as Listener
from engine.serve.settings import ServeSettings

DOCUMENT = {"name": "add", "ok": True}
Script = Callable[[Request], Result]


def document(request: Request, **changes: Any) -> Result:
    """A complete result: the fixed document under a JSON constraint, an echo in free text."""
    is_json = request.constraint is not None and request.constraint.is_json
    text = json.dumps(DOCUMENT, separators=(",", ":")) if is_json else f"echo: {request.prompt or 'messages'}"
    base = Result(
        id=request.id,
        status="complete",
        finish_reason="stop",
        valid=True,
        text=text,
        value=DOCUMENT if is_json else None,
        usage=Usage(prompt_tokens=7, completion_tokens=5, forced_tokens=2),
        timings_ms=Timings(queue=1, prefill=2, decode=3, total=6),
        schema_hash=request.constraint.schema_hash if request.constraint else None,
        seed=request.sampling.seed or 0,
        model="fake",
        quantization="fp32",
        engine_version="0",
        device="cpu",
        created=time.time(),
    )
    return replace(base, **changes)


def judged(request: Request, text: str, **changes: Any) -> Result:
    """A result with this text, as the judge of the request's constraint leaves it."""
    if request.constraint is None:
        return document(request, text=text, **changes)
    found = judge(request.constraint, text.encode())
    if found.valid:
        return document(request, text=text, arguments=dict(found.arguments), **changes)
    error = {"type": "Invalid", "message": found.message}
    return document(request, text=text, **{**changes, "status": "invalid", "valid": False, "error": error})


class FakeCheck:
    """A check whose grammar is settled by whoever made it."""

    def __init__(self, constraint: Constraint) -> None:
        self.constraint = constraint
        self.grammar: Future[Any] = Future()

    def report(self) -> dict[str, Any]:
        told = {"conformance": self.constraint.conformance, "kind": self.constraint.kind}
        return {"schema_hash": "0", "supported": True, "verdicts": [], "min_bytes": 2, **told}


class FakeEngine:
    """`ServedEngine` by script: `delay_s` a request, `pause_s` a piece of text, on its own thread."""

    def __init__(self, script: Script = document, delay_s: float = 0.0, pause_s: float = 0.0) -> None:
        self.script, self.delay_s, self.pause_s = script, delay_s, pause_s
        self.stalled = 0.0
        self.ready = True
        self.calls: list[str] = []
        self.requests: list[Request] = []
        self.checks: list[FakeCheck] = []
        self.checks_hang = False
        self.room: int | None = None
        self.owners: list[str | None] = []
        self.cancelled: list[str] = []
        self._stops: dict[str, threading.Event] = {}

    def submit(self, request: Request, *, owner: str | None = None, on_text: Any = None) -> Future[Result]:
        self.owners.append(owner)
        self._admit(request)
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        threading.Thread(target=lambda: self._finish(request, future, on_text), daemon=True).start()
        return future

    def refuse_when_full(self, count: int, *, owner: str | None = None) -> None:
        if self.room is not None and count > self.room:
            raise QueueFull(f"no room for {count} requests of {owner}", param="queue")

    def stalled_s(self) -> float:
        return self.stalled

    def cancel(self, request_id: str, *, owner: str | None = None) -> bool:
        self.cancelled.append(request_id)
        stop = self._stops.get(request_id)
        if stop is not None:
            stop.set()
        return stop is not None

    def finish_now(self) -> None:
        self.calls.append("finish_now")

    def submit_check(self, constraint: Constraint, *, owner: str | None = None) -> FakeCheck:
        self.calls.append("check")
        self.owners.append(owner)
        self.checks.append(FakeCheck(constraint))
        if not self.checks_hang:
            self.checks[-1].grammar.set_result(None)
        return self.checks[-1]

    def info(self) -> dict[str, Any]:
        self.calls.append("info")
        return {"model": "fake", "quantization": "fp32", "device": "cpu", "versions": {"engine": "0"}}

    def warmup(self, constraints: Any = ()) -> None:
        self.calls.append("warmup")
        self.warmed = list(constraints)

    def close(self) -> None:
        self.ready = False
        self.calls.append("close")
        for stop in self._stops.values():
            stop.set()

    def _admit(self, request: Request) -> None:
        self.calls.append("submit")
        self.requests.append(request)
        if not self.ready:
            raise NotReady("the engine has been closed")
        if request.constraint is not None and '"refused"' in request.constraint.source:
            raise SchemaRefused("no document satisfies this", param="schema", pointer="/refused")
        if request.constraint is not None and request.sampling.max_tokens == 1:
            raise BudgetTooSmall("the shortest document has 5 tokens, max_tokens is 1", param="max_tokens")
        self._stops[request.id] = threading.Event()

    def _finish(self, request: Request, future: Future[Result], on_text: Any) -> None:
        try:
            result = self.script(request)
            for number, sample in enumerate(result.samples or (result,)) if on_text else ():
                for piece in re.split(r"(?<= )", sample.text):
                    on_text(number, piece)
                    if self._stops[request.id].wait(self.pause_s):
                        break
            if self._stops[request.id].wait(self.delay_s):
                result = replace(result, status="cancelled", finish_reason="cancelled", valid=False)
            future.set_result(result)
        except BaseException as error:  # noqa: BLE001 - a future carries whatever happened
            future.set_exception(error)


class _PromptListener(Listener):
    """Ends when it is told to. uvicorn looks every 100 ms, then gives connections 100 ms to close even if there are
    none: as long as most tests take."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.listening = threading.Event()

    async def main_loop(self) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        await self.on_tick(0)
        self.listening.set()
        await self._told.wait()

    async def shutdown(self, sockets: Any = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        await self.lifespan.shutdown()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._told.set)


class Server:
    """uvicorn on a free loopback port, in a thread."""

    def __init__(self, engine: Any, settings: ServeSettings | None = None) -> None:
        self.app = create_app(engine, settings)
        self.engine = engine
        self._server = _PromptListener(self.app, port=0, lifespan="on", timeout_graceful_shutdown=2)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        limit = time.monotonic() + 10
        while not self._server.listening.wait(0.1):
            assert self._thread.is_alive(), "the server died while starting"
            assert time.monotonic() < limit, "the server did not start"
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30, verify=False)  # a store of certificates takes 25 ms
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.stop()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"

    @property
    def connections(self) -> set[Any]:
        return self._server.server_state.connections

    def post(self, path: str, body: Any = None, **kwargs: Any) -> httpx.Response:
        return self.client.post(path, json=body, **kwargs)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.client.get(path, **kwargs)
