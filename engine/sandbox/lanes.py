"""Threads for what must be done in this process, shared fairly between owners. What runs here may be long, but not
unbounded: nobody can stop it once it has begun."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from engine.sandbox.fair import Owner, Shares

T = TypeVar("T")


def give_way(nice: int) -> None:
    """Lower the priority of this thread alone, where the system lets it."""
    with suppress(OSError):
        if nice:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


class _Errand:
    """Work that waits for a thread, and those who wait for the work."""

    used_s = 0.0
    computing = False

    def __init__(self, owners: Sequence[Owner], work: Callable[[], Any]) -> None:
        self.owners = owners
        self.work = work
        self.future: Future[Any] = Future()

    def run(self) -> None:
        future = self.future
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(self.work())
            except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
                future.set_exception(error)
                del self, future  # the error's traceback holds this frame: a circle otherwise, for each refusal


class Lane:
    """At most `threads` for one owner, and one more that only others get; started as they are needed. `nice` is for
    those that compute without the interpreter: one that holds it is waited for by all, and should not be kept."""

    def __init__(self, name: str, threads: int, *, nice: int = 0) -> None:
        self._name, self._each, self._most, self._nice = name, threads, threads + 1, nice
        self._wake = threading.Condition()
        self._waiting: list[_Errand] = []
        self._held: Counter[Owner] = Counter()
        """Threads by owner."""
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._shares = Shares()
        self._closed = False

    def put(self, owners: Sequence[Owner], work: Callable[[], T]) -> Future[T]:
        """Run it when the turn of one of its owners comes, unless the future has been cancelled by then."""
        errand = _Errand(owners, work)
        with self._wake:
            if self._closed:
                errand.future.cancel()
                return errand.future
            self._waiting.append(errand)
            if len(self._waiting) > self._idle and len(self._threads) < self._most:
                name = f"{self._name}-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()
            self._wake.notify()
        return errand.future

    def close(self, *, wait: bool = True) -> None:
        """Cancel what waits; let what runs end, and `wait` for it."""
        with self._wake:
            self._closed = True
            dropped, self._waiting = self._waiting, []
            self._wake.notify_all()
        for errand in dropped:
            errand.future.cancel()
        for thread in self._threads if wait else ():
            thread.join()

    def _run(self) -> None:
        give_way(self._nice)
        while (taken := self._next()) is not None:
            errand, owner = taken
            started = time.thread_time()
            errand.run()
            with self._wake:
                self._shares.charge(owner, time.thread_time() - started)
                self._held -= Counter({owner: 1})
            del taken, errand  # what was made is not this thread's to keep

    def _next(self) -> tuple[_Errand, Owner] | None:
        with self._wake:
            self._idle += 1
            while not self._closed and not (free := self._free()):
                self._wake.wait()
            self._idle -= 1
            if self._closed:
                return None
            self._shares.attend({owner for errand in self._waiting for owner in errand.owners})
            errand = self._shares.chosen(free, 1)[0]
            self._waiting.remove(errand)
            owner = self._shares.payer(errand)
            self._held[owner] += 1
            return errand, owner

    def _free(self) -> list[_Errand]:
        """Those whose owner may have one more thread."""
        return [errand for errand in self._waiting if self._held[self._shares.payer(errand)] < self._each]
