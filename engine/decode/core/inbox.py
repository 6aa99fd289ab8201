"""What callers and the decode thread share: requests that came in, requests in flight, the wish to end.

Every method may be called from any thread and returns at once, `take` excepted. Holds no engine, so that an engine that
nobody closed can be collected while the decode thread sleeps here.
"""

from __future__ import annotations

import threading
from collections import Counter

from engine.decode.requests.job import Job
from engine.errors import NotReady, QueueFull

_PULSE_S = 0.05
"""How long the decode thread sleeps at most while something is in flight that it cannot step: deadlines pass."""
_REST_S = 1.0
"""A pause as long as this is one that lasts: nobody asks one request after another."""


class Inbox:
    """`slots` and `queue` bound what is in flight."""

    def __init__(self, *, slots: int, queue: int) -> None:
        self._lock = (
            threading.RLock()
        )  # `with` it, not the condition, whose exit Ctrl-C can interrupt before it is left
        self._wake = threading.Condition(self._lock)
        self._arrived: list[Job] = []
        self._jobs: set[Job] = set()
        self._slots, self._queue = slots, queue
        self.closing = False

    def __len__(self) -> int:
        return len(self._jobs)

    def refuse_when_full(self, owner: str | None, count: int = 1) -> None:
        """NotReady once closing. QueueFull where `count` more would not all fit, nor into the owner's part."""
        if self.closing:
            raise NotReady("the engine has been closed")
        with self._lock:
            waiting = max(0, len(self._jobs) - self._slots)
            if len(self._jobs) + count > self._slots + self._queue:
                owners = Counter(job.owner for job in self._jobs)
                if owners[owner] + count > max(1, self._queue // max(1, len(owners))):
                    more = "" if count == 1 else f", {count} more do not fit"
                    raise QueueFull(
                        f"{waiting} requests are waiting already (limits.queue){more}; try again later", param="queue"
                    )

    def put(self, job: Job) -> None:
        """Hand a job to the decode thread. Raises as `refuse_when_full`."""
        with self._lock:
            self.refuse_when_full(job.owner)
            self._arrived.append(job)  # first: interrupted in between, it is answered all the same
            self._jobs.add(job)
            self._wake.notify()

    def take(self, *, busy: bool, idle: bool, rested: bool) -> list[Job] | None:
        """What arrived. Waits while there is nothing to do; None when closing and all is done. For the decode thread.

        `busy`: jobs are in flight. `idle`: none of them could be stepped just now. In a pause that lasts it comes back
        once with nothing; then it has `rested`, and waits on.
        """
        timeout = _PULSE_S if busy else None if rested else _REST_S
        with self._lock:
            while not self._arrived and (idle or not busy) and not (self.closing and not self._jobs):
                if not self._wake.wait(timeout) or busy:
                    break
            if self.closing and not self._jobs:
                return None
            arrived, self._arrived = self._arrived, []
            return arrived

    def wake(self) -> None:
        """Something has changed that the decode thread should look at."""
        with self._lock:
            self._wake.notify()

    def forget(self, job: Job) -> None:
        """The job has been answered."""
        with self._lock:
            self._jobs.discard(job)

    def cancel(self, request_id: str, owner: str | None) -> bool:
        """Mark the owner's requests of this id; False when there are none."""
        with self._lock:
            found = [job for job in self._jobs if (job.owner, job.request.id) == (owner, request_id)]
            for job in found:
                job.cancelled = True
            self._wake.notify()
        return bool(found)

    def finish_now(self) -> None:
        """The deadline of everything in flight is now."""
        with self._lock:
            for job in self._jobs:
                job.expire()
            self._wake.notify()

    def ids(self) -> list[str]:
        """Of everything in flight."""
        with self._lock:
            return [job.request.id for job in self._jobs]

    def close(self, *, drain: bool) -> None:
        """Take nothing more. Without `drain` what is in flight is cancelled."""
        with self._lock:
            self.closing = True
            for job in () if drain else self._jobs:
                job.cancelled = True
            self._wake.notify()
