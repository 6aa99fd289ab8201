"""Health without the engine's container: a small app for a CPU function in an image without torch.

Knows how to tell a state. Does not know where it comes from: `read` is called for every request and must be quick.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

STATES = ("cold", "loading", "ready")


def state_report(containers: int, told: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
    """What to answer: without a container the state is cold, whatever an old container last said of itself."""
    state = "cold" if containers == 0 else told.get("state", "loading")
    known = {"status": "healthy", "state": state, "containers": containers, "backend": "maskloop"}
    return {**identity, **{name: value for name, value in told.items() if name != "state"}, **known}


def create_health_app(read: Callable[[], Awaitable[dict[str, Any]]]) -> FastAPI:
    """`GET /`, `/health` and `/health_ir` answer 200 with the report; a broken `read` is told, still as 200.

    The route says that the deployment exists. LIFT's client takes any other code for an engine that is gone.
    """
    app = FastAPI(title="maskloop health", docs_url=None, redoc_url=None, openapi_url=None)

    async def health() -> JSONResponse:
        try:
            return JSONResponse(await read())
        except Exception as error:  # noqa: BLE001 - whatever the platform raises
            return JSONResponse({"status": "healthy", "state": "unknown", "reason": type(error).__name__})

    for path in ("/", "/health", "/health_ir"):
        app.add_api_route(path, health, methods=["GET"])
    return app
