"""`/check` as requests are: a bounded number at once, shared between keys, given up when nobody waits for the answer.

A check holds a thread while it is handed over and while it is told, not while its grammar is compiled.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from engine.errors import EngineFailure, QueueFull
from engine.request import Constraint
from engine.serve.service.async_bridge import SILENT
from engine.serve.service.engine_protocol import ServedEngine, SubmittedCheck

ForKey = Callable[[str, Callable[[], Any]], Awaitable[Any]]


class Checks:
    """One per service, used on its event loop. `running`: how many each key has."""

    def __init__(self, most: int, deadline_s: float, for_key: ForKey) -> None:
        self._most, self._deadline_s, self._for_key = most, deadline_s, for_key
        self.running: Counter[str] = Counter()

    async def run(self, engine: ServedEngine, constraint: Constraint, key: str) -> dict[str, Any]:
        """The verdict object; ConstraintError where the constraint cannot even be read. Being cancelled gives it up."""
        self._refuse_when_full(key)
        self.running[key] += 1
        left = threading.Event()

        def begin() -> SubmittedCheck:
            checking = engine.submit_check(constraint, owner=key)
            if left.is_set():
                checking.grammar.cancel()
            return checking

        try:
            async with asyncio.timeout(self._deadline_s):
                checking = await self._for_key(key, begin)
                compiled = asyncio.wrap_future(checking.grammar)
                try:
                    await asyncio.wait({compiled})
                finally:
                    compiled.cancel()
            report: dict[str, Any] = await self._for_key(key, checking.report)
            return report
        except TimeoutError:
            raise EngineFailure(SILENT) from None
        finally:
            left.set()
            self.running -= Counter({key: 1})

    def _refuse_when_full(self, key: str) -> None:
        """QueueFull where as many run as may, and this key has its share of them."""
        running = sum(self.running.values())
        if running >= self._most and self.running[key] >= max(1, self._most // len(self.running)):
            raise QueueFull(f"{running} checks are running already; try again later", param="queue")
