"""The one ASGI app: LIFT's contract, OpenAI's contract and the state routes over one service.

FastAPI carries it: it turns the body classes into the OpenAPI document.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from fastapi import FastAPI
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

import engine
from engine.errors import EngineError, EngineFailure
from engine.serve.docs_page import docs_page
from engine.serve.lift.routes import lift_routes
from engine.serve.openai.routes import openai_routes
from engine.serve.service.engine_protocol import ServedEngine
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.service.service import Service
from engine.serve.settings import ServeSettings
from engine.serve.state_routes import state_routes
from engine.serve.wire.body import first_problem
from engine.serve.wire.failure import Failure, Malformed, MethodNotAllowed, NotFound
from engine.serve.wire.gate import Gate


def create_app(source: ServedEngine | EngineSlot | Service, settings: ServeSettings | None = None) -> FastAPI:
    """The app around an engine (loaded, or a slot that loads it at start-up) or around a service that others share."""
    service = source
    if not isinstance(service, Service):
        service = Service(service, settings)
    app = FastAPI(
        title="maskloop",
        version=engine.__version__,
        summary="Language-model output that is guaranteed to satisfy a schema.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(lift_routes(service))
    app.include_router(state_routes(service))
    app.include_router(openai_routes(service))
    app.add_api_route("/docs", lambda: HTMLResponse(docs_page(app.openapi())), include_in_schema=False)
    app.add_middleware(Gate, settings=service.settings, log=service.accounting.log)
    app.add_exception_handler(EngineError, _typed)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(Exception, _crash)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load beside serving: `/health` says `loading` meanwhile. At the end, stop the engine."""
    service: Service = app.state.service
    await _prepare(app)
    loading = asyncio.ensure_future(_load(service))
    yield
    loading.cancel()
    await asyncio.to_thread(service.close)


async def _prepare(app: FastAPI) -> None:
    """What the first requests would do in one turn of the event loop, 60 ms together: anyio imports its backend for the
    first stream, FastAPI puts a router together for its first request."""
    async with anyio.create_task_group():
        pass
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "root_path": ""})


async def _load(service: Service) -> None:
    try:
        await service.load()
    except Exception as error:  # noqa: BLE001 - the server stays up to tell why it is not ready
        reason = error.message if isinstance(error, EngineError) else type(error).__name__
        service.accounting.log.write("load_failed", error_type=type(error).__name__, reason=reason)


async def _typed(_: HTTPRequest, error: Any) -> JSONResponse:
    return Failure.from_error(error).response()


async def _unreadable(_: HTTPRequest, error: Any) -> JSONResponse:
    return Failure.from_error(first_problem(error.errors())).response()


async def _routing(http: HTTPRequest, error: Any) -> JSONResponse:
    cause = error.__cause__  # what `read_json` raised, where FastAPI calls it
    made: EngineError = cause if isinstance(cause, EngineError) else Malformed("the body cannot be read as JSON")
    if error.status_code == 404:
        made = NotFound(f"no route {http.url.path[:200]!r}; GET /docs lists them")
    if error.status_code == 405:
        made = MethodNotAllowed(f"{http.method} is not a method of {http.url.path[:200]!r}")
    response = Failure.from_error(made).response()
    response.headers.update({name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"})
    return response


async def _crash(_: HTTPRequest, error: Exception) -> JSONResponse:
    return Failure.from_error(EngineFailure(f"{type(error).__name__} while answering")).response()
