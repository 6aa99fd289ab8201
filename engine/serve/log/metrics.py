"""Prometheus metrics of one service, in a registry of its own.

`prometheus_client` is used because its text format and histograms are what every scraper expects.
"""

from __future__ import annotations

from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from engine.request import Result

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
MICRO = (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0)
PHASES = {"queue": SECONDS, "compile": SECONDS, "prefill": SECONDS, "decode": SECONDS, "mask_exposed": MICRO}


class Metrics:
    """Counters and histograms; every method is cheap and thread-safe."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "maskloop_requests", "Requests by route and outcome", ["route", "status"], registry=registry
        )
        self.tokens = Counter("maskloop_tokens", "Tokens by kind", ["kind"], registry=registry)
        self.documents = Counter(
            "maskloop_constrained_documents", "Constrained documents by validity", ["valid"], registry=registry
        )
        self.grammars = Counter("maskloop_grammars", "Where a grammar came from", ["source"], registry=registry)
        self.gpu_seconds = Counter("maskloop_gpu_seconds", "Device seconds spent on requests", registry=registry)
        self.cost = Counter("maskloop_cost_usd", "Device cost of requests at list price", registry=registry)
        self.in_flight = Gauge("maskloop_in_flight", "Requests admitted and not yet answered", registry=registry)
        self.ready = Gauge("maskloop_ready", "1 when requests are answered", registry=registry)
        self.phases = {
            phase: Histogram(f"maskloop_{phase}_seconds", f"Time in {phase}", buckets=buckets, registry=registry)
            for phase, buckets in PHASES.items()
        }
        self.total = Histogram("maskloop_total_seconds", "Whole request", buckets=SECONDS, registry=registry)

    def finished(self, route: str, result: Result, constrained: bool, cost_usd: float | None) -> None:
        """Count one Result."""
        self.requests.labels(route, result.status).inc()
        self.tokens.labels("prompt").inc(result.usage.prompt_tokens)
        self.tokens.labels("completion").inc(result.usage.completion_tokens)
        self.tokens.labels("forced").inc(result.usage.forced_tokens)
        if constrained:
            self.documents.labels(str(result.valid).lower()).inc()
        if result.grammar_source:
            self.grammars.labels(result.grammar_source).inc()
        self.gpu_seconds.inc(max(0.0, result.gpu_seconds))
        self.cost.inc(cost_usd or 0.0)
        milliseconds = asdict(result.timings_ms)
        for phase, histogram in self.phases.items():
            histogram.observe(milliseconds[phase] / 1000)
        self.total.observe(result.timings_ms.total / 1000)

    def refused(self, route: str, error_type: str) -> None:
        """Count one request that never became a Result."""
        self.requests.labels(route, error_type).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
