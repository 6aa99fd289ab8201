"""The decode thread: take what came in, step, sleep when there is nothing to do; at the end close what it used.

Holds no engine, and no exception ends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from engine.decode.core.engine_core import EngineCore
from engine.decode.core.inbox import Inbox
from engine.decode.core.process import tidy


class DecodeThread(threading.Thread):
    """Started by its maker; ends when the inbox closes and all is answered. `at_end` are called in order."""

    def __init__(self, core: EngineCore, inbox: Inbox, *at_end: Callable[[], None]) -> None:
        super().__init__(name="decode", daemon=True)
        self._core, self._inbox, self._at_end = core, inbox, at_end
        self._turn_since: float | None = None

    def stalled_s(self) -> float:
        """Seconds the turn that is running now has taken; 0 between turns. For a watchdog: takes no lock."""
        since = self._turn_since
        return 0.0 if since is None else time.monotonic() - since

    def run(self) -> None:
        core, idle, rested = self._core, False, False
        while (arrived := self._inbox.take(busy=core.busy, idle=idle, rested=rested)) is not None:
            rested = not arrived and not core.busy
            while arrived:
                core.enter(arrived.pop(0))
            self._turn_since = time.monotonic()
            idle = not core.tick()
            self._turn_since = None
            tidy(busy=core.busy, rested=rested)
        for close in self._at_end:
            with suppress(Exception):  # the next one is closed all the same
                close()
