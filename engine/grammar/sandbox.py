"""Compiling where it can be killed: one warm worker process, started when the first heavy constraint comes.

Knows the worker's protocol and turns its failures into typed errors. A worker that died is replaced; its job is tried
once more. Compiles one job at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import xgrammar as xgr

from engine import errors
from engine.config import Limits
from engine.errors import EngineError, EngineFailure, LimitExceeded, NotReady
from engine.grammar.frames import PipeTimeout, receive, send
from engine.grammar.screen import Screened
from engine.request import Constraint

_START_S = 120.0
_GRACE_S = 5.0


class Sandbox:
    """`compile` may be called from any thread."""

    def __init__(self, info: xgr.TokenizerInfo, limits: Limits) -> None:
        self._info = info
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._warming: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def compile(self, constraint: Constraint, screened: Screened) -> bytes:
        """The encoded grammar (`entry`). Raises what compiling raised, or LimitExceeded naming limit and place."""
        job = json.dumps({name: getattr(constraint, name) for name in _FIELDS}).encode()
        with self._lock:
            answer = self._ask(job) or self._ask(job)
        if answer is None:
            raise EngineFailure("the compile worker died twice on this constraint", param=constraint.kind)
        if answer[:1] == b"O":
            return answer[1:]
        raise self._error(json.loads(answer[1:]), constraint, screened)

    def close(self) -> None:
        """End the worker and whatever it is compiling; none is started any more. Idempotent."""
        self._closed = True
        self._stop()
        if (warming := self._warming) is not None:
            _end(warming)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def start(self) -> None:
        """Start the worker if none runs: 1-4 s. Useful ahead of the first heavy constraint."""
        with self._lock:
            self._running()

    def warm(self) -> None:
        """Put a worker that knows the common rules (`Compiler.warm`) in the place of the present one, when it is ready.

        About 50 s of another processor; meanwhile the present one, started if need be, goes on. For servers, in a
        thread.
        """
        self.start()
        with contextlib.suppress(EngineFailure):  # a service that was closed meanwhile, or a machine without memory
            if self._closed:
                self._stop()
                return
            process = self._start(warm=True)
            with self._lock:
                self._stop()
                self._process, self._warming = process, None
                if self._closed:
                    self._stop()

    def _ask(self, job: bytes) -> bytes | None:
        """One try; None when the worker was lost."""
        process = self._running()
        if process.stdin is None or process.stdout is None:
            return None
        try:
            send(process.stdin.fileno(), job)
            answer = receive(process.stdout.fileno(), time.monotonic() + self._limits.compile_s + _GRACE_S)
        except (OSError, ValueError, PipeTimeout):
            answer = None
        if answer is None:
            self._stop()
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise NotReady("the engine has been closed")
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._process = self._start()
        return self._process

    def _start(self, *, warm: bool = False) -> subprocess.Popen[bytes]:
        command = [sys.executable, *(["-O"] if sys.flags.optimize else []), "-m", "engine.grammar.worker"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True, bufsize=0
        )
        if warm:
            self._warming = process
        ready = None
        if process.stdin is not None and process.stdout is not None:
            head = json.dumps({"limits": asdict(self._limits), "warm": warm}).encode()
            settings = head + b"\n" + self._info.serialize_json().encode("utf-8")
            with contextlib.suppress(OSError, PipeTimeout):
                send(process.stdin.fileno(), settings)
                ready = receive(process.stdout.fileno(), time.monotonic() + _START_S)
        if ready is None:
            _end(process)
            raise EngineFailure("the compile worker could not be started")
        return process

    def _error(self, found: dict[str, str], constraint: Constraint, screened: Screened) -> EngineError:
        place = f"; the heaviest part is {screened.part} at {screened.pointer or '/'}" if screened.part else ""
        over = {
            "time": f"limit compile_s = {self._limits.compile_s:g} s exceeded",
            "memory": f"limit compile_memory_bytes = {self._limits.compile_memory_bytes} exceeded",
            "depth": "the constraint nests too deeply to compile",
            "crashed": f"the constraint cannot be compiled: {found['message']}",
        }.get(found["type"])
        if over is not None:
            return LimitExceeded(over + place, param=constraint.kind, pointer=screened.pointer or None)
        kind = getattr(errors, found["type"], EngineFailure)
        error: EngineError = kind(found["message"], param=found.get("param"), pointer=found.get("pointer"))
        return error


_FIELDS = ("kind", "source", "whitespace", "conformance", "require_enforced")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker's whole session, children included, and close its pipes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
