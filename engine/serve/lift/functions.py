"""The service as plain functions of plain JSON types: what the Modal class forwards to, and what tests call here.

Knows the dict contract of the function calls. Never raises for a caller's mistake: an exception class would have to be
importable on the other side, so a failure is a dict with `error` (one line), `error_detail` and no document.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from engine.errors import EngineError, EngineFailure
from engine.request import Request, Result
from engine.serve.lift.answer import lift_answer
from engine.serve.lift.body import CheckBody, LiftBody
from engine.serve.log.accounting import Call
from engine.serve.log.json_log import places
from engine.serve.service.health import warm
from engine.serve.service.service import Service
from engine.serve.wire.body import Schema, read_body
from engine.serve.wire.failure import Failure, Malformed
from engine.serve.wire.json_answer import entries, off_loop

Answer = dict[str, Any]


class Functions:
    """One per service; coroutines run on the service's loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._batch_gate = asyncio.Semaphore(service.settings.batch_width)

    async def generate(
        self,
        prompt: str | None = None,
        schema: Schema | None = None,
        max_tokens: int | None = 2048,
        temperature: float = 0.3,
        top_p: float = 0.95,
        **options: Any,
    ) -> Answer:
        """The LIFT answer. `options`: the other fields of the HTTP body (`messages`, `seed`, `n`, `regex`, ...)."""
        named = {
            "prompt": prompt,
            "schema": schema,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
        }
        return await self._answer("generate", {**named, **options})

    async def generate_ir(self, request: Mapping[str, Any]) -> Answer:
        """As `generate` with one dict; without a constraint the answer is LIFT's IR."""
        return await self._answer("generate_ir", request, ir=True)

    async def generate_batch(self, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """One answer a request, in order; what is wrong with one stays in its place."""
        if not isinstance(requests, list | tuple):
            return [self._failed(Malformed(f"requests must be a list of objects, got {type(requests).__name__}"))]

        async def one(request: Mapping[str, Any]) -> Answer:
            async with self._batch_gate:
                return await self._answer("generate_batch", request)

        return list(await asyncio.gather(*(one(request) for request in requests)))

    async def stream(self, request: Mapping[str, Any]) -> AsyncIterator[str | Answer]:
        """Pieces of text (sample 0's), then the answer (or the failure) as a dict."""
        try:
            call = Call(route="stream")
            engine_request = await self._request(call, request)
            async for item in self._service.stream(engine_request, call):
                if isinstance(item, Result):
                    yield await self._outcome(item, engine_request.constraint, call)
                elif item.sample == 0:
                    yield item.text
        except Exception as error:  # noqa: BLE001 - see `_failed`
            yield self._failed(error)

    async def check(self, schema: Schema | None = None, conformance: str | None = None, **options: Any) -> Answer:
        """The verdict object, or a failure. `options`: another kind (`regex`, `ebnf`, ...) and its options."""
        given = {"schema": schema, "conformance": conformance, **options}
        try:
            asked = {name: value for name, value in given.items() if value is not None}
            call = Call(route="check")
            constraint = await self._service.for_key(call.key, lambda: read_body(asked, CheckBody).to_constraint())
            return await self._service.check(constraint, call)
        except Exception as error:  # noqa: BLE001 - see `_failed`
            return self._failed(error)

    async def info(self) -> Answer:
        """Model, quantization, device, versions, and the state of the service."""
        try:
            identity = await asyncio.to_thread(self._service.identify)
        except Exception as error:  # noqa: BLE001 - see `_failed`
            return self._failed(error)
        return {"state": self._service.slot.state, "in_flight": len(self._service.in_flight), **identity}

    async def warmup(self) -> Answer:
        """Wait for the load, warm up, say who is ready."""
        try:
            return warm(self._service, await self._service.warmup())
        except Exception as error:  # noqa: BLE001 - see `_failed`
            return self._failed(error)

    async def _answer(self, route: str, body: Mapping[str, Any], *, ir: bool = False) -> Answer:
        try:
            call = Call(route=route)
            request = await self._request(call, body, self._service.ir_schema() if ir else None)
            result = await self._service.generate(request, call)
        except Exception as error:  # noqa: BLE001 - see `_failed`
            return self._failed(error)
        return await self._outcome(result, request.constraint, call)

    async def _request(self, call: Call, body: Mapping[str, Any], default_schema: Schema | None = None) -> Request:
        """Read in a thread: how large it is nobody knows before."""
        return await self._service.for_key(
            call.key, lambda: read_body(body, LiftBody).to_request(default_schema=default_schema)
        )

    async def _outcome(self, result: Result, constraint: Any, call: Call) -> Answer:
        if result.ok:
            beside = self._service.beside(call.key)
            return await off_loop(beside, entries(result), lambda: lift_answer(result, constraint))
        answer = _failure(Failure.from_result(result), result.status)
        answer["request_id"] = result.id
        answer["tokens_used"] = result.usage.completion_tokens
        if result.text:
            answer["raw_output"] = result.text
        return answer

    def _failed(self, error: Exception) -> Answer:
        """The failure as a dict. What is not typed is our fault: logged with its place, told without its text."""
        if isinstance(error, EngineError):
            return _failure(Failure.from_error(error), "error")
        name = type(error).__name__
        self._service.accounting.log.write("crash", error_type=name, at=places(error))
        return _failure(Failure.from_error(EngineFailure(f"{name} while answering")), "error")


def _failure(failure: Failure, status: str) -> Answer:
    detail = {
        "type": failure.type,
        "message": failure.message,
        "param": failure.param,
        "pointer": failure.pointer,
        "status_code": failure.status_code,
    }
    return {
        "status": status,
        "error": " ".join(failure.message.split()),
        "error_detail": {name: value for name, value in detail.items() if value is not None},
        "finish_reason": "error",
    }
