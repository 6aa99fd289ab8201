"""Health without the engine's container: a small app for a CPU function in an image without torch.

Knows how the entries of containers (`heartbeat`) become one report. Does not know where they come from: `read` is
called for every request and must be quick.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from engine.serve.modal.heartbeat import STALE_AFTER_S

SERVING = ("ready", "loading")
"""States of a container that counts as such; one in any other (draining, failed, wedged) serves nobody: `cold`."""


def state_report(entries: Iterable[Any], identity: dict[str, Any]) -> dict[str, Any]:
    """The sum of all containers that have told of themselves lately: ready when one is, else loading when one is.

    What an entry says of its engine is passed on from a ready container; model and GPU are always there, from the
    deployment where no container tells them.
    """
    since = time.time() - STALE_AFTER_S
    alive = [entry for entry in entries if isinstance(entry, dict) and entry.get("at", 0.0) >= since]
    counts = Counter(entry["state"] if entry.get("state") in SERVING else "cold" for entry in alive)
    state = next((state for state in SERVING if counts[state]), "cold")
    told: dict[str, Any] = next((entry for entry in alive if entry.get("state") == "ready"), {})
    facts = {name: value for name, value in told.items() if name not in ("at", "state", "reason", "model", "status")}
    sums = {"containers": dict(counts), "in_flight": sum(int(entry.get("in_flight", 0)) for entry in alive)}
    return {**identity, **facts, "status": "healthy", "state": state, "backend": "maskloop", **sums}


def create_health_app(read: Callable[[], Awaitable[dict[str, Any]]]) -> FastAPI:
    """`GET /`, `/health` and `/health_ir` answer 200 with the report; a broken `read` is told, still as 200.

    The route says that the deployment exists. LIFT's client takes any other code for an engine that is gone.
    """
    app = FastAPI(title="maskloop health", docs_url=None, redoc_url=None, openapi_url=None)

    async def health() -> JSONResponse:
        try:
            return JSONResponse(await read())
        except Exception as error:  # noqa: BLE001 - whatever the platform raises
            report = {"status": "healthy", "state": "unknown", "backend": "maskloop", "reason": type(error).__name__}
            return JSONResponse(report)

    for path in ("/", "/health", "/health_ir"):
        app.add_api_route(path, health, methods=["GET"])
    return app
