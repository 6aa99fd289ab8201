"""The processes of a pool as it holds them: the fork server, and its children with a session each.

Knows how they are started, stopped, continued and killed. Does not know who gets one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Hashable

from engine.sandbox.channel import Channel
from engine.sandbox.fork_server import FORK, PREPARE
from engine.sandbox.frames import CHUNK, framed


class Child:
    """A process that serves one session; `job` is whatever its pool says it is busy with."""

    def __init__(self, server: ForkServer, name: str, session: Hashable, setup: bytes) -> None:
        ours, theirs = socket.socketpair()
        self.server = server
        self.name = name
        self.session = session
        self.channel = Channel(ours)
        self.pid: int | None = None
        self.paused = False
        self.gone = False
        self.used_at = time.monotonic()
        self._unsent = [name.encode() + b"\n" + setup]
        server.fork(theirs)

    @property
    def cpu_s(self) -> float:
        """CPU time so far, its start included."""
        return (_cpu_s(self.pid) or 0.0) if self.pid else 0.0

    def born(self, pid: int) -> None:
        """It has told its number, by which it can be killed: only now does it hear what it is for."""
        self.pid = pid
        self._tell()

    def ask(self, cpu_limit_s: float, memory_bytes: int, payload: bytes) -> None:
        head = json.dumps({"cpu_s": cpu_limit_s, "memory_bytes": memory_bytes}).encode()
        self._unsent.append(head + b"\n" + payload)
        self._tell()

    def _tell(self) -> None:
        while self.pid and self._unsent:
            self.channel.send(self._unsent.pop(0))

    def pause(self, paused: bool) -> None:
        if self.pid and paused != self.paused:
            self._signal(signal.SIGSTOP if paused else signal.SIGCONT)
            self.paused = paused

    def stopped(self) -> bool:
        """Whether a signal has stopped it, ours or another."""
        return self.pid is not None and _is_stopped(self.pid)

    def kill(self) -> None:
        """End it; closing the channel ends one that has no number yet, and so has not been asked anything."""
        self._signal(signal.SIGKILL)
        self.channel.close()

    def _signal(self, number: int) -> None:
        if self.pid and not self.gone:  # a process that is gone may have passed its number on
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)


class ForkServer:
    """One process of `fork_server`, started at once and ready when it answers `prepared`."""

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, *(["-O"] if sys.flags.optimize else []), "-m", "engine.sandbox.fork_server"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [*command, module, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()
        self.channel = Channel(ours)
        self.module = module
        self.asked: set[str] = set()
        self._orders: list[tuple[bytes, socket.socket | None]] = []

    def prepare(self, name: str, content: bytes) -> None:
        """Ask it to make ready for a name; it answers in its own time."""
        self.asked.add(name)
        self._orders.append((PREPARE + framed(name.encode() + b"\n" + content), None))
        self.flush()

    def fork(self, end: socket.socket) -> None:
        """A child that works at the other end of this socket, as soon as what was ordered before is done."""
        self._orders.append((FORK, end))
        self.flush()

    @property
    def pending(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._orders)

    def flush(self) -> None:
        """Send what goes, in order."""
        with contextlib.suppress(BlockingIOError, OSError):
            while self._orders:
                content, end = self._orders[0]
                if end is None:
                    sent = self.channel.socket.send(content[:CHUNK])
                    self._orders[0] = (content[sent:], None)
                    if sent < len(content):
                        continue
                else:
                    socket.send_fds(self.channel.socket, [content], [end.fileno()])
                    end.close()
                self._orders.pop(0)

    def stopped(self) -> bool:
        """Whether somebody has stopped it by a signal."""
        return _is_stopped(self.process.pid)

    def end(self) -> None:
        """Kill it with all its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for _, end in self._orders:
            if end is not None:
                end.close()
        self.channel.close()


def _cpu_s(pid: int) -> float | None:
    """Seconds of CPU that the process has used, all threads together; None when it is gone, or nobody can say."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the kernel's clock id of another process's CPU time
    except (OSError, OverflowError):
        return None


def _is_stopped(pid: int) -> bool:
    """Whether a signal has stopped it, which no process notices of itself."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123 - /proc is not a path of ours
            return stat.read().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False
