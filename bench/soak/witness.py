"""Somebody who behaves while others try to stop a server: what they notice of it.

Under a key of their own they decode free text, ask for a document of a new small schema every half second, and for the
health every 50 ms.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.harness.statistics import quantile

HEADERS = {"authorization": "Bearer witness"}
ASK_S, PROBE_S = 0.5, 0.05
"""Often enough to meet every stall; together a few per cent of a core."""


@dataclass
class Witness:
    """Seconds of what it asked the server at `url`, one list a question, until `stop` is set."""

    url: str
    stop: threading.Event = field(default_factory=threading.Event)
    steps: list[float] = field(default_factory=list)
    schemas: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    """Of the document that took longest: how many came before, its milliseconds, and what the server says of them."""

    def start(self) -> list[threading.Thread]:
        """A thread a question."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._decode, self._ask_on, self._probe)]
        for thread in threads:
            thread.start()
        return threads

    def figures(self) -> dict[str, Any]:
        """Milliseconds."""
        return {
            "steps": len(self.steps), "step_p50_ms": _ms(self.steps, 0.5), "step_p99_ms": _ms(self.steps, 0.99),
            "step_max_ms": _ms(self.steps, 1.0), "health_max_ms": _ms(self.health, 1.0), "slowest": self.slowest,
            "schemas": len(self.schemas), "schema_p50_ms": _ms(self.schemas, 0.5),
            "schema_max_ms": _ms(self.schemas, 1.0), "health_p95_ms": _ms(self.health, 0.95), "wrong": self.wrong[:20],
        }  # fmt: skip

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=HEADERS, timeout=180)

    def ask(self, client: httpx.Client) -> None:
        """One document of a schema that nobody has asked for."""
        names = [f"{name}_{random.randrange(10**6)}" for name in ("ready", "kind", "left")]  # unlike those before
        members = dict(zip(names, ({"type": "boolean"}, {"enum": ["a", "b", "c"]}, {"type": "null"}), strict=True))
        asked = {"type": "object", "properties": members, "required": names, "additionalProperties": False}
        body = {"prompt": "x", "schema": asked, "max_tokens": 60}
        answer = self._timed(self.schemas, "witness", lambda: client.post("/generate", json=body))
        if answer is None:
            return
        if answer.status_code != 200 or set(answer.json()["ir_json"]) != set(names):
            self.wrong.append(f"witness: {answer.status_code} {answer.text[:200]}")
        elif self.schemas[-1] == max(self.schemas):
            self.slowest = {"before": len(self.schemas) - 1, "seen": round(self.schemas[-1] * 1e3, 1)}
            self.slowest |= answer.json()["timings_ms"]

    def _timed(self, seconds: list[float], name: str, ask: Any) -> httpx.Response | None:
        """The answer; None where the connection broke, which is wrong."""
        began = time.perf_counter()
        try:
            answer: httpx.Response = ask()
        except httpx.TransportError as error:
            self.wrong.append(f"{name}: {type(error).__name__}")
            return None
        seconds.append(time.perf_counter() - began)
        return answer

    def _ask_on(self) -> None:
        with self.client() as client:
            while not self.stop.is_set():
                self.ask(client)
                self.stop.wait(ASK_S)

    def _probe(self) -> None:
        with self.client() as client:
            while not self.stop.is_set():
                answer = self._timed(self.health, "health", lambda: client.get("/health"))
                if answer is not None and answer.status_code != 200:
                    self.wrong.append(f"health: {answer.status_code}")
                self.stop.wait(PROBE_S)

    def _decode(self) -> None:
        """One row of free text after another; the time between two pieces is a step."""
        with self.client() as client:
            model = client.get("/v1/models").json()["data"][0]["id"]
            body = {"model": model, "prompt": "x", "max_tokens": 500, "stream": True}
            while not self.stop.is_set():
                with client.stream("POST", "/v1/completions", json=body) as answer:
                    if answer.status_code != 200:
                        self.wrong.append(f"witness stream: {answer.status_code}")
                        time.sleep(0.2)
                        continue
                    last = None
                    for line in answer.iter_lines():
                        now = time.perf_counter()
                        if self.stop.is_set():
                            break
                        if line.startswith("data: {") and '"text":""' not in line:
                            self.steps += [] if last is None else [now - last]
                            last = now


def _ms(seconds: Sequence[float], share: float) -> float | None:
    found = quantile(sorted(seconds), share)
    return None if found is None else round(found * 1e3, 1)
