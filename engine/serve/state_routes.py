"""The routes that tell how the service is: /health, /health_ir, /, /ready, /warmup, /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi import Request as HTTPRequest
from fastapi.responses import JSONResponse, PlainTextResponse

from engine.errors import NotReady
from engine.serve.service.health import health, warm
from engine.serve.service.service import Service
from engine.serve.wire.caller import while_connected
from engine.serve.wire.failure import PROBLEMS, Failure
from engine.serve.wire.json_body import JsonRoute


def state_routes(service: Service) -> APIRouter:
    """GET each of them."""
    router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)

    async def healthy() -> JSONResponse:
        return JSONResponse(health(service))

    async def ready() -> JSONResponse:
        if service.slot.state != "ready":
            return Failure.from_error(NotReady(f"the engine is {service.slot.state}")).response()
        return JSONResponse({"status": "ready", "in_flight": len(service.in_flight)})

    async def warmup(http: HTTPRequest) -> JSONResponse:
        return JSONResponse(warm(service, await while_connected(http, service.warmup())))

    async def metrics() -> Response:
        gauges = service.accounting.metrics
        gauges.in_flight.set(len(service.in_flight))
        gauges.ready.set(service.slot.state == "ready")
        return Response(gauges.text(), media_type="text/plain; version=0.0.4")

    for path in ("/health", "/health_ir", "/"):
        router.add_api_route(path, healthy, methods=["GET"], tags=["state"], name=f"health {path}")
    router.add_api_route("/ready", ready, methods=["GET"], tags=["state"])
    router.add_api_route("/warmup", warmup, methods=["GET"], tags=["state"])
    router.add_api_route("/metrics", metrics, methods=["GET"], tags=["state"], response_class=PlainTextResponse)
    return router
