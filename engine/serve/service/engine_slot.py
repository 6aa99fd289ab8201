"""Where the engine is in its life: cold, loading, ready, failed, wedged, draining or stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from engine.errors import EngineError, NotReady
from engine.serve.service.engine_protocol import ServedEngine

State = Literal["cold", "loading", "ready", "failed", "wedged", "draining", "stopped"]


class EngineSlot:
    """Holds one engine, loaded by `factory` at most once. Thread-safe; `state` and `get` never block."""

    def __init__(self, factory: Callable[[], ServedEngine]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._engine: ServedEngine | None = None
        self._state: State = "cold"
        self.failure: str | None = None
        self.load_s: float | None = None

    @classmethod
    def holding(cls, engine: ServedEngine) -> EngineSlot:
        """A slot around an engine that is loaded already."""
        slot = cls(lambda: engine)
        slot._engine, slot._state = engine, "ready"
        return slot

    @property
    def state(self) -> State:
        """`ready` turns into `failed` by itself when the engine says that it no longer answers."""
        if self._state == "ready" and self._engine is not None and not self._engine.ready:
            return "failed"
        return self._state

    def load(self) -> bool:
        """Make the engine; blocks for as long as the weights take. A failure is kept and told by `get`.

        False where it had been made, or tried, before.
        """
        with self._lock:
            if self._state != "cold":
                return False
            self._state = "loading"
            started = time.perf_counter()
            try:
                self._engine = self._factory()
            except EngineError as error:
                self._fail(error.message)
                raise
            except Exception as error:
                self._fail(f"{type(error).__name__} while loading")
                raise
            self.load_s = time.perf_counter() - started
            if self._state == "loading":
                self._state = "ready"
            return True

    def get(self) -> ServedEngine:
        """The engine, or NotReady with the reason."""
        engine, state = self._engine, self.state
        if engine is None or state != "ready":
            reason = f" ({self.failure})" if self.failure else ""
            raise NotReady(f"the engine is {state}{reason}; try again later")
        return engine

    def peek(self) -> ServedEngine | None:
        """The engine in whatever state, for cancelling and reporting."""
        return self._engine

    def mark(self, state: State) -> None:
        """Leave `ready` on purpose: draining, wedged."""
        if self._state != "stopped":
            self._state = state

    def close(self) -> None:
        """Close the engine once; later calls do nothing."""
        engine, stopped = self._engine, self._state == "stopped"
        self._state = "stopped"
        if engine is not None and not stopped:
            engine.close()

    def _fail(self, reason: str) -> None:
        self._state, self.failure = "failed", reason
