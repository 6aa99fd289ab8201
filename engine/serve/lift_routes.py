"""The routes LIFT calls, `/check`, and those that tell how the service is.

Knows paths and methods. Bodies are in `lift_body`, answers in `lift_answer`, the work in `service`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Response
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, PlainTextResponse

from engine.errors import NotReady
from engine.serve.failure import Failure
from engine.serve.health import health, warm
from engine.serve.json_answer import answered, entries
from engine.serve.json_body import JsonRoute
from engine.serve.lift_answer import lift_answer
from engine.serve.lift_body import CheckBody, LiftBody, Schema
from engine.serve.middleware import ClientGone
from engine.serve.service import Call, Service

T = TypeVar("T")
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text}
    for code, text in {
        400: "malformed, unknown or contradicting field",
        401: "no valid key",
        408: "the body did not arrive in time",
        413: "the body is too large",
        422: "the schema is refused, the budget is too small, or no valid document came out",
        429: "the queue is full, or this key has too many requests running",
        500: "our fault",
        503: "not ready",
        504: "the deadline passed",
    }.items()
}


def lift_routes(service: Service) -> APIRouter:
    """POST /generate, /generate_ir and /, POST /check, GET /health, /health_ir, /, /ready, /warmup, /metrics."""
    router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)

    async def generate(http: HTTPRequest, body: LiftBody) -> Response:
        return await _answer(service, http, body)

    async def generate_ir(http: HTTPRequest, body: LiftBody) -> Response:
        return await _answer(service, http, body, service.ir_schema())

    async def check(http: HTTPRequest, body: CheckBody) -> Response:
        constraint = await service.in_thread(body.to_constraint)
        call = Call(route=http.url.path, key=caller(http))
        report = await while_connected(http, service.check(constraint, call))
        return await answered(len(report["verdicts"]), lambda: report)

    for path in ("/generate", "/"):
        router.add_api_route(path, generate, methods=["POST"], tags=["lift"], name=f"generate {path}")
    router.add_api_route("/generate_ir", generate_ir, methods=["POST"], tags=["lift"])
    router.add_api_route("/check", check, methods=["POST"], tags=["schemas"])
    _state_routes(router, service)
    return router


def _state_routes(router: APIRouter, service: Service) -> None:
    async def healthy() -> JSONResponse:
        return JSONResponse(health(service))

    async def ready() -> JSONResponse:
        if service.slot.state != "ready":
            return Failure.from_error(NotReady(f"the engine is {service.slot.state}")).response()
        return JSONResponse({"status": "ready", "in_flight": len(service.in_flight)})

    async def warmup(http: HTTPRequest) -> JSONResponse:
        return JSONResponse(warm(service, await while_connected(http, service.warmup())))

    async def metrics() -> Response:
        gauges = service.ledger.metrics
        gauges.in_flight.set(len(service.in_flight))
        gauges.ready.set(service.slot.state == "ready")
        return Response(gauges.text(), media_type="text/plain; version=0.0.4")

    for path in ("/health", "/health_ir", "/"):
        router.add_api_route(path, healthy, methods=["GET"], tags=["state"], name=f"health {path}")
    router.add_api_route("/ready", ready, methods=["GET"], tags=["state"])
    router.add_api_route("/warmup", warmup, methods=["GET"], tags=["state"])
    router.add_api_route("/metrics", metrics, methods=["GET"], tags=["state"], response_class=PlainTextResponse)


async def _answer(service: Service, http: HTTPRequest, body: LiftBody, default: Schema | None = None) -> Response:
    request = await service.in_thread(body.to_request, default_schema=default)
    call = Call(route=http.url.path, key=caller(http))
    result = await while_connected(http, service.generate(request, call))
    if not result.ok:
        return Failure.from_result(result).response()
    return await answered(entries(result), lambda: lift_answer(result, request.constraint))


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
