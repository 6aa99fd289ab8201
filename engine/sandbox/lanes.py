"""Threads that load grammars, shared fairly between owners. What runs here has been timed in a process that could be
stopped; it may be long, but not unbounded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

from engine.sandbox.fair import Shares

_NICE = 5


class _Errand:
    """Work that waits for a thread, and those who wait for the work."""

    used_s = 0.0
    computing = False

    def __init__(self, owners: Sequence[Hashable], work: Callable[[], object]) -> None:
        self.owners = owners
        self.work = work


class Lane:
    """At most `threads`, started as they are needed. What the work raises is its own affair."""

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._most = name, threads
        self._wake = threading.Condition()
        self._waiting: list[_Errand] = []
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._shares = Shares()
        self._closed = False

    def put(self, owners: Sequence[Hashable], work: Callable[[], object]) -> None:
        """Run it when the turn of one of its owners comes. After `close` nothing runs any more."""
        with self._wake:
            self._waiting.append(_Errand(owners, work))
            if len(self._waiting) > self._idle and len(self._threads) < self._most and not self._closed:
                name = f"{self._name}-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()
            self._wake.notify()

    def close(self) -> None:
        """Let what runs end, and drop what waits."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with suppress(OSError):  # decoding goes first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while (errand := self._next()) is not None:
            started = time.thread_time()
            with suppress(Exception):
                errand.work()
            with self._wake:
                self._shares.charge(self._shares.payer(errand), time.thread_time() - started)

    def _next(self) -> _Errand | None:
        with self._wake:
            self._idle += 1
            while not self._waiting and not self._closed:
                self._wake.wait()
            self._idle -= 1
            if self._closed:
                return None
            self._shares.attend({owner for errand in self._waiting for owner in errand.owners})
            errand = self._shares.chosen(self._waiting, 1)[0]
            self._waiting.remove(errand)
            return errand
