"""A job on its way: what it has used, who waits for it, and what its process has answered."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from engine import errors
from engine.sandbox.fair import QUANTUM_S
from engine.sandbox.fork_server import DONE, OK
from engine.sandbox.mapped import Outcome
from engine.sandbox.processes import Child
from engine.sandbox.stopped import Reason, Stopped

_LEAST_PATIENCE_S = 45.0
"""However small the limit of CPU time; clients often wait for a minute."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The first part of an answer, and the CPU seconds it took."""

    content: bytes
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """`module` and `name` say what has been prepared (`fork_server`); jobs of one `session` may share a process.

    `setup` opens the session. `on_more` gets the further parts of the answer, in the pool's thread.
    """

    module: str
    name: str
    payload: bytes
    session: Hashable = None
    setup: bytes = b""
    cpu_s: float = 10.0
    wall_s: float | None = None
    """What it may last while it is let compute, for jobs that may sleep."""
    memory_bytes: int = 2 << 30
    on_more: Callable[[bytes], None] | None = field(default=None, compare=False)


class Task(Outcome[Answer]):
    """A future, cancelled by whoever waits. All else belongs to the pool's thread."""

    def __init__(self, job: Job, owners: Sequence[Hashable], woken: Callable[[], None]) -> None:
        super().__init__()
        self.job = job
        self.owners = owners
        self.child: Child | None = None
        self.losses = 0
        self.finished = threading.Event()
        """Set when its last part has come, or none will."""
        self._woken = woken
        self._start_s = 0.0
        self._used_s = 0.0
        self._lost_s = 0.0
        self._wall_s = 0.0
        self._asked_at = time.monotonic()

    def cancel(self) -> bool:
        """Nobody waits any more: its process is stopped."""
        cancelled = super().cancel()
        self._woken()
        return cancelled

    @property
    def used_s(self) -> float:
        """CPU seconds, those of a process that was taken away included; a job that has answered is no longer small."""
        return self._charged_s + self._lost_s + (QUANTUM_S if self.done() else 0.0)

    @property
    def _charged_s(self) -> float:
        """One that may sleep pays for holding its place."""
        return self._used_s if self.job.wall_s is None else max(self._used_s, self._wall_s)

    @property
    def spent(self) -> str:
        """For whoever reads why it was stopped."""
        return f"{self._used_s + self._lost_s:.1f} s of CPU time in {time.monotonic() - self._asked_at:.0f} s"

    @property
    def new(self) -> bool:
        """Whether it has hardly run."""
        return self.used_s < QUANTUM_S

    @property
    def computing(self) -> bool:
        return self.child is not None and not self.child.paused

    def begin(self, child: Child) -> None:
        self.child = child
        self._start_s = child.cpu_s
        child.ask(self.job.cpu_s, self.job.memory_bytes, self.job.payload)

    def put_back(self) -> None:
        """Its process is gone."""
        self.child = None
        self._lost_s += self._charged_s
        self._used_s = self._wall_s = 0.0

    def measure(self, passed_s: float) -> float:
        """Seconds to be paid for since the last time: of CPU, and for jobs that may sleep of time."""
        if self.child is None or not self.child.pid:
            return 0.0
        before = self._charged_s
        self._used_s = max(0.0, self.child.cpu_s - self._start_s, self._used_s)
        self._wall_s += 0.0 if self.child.paused else passed_s
        return self._charged_s - before

    def overrun(self, patient: float) -> Reason | None:
        """The limit it is over."""
        if self._used_s > self.job.cpu_s:
            return "cpu"
        if self.job.wall_s is not None and self._wall_s > self.job.wall_s:
            return "wall"
        waited = time.monotonic() - self._asked_at
        return "busy" if waited > max(_LEAST_PATIENCE_S, patient * self.job.cpu_s) else None

    def hear(self, message: bytes) -> bool:
        """Take a part of the answer; True when it was the end of it."""
        kind, content = message[:1], message[1:]
        if kind == DONE:
            self.fail(Stopped("crashed", "it answered nothing"))
            return True
        if kind != OK:
            self.fail(_read(json.loads(content)))
        elif not self.done():
            if self.set_running_or_notify_cancel():
                self.set_result(Answer(content, self._used_s))
        elif self.job.on_more is not None:
            self.job.on_more(content)
        return False

    def fail(self, error: Exception) -> None:
        """Unless it has answered before."""
        if not self.done() and self.set_running_or_notify_cancel():
            self.set_exception(error)

    def death(self, signal_number: int) -> Reason | None:
        """What a signal says of the job; None for those that only somebody else sends."""
        if signal_number == signal.SIGXCPU:
            return "cpu"
        if signal_number == signal.SIGABRT:  # C++ aborts where an allocation fails deep inside
            return "memory"
        return None if signal_number in (0, signal.SIGKILL, signal.SIGTERM) else "crashed"


def _read(found: dict[str, str]) -> Exception:
    if "stopped" in found:
        return Stopped(found["stopped"], found["detail"])  # type: ignore[arg-type]  # one of ours
    kind = getattr(errors, found["type"], errors.EngineFailure)
    error: errors.EngineError = kind(found["message"], param=found.get("param"), pointer=found.get("pointer"))
    return error
