"""What happened to every request: metrics for a scraper and one log line for the bill. Never text of a caller."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from engine.errors import EngineError
from engine.request import Request, Result
from engine.serve.log.json_log import JsonLog
from engine.serve.log.metrics import Metrics
from engine.serve.prices import Prices
from engine.serve.settings import ServeSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """Who asked and how. `key` is a label, never the key; ids, slots and compile time are shared out by it."""

    route: str
    key: str = "anonymous"


class Accounting:
    """One per service. `identity` is the engine's `info()`, filled in once it is loaded."""

    def __init__(self, settings: ServeSettings) -> None:
        self.metrics = Metrics()
        self.log = JsonLog()
        self.prices = Prices.load(settings.prices)
        self.identity: dict[str, Any] = {}
        self.interrupted = False
        """Whether this container is being taken away: what it does not finish is finished, and billed, by another."""

    def finished(self, call: Call, request: Request, result: Result) -> None:
        """A request that was admitted and has its Result, whatever the status."""
        if self.interrupted and not result.ok:
            self.preempted(call, request)
            return
        cost = self.prices.cost_usd(result.gpu_seconds, result.device)
        self.metrics.finished(call.route, result, request.constraint is not None, cost)
        self.log.write(
            "request",
            request_id=request.id,
            route=call.route,
            key=call.key,
            status=result.status,
            valid=result.valid if request.constraint is not None else None,
            constraint=request.constraint.kind if request.constraint else None,
            schema_hash=result.schema_hash,
            grammar_source=result.grammar_source,
            **asdict(result.usage),
            timings_ms={name: round(ms, 3) for name, ms in asdict(result.timings_ms).items()},
            gpu_seconds=result.gpu_seconds,
            device=result.device,
            cost_usd=cost,
            model=result.model,
            quantization=result.quantization,
            error_type=(result.error or {}).get("type"),
        )

    def refused(self, call: Call, request: Request | None, error: EngineError) -> None:
        """A request the engine would not admit, or never answered; None where it had not become one."""
        self.metrics.refused(call.route, error.type)
        self.log.write(
            "refused",
            request_id=None if request is None else request.id,
            route=call.route,
            key=call.key,
            error_type=error.type,
            param=error.param,
        )

    def preempted(self, call: Call, request: Request) -> None:
        """A request that an interrupted container leaves to another one."""
        self.metrics.refused(call.route, "preempted")
        self.log.write("preempted", request_id=request.id, route=call.route, key=call.key)

    def vanished(self, call: Call, request: Request) -> None:
        """A caller that left before its answer."""
        self.metrics.refused(call.route, "vanished")
        self.log.write("vanished", request_id=request.id, route=call.route, key=call.key)


def key_label(key: str) -> str:
    """A short name for a bearer key that tells keys apart and gives none away."""
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:8]
