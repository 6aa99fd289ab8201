"""The routes LIFT calls, and `/check`."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi import Request as HTTPRequest

from engine.serve.lift.answer import lift_answer
from engine.serve.lift.body import CheckBody, LiftBody
from engine.serve.log.accounting import Call
from engine.serve.service.service import Service
from engine.serve.wire.body import Schema
from engine.serve.wire.caller import caller, while_connected
from engine.serve.wire.failure import PROBLEMS, Failure
from engine.serve.wire.json_answer import answered, entries
from engine.serve.wire.json_body import JsonRoute


def lift_routes(service: Service) -> APIRouter:
    """POST /generate, /generate_ir and /, POST /check."""
    router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)

    async def generate(http: HTTPRequest, body: LiftBody) -> Response:
        return await _answer(service, http, body)

    async def generate_ir(http: HTTPRequest, body: LiftBody) -> Response:
        return await _answer(service, http, body, service.ir_schema())

    async def check(http: HTTPRequest, body: CheckBody) -> Response:
        constraint = await service.for_key(caller(http), body.to_constraint)
        call = Call(route=http.url.path, key=caller(http))
        report = await while_connected(http, service.check(constraint, call))
        return await answered(service.beside(call.key), len(report["verdicts"]), lambda: report)

    for path in ("/generate", "/"):
        router.add_api_route(path, generate, methods=["POST"], tags=["lift"], name=f"generate {path}")
    router.add_api_route("/generate_ir", generate_ir, methods=["POST"], tags=["lift"])
    router.add_api_route("/check", check, methods=["POST"], tags=["schemas"])
    return router


async def _answer(service: Service, http: HTTPRequest, body: LiftBody, default: Schema | None = None) -> Response:
    request = await service.for_key(caller(http), body.to_request, default_schema=default)
    call = Call(route=http.url.path, key=caller(http))
    result = await while_connected(http, service.generate(request, call))
    if not result.ok:
        return Failure.from_result(result).response()
    return await answered(service.beside(call.key), entries(result), lambda: lift_answer(result, request.constraint))
