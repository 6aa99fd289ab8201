"""Notices an engine that has stopped moving, and asks for a new process; while nobody is served, gives memory back.

Where a thread holds the interpreter's lock for so long that nothing here runs, a timer ends the process (exit code 1).
`on_wedged` replaces the process (here: exit with 70, so that a supervisor restarts; on Modal: stop fetching inputs
first).
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from engine.serve.allocator import give_back
from engine.serve.service.service import Service

EXIT_WEDGED = 70
"""EX_SOFTWARE of sysexits.h."""


class Watchdog:
    """Polls in a daemon thread: `ready` tells a dead decode thread, `stalled_s()` one that is stuck in a step."""

    def __init__(
        self,
        service: Service,
        on_wedged: Callable[[], None] | None = None,
        *,
        every_s: float = 5.0,
    ) -> None:
        self._service, self._every_s = service, every_s
        self._on_wedged = on_wedged or leave
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin watching; the thread ends with the process, or when the service has stopped."""
        self._thread.start()

    def is_wedged(self) -> bool:
        """Whether one step has taken longer than `wedged_after_s`."""
        engine = self._service.slot.peek()
        return engine is not None and engine.stalled_s() > self._service.settings.wedged_after_s

    def look(self) -> bool:
        """One look; True when the engine was found dead or wedged and `on_wedged` was called."""
        slot = self._service.slot
        dead = slot.state == "failed" and slot.peek() is not None
        if not dead and not self.is_wedged():
            return False
        reason = "the engine has stopped" if dead else "no step for too long"
        slot.mark("wedged")
        self._service.accounting.log.write("wedged", reason=reason, in_flight=len(self._service.in_flight))
        self._service.fail_all(f"{reason}; the process is being replaced")
        self._on_wedged()
        return True

    def tidy(self) -> bool:
        """Give back memory when nobody waits for an answer; whether it was tried."""
        return self._service.slot.state == "ready" and not self._service.in_flight and give_back()

    def _watch(self) -> None:
        try:
            while self._service.slot.state != "stopped":
                if self.look():
                    return
                self._arm()
                self.tidy()
                time.sleep(self._every_s)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        """This thread cannot look while another holds the interpreter's lock. A timer that needs no lock ends the
        process then, with all tracebacks on stderr, unless it is set again before."""
        if self._service.slot.state == "ready":
            faulthandler.dump_traceback_later(
                self._service.settings.wedged_after_s + self._every_s, exit=True, file=sys.__stderr__ or sys.stderr
            )
        else:  # loading may hold the lock for long
            faulthandler.cancel_dump_traceback_later()


def leave() -> None:
    """End the process once the failures are on the wire; a thread stuck in a kernel cannot be joined."""
    time.sleep(1.0)
    os._exit(EXIT_WEDGED)
