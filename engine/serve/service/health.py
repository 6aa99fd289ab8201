"""How the service is, told without asking the engine: nothing here takes a lock, a thread or a GPU.

LIFT's client reads only the status code; people read the rest.
"""

from __future__ import annotations

from typing import Any

import engine
from engine.serve.service.service import Service

COPIED = ("model", "revision", "quantization", "device", "versions", "max_batch", "max_sequence")


def health(service: Service) -> dict[str, Any]:
    """Alive, and in which state: always 200. `status` is `healthy` while there is hope of an answer."""
    slot, identity = service.slot, service.accounting.identity
    state = slot.state
    report = {
        "status": "unhealthy" if state in ("failed", "wedged", "stopped") else "healthy",
        "state": state,
        "engine_version": engine.__version__,
        "backend": "maskloop",
        "in_flight": len(service.in_flight),
        "last_load_s": None if slot.load_s is None else round(slot.load_s, 3),
        "reason": slot.failure,
        "gpu": identity.get("device"),
        **{name: identity.get(name) for name in COPIED},
    }
    return {name: value for name, value in report.items() if value is not None}


def warm(service: Service, identity: dict[str, Any]) -> dict[str, Any]:
    """What `GET /warmup` answers once it is done."""
    named = {name: identity[name] for name in COPIED if identity.get(name) is not None}
    return {
        "status": "warm",
        "model_loaded": True,
        "ready_for_requests": service.slot.state == "ready",
        "gpu": identity.get("device"),
        **named,
    }
