"""Jobs of strangers in processes that can be stopped: asked for from any thread, shared fairly, ended when unwanted.

One thread holds all processes. A job runs in a child that serves its session (an idle one, or a fresh fork); at most
`places` of a module compute at a time, so that none waits for another, and who does is decided anew every few
milliseconds (`fair`): the others stand still. Limits count CPU time; wall time ends only what does not get on at all,
its turns included, so that whoever waits is told.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

from engine.sandbox.fair import Shares
from engine.sandbox.nursery import Nursery
from engine.sandbox.processes import Child
from engine.sandbox.stopped import Stopped
from engine.sandbox.task import Job, Task

TICK_S = 0.01
PLACES = max(2, min(4, (os.cpu_count() or 2) // 2))  # jobs of one module that compute at once
_LIVE = 4
"""Jobs of one module that hold a process, those that stand still included: each may hold its memory limit."""
_PATIENT = 5.0
"""Wall time in which a job must be done, in its CPU limits, however many it waits for; `task` has the least."""


class Pool:
    """`submit` may be called from any thread. Processes start when the first job needs them."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []
        self._tasks: list[Task] = []
        self._shares = Shares()
        self._looked = 0.0
        self._closed = False
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self.nursery = Nursery(self._selector, self._heard, self._lost)
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._thread.start()

    def submit(self, job: Job, owners: Sequence[Hashable]) -> Task:
        """A future of the answer's first part. EngineError as the job raised it, or Stopped; cancelling it stops it.

        `owners` are those who wait for it, each of whom brings his turn; the caller may change the list at any time.
        """
        task = Task(job, owners, self._woken)
        self._later(lambda: self._tasks.append(task))
        return task

    def prepare(self, module: str, name: str = "", content: bytes | None = None) -> None:
        """Start the module's fork server, if none runs, and make it ready for `name`, before a job asks."""
        self._later(lambda: self.nursery.prepare(module, name, content))

    def close(self) -> None:
        """End all processes; jobs end with Stopped. Idempotent."""
        self._closed = True
        self._woken()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def pids(self) -> list[int]:
        """Numbers of all processes that live, fork servers first."""
        return self.nursery.pids()

    def _later(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls.append(call)
        self._woken()

    def _woken(self) -> None:
        with suppress(BlockingIOError, OSError):
            os.write(self._waker, b".")

    def _run(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - a bug of ours: those who wait are answered, and the pool goes on
                self._end(Stopped("lost", repr(error)))
        self._end(Stopped("closed"))
        self._selector.close()
        os.close(self._wake)
        os.close(self._waker)

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._timeout()):
            if key.fd == self._wake:
                os.read(self._wake, 4096)
            else:
                key.data()
        with self._lock:
            calls, self._calls = self._calls, []
        for call in calls:
            call()
        if time.monotonic() - self._looked >= TICK_S:
            self._look()
        self._schedule()
        self.nursery.flush()

    def _end(self, reason: Stopped) -> None:
        """End every process and every job."""
        tasks, self._tasks = self._tasks, []
        self.nursery.close()
        for task in tasks:
            task.child = None
            task.fail(reason)
            task.finished.set()

    def _timeout(self) -> float | None:
        return TICK_S if self._tasks or self.nursery.starting else None

    def _look(self) -> None:
        """What has been used since the last look, and who is over a limit or gets nowhere."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        for task in list(self._tasks):
            self._charge(task, passed)
            reason = task.overrun(_PATIENT)
            if reason is not None:
                self._stop(task)
                task.fail(Stopped(reason, task.spent))
            elif task.child is not None and not task.child.paused and task.child.stopped():
                self._again(task)
        self.nursery.look()

    def _charge(self, task: Task, passed_s: float) -> None:
        new = task.new
        self._shares.charge(self._shares.payer(task), task.measure(passed_s), new=new)

    def _schedule(self) -> None:
        """Let those compute whose turn it is; the others stand still, or wait for a process."""
        for task in [task for task in self._tasks if task.cancelled()]:
            self._stop(task)
        older = {self._shares.payer(task) for task in self._tasks if not task.new}
        self._shares.attend({owner for task in self._tasks for owner in task.owners}, older)
        contenders: dict[str, list[Task]] = {}
        for task in self._tasks:  # one whose process is still being started holds its place
            contenders.setdefault(task.job.module, []).append(task)
        for module in contenders.values():
            chosen = self._shares.chosen(module, self._places)
            for task in module:
                if task.child is not None:
                    task.child.pause(task not in chosen)
            for task in chosen:
                if task.child is None:
                    self._begin(task, chosen)

    def _begin(self, task: Task, chosen: Sequence[Task]) -> None:
        """An idle process of its session, or (always after a loss) a new one, in place of that of a job that has used
        less and whose turn it is not: there is one, since fewer are chosen than may hold a process."""
        child = None if task.losses else self.nursery.idle(task.job)
        if child is None:
            holders = [other for other in self._tasks if other.child and other.job.module == task.job.module]
            if len(holders) >= _LIVE:
                spare = [other for other in holders if other not in chosen]
                self._put_back(min(spare, key=lambda other: (not other.done(), other.used_s)))
            child = self.nursery.born(task.job)
        task.begin(child)

    def _put_back(self, task: Task) -> None:
        """Its process is needed; it begins again when its turn comes."""
        if task.done():
            self._stop(task)
            return
        if task.child is not None:
            self.nursery.kill(task.child)
        task.put_back()

    def _stop(self, task: Task) -> None:
        self._remove(task)
        if task.child is not None:
            self.nursery.kill(task.child)
            task.child = None

    def _remove(self, task: Task) -> None:
        self._tasks.remove(task)
        task.finished.set()

    def _again(self, task: Task) -> None:
        """Its process was lost, stopped or killed by somebody else: once more, in another one."""
        begun = task.child is not None and task.child.pid is not None
        if task.child is not None:
            self.nursery.kill(task.child)
        task.put_back()
        task.losses += 2 if begun else 1  # a process that never began says less about the job
        if task.losses > 3 or task.done():
            self._remove(task)
            task.fail(Stopped("lost", "its process was ended twice"))

    def _heard(self, child: Child, message: bytes) -> None:
        """A part of an answer."""
        task = next((task for task in self._tasks if task.child is child), None)
        if task is not None:
            self._charge(task, 0.0)
            if task.hear(message):
                self._remove(task)
                task.child = None
                self.nursery.rest(child)

    def _lost(self, child: Child, signal_number: int) -> None:
        """A process has ended by itself, or somebody ended it."""
        task = next((task for task in self._tasks if task.child is child), None)
        if task is None:
            return
        reason = task.death(signal_number)
        if reason is None:
            self._again(task)
            return
        self._remove(task)
        task.child = None
        task.fail(Stopped(reason, f"the process died of signal {signal_number}"))


_LOCK = threading.RLock()  # a holder may be collected anywhere
_SHARED: list[Pool] = []
_HOLDERS: list[int] = [0]


def shared_pool(holder: object) -> tuple[Pool, Callable[[], object]]:
    """The pool of this process, and how `holder` gives it back, as its collection does too; the last one closes it."""
    with _LOCK:
        if not _SHARED:
            _SHARED.append(Pool())
        _HOLDERS[0] += 1
        return _SHARED[0], weakref.finalize(holder, _release)


def _release() -> None:
    with _LOCK:
        _HOLDERS[0] -= 1
        pool = _SHARED.pop() if not _HOLDERS[0] else None
    if pool is not None:
        pool.close()
