"""What one container tells the health function: an entry of its own in a shared mapping, written every ten seconds.

Knows when something is written and that writing may fail: nothing waits for it but `stop`, and that not for long. The
reader (`remote_state`) drops an entry that has not been renewed for three periods, so a container that was killed is
forgotten without anybody's help.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from engine.serve.log.json_log import JsonLog, instance

EVERY_S = 10.0
STALE_AFTER_S = 3 * EVERY_S
FORGOTTEN_AFTER_S = 3600.0
"""Entries of containers that died are removed by one that starts later; until then the reader passes over them."""
STOP_WITHIN_S = 2.0


class Heartbeat:
    """One daemon thread that writes `report()` under this container's name: now, every `EVERY_S`, and when told to."""

    def __init__(self, entries: MutableMapping[str, Any], report: Callable[[], dict[str, Any]], log: JsonLog) -> None:
        self._entries, self._report, self._log = entries, report, log
        self._name = instance()
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def now(self) -> None:
        """Something has changed: write without waiting for the next period."""
        self._wake.set()

    def stop(self) -> None:
        """Remove the entry. Waits two seconds at most: a mapping that does not answer forgets it by itself."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        self._attempt(self._sweep)
        while not self._stopped:
            self._wake.clear()
            self._attempt(self._beat)
            self._wake.wait(EVERY_S)
        self._attempt(lambda: self._entries.pop(self._name, None))

    def _beat(self) -> None:
        self._entries[self._name] = {**self._report(), "at": time.time()}

    def _sweep(self) -> None:
        before = time.time() - FORGOTTEN_AFTER_S
        for name, entry in list(self._entries.items()):
            if not isinstance(entry, dict) or entry.get("at", 0.0) < before:
                self._entries.pop(name, None)

    def _attempt(self, step: Callable[[], Any]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever the platform raises; serving does not depend on it
            self._log.write("heartbeat_failed", error_type=type(error).__name__)
