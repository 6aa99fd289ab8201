"""Where checks run: in processes that can be stopped; functions that cannot be imported there in threads.

A call has `limits.check_s`; its process is killed then and replaced. A thread cannot be stopped: only waiting for it
ends.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Self

from engine.checks.call import call as call_here
from engine.checks.reach import first_unmet
from engine.checks.row_checks import Call, Check
from engine.config import Limits
from engine.errors import CheckFailed, CheckTimeout, EngineError, NotReady, RequestError
from engine.request import Constraint
from engine.sandbox import Answer, Job, Stopped, shared_pool
from engine.sandbox.mapped import InTurn, Mapped
from engine.syntax import Syntax
from engine.syntax.asked import reference

_MODULE = "engine.checks.worker"
_MEMORY_BYTES = 512 << 20
_IMPORT_S = 60.0
_PARSING_S, _WAITING = 1e-4, 10
"""Seconds of processor time a byte that a language's parser may take beyond the limit, and times as long by the clock:
it is ours, and texts may be long."""
Said = str | None


class Missing:
    """A process could not import a function, which this process has."""


class CheckService:
    """`submit` may be called from any thread and never blocks. `registered`: by name, `module:function`."""

    def __init__(self, limits: Limits, registered: Mapping[str, str]) -> None:
        self._limits = limits
        self._registered = registered
        self._missing: set[str] = set()
        """Functions that a process could not import."""
        self._pool, self._release = shared_pool(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Import what is registered, in the processes' own time. RequestError names the first that cannot be used."""
        for name, target in self._registered.items():
            try:
                missing = self._probe(target).result(timeout=_IMPORT_S)
            except TimeoutError:
                missing = f"importing it took longer than {_IMPORT_S:.0f} s"
            except Stopped as stopped:
                missing = f"importing it ended the process ({stopped.detail or stopped.reason})"
            if missing is not None:
                self.close()
                raise RequestError(
                    f"the check {name!r} cannot be used: {target}: {missing}; "
                    "name a function of a module that Python finds (PYTHONPATH), or leave it out",
                    param="checks",
                )

    def close(self) -> None:
        """No more is asked. Idempotent."""
        self._release()

    def checks_of(self, constraint: Constraint | None) -> tuple[Check, ...]:
        """What a request asks for. RequestError for a name that is not registered, and a pointer that meets nothing."""
        if constraint is None:
            return ()
        pointers = tuple(pointer for pointer, _ in constraint.checks)
        unmet = first_unmet(constraint.source, pointers, closed=constraint.conformance == "tight") if pointers else None
        if unmet is not None:
            raise RequestError(
                f"checks: {unmet!r} is no place of this schema: no document has a value there",
                param="checks",
                pointer=unmet,
            )
        return tuple(self._check(pointer, check) for pointer, check in constraint.checks)

    def submit(self, calls: Sequence[Call], *, owner: Hashable = None) -> Future[list[Said]]:
        """Answers up to the first that is wrong. About 0.5 ms each, a check's first some milliseconds more.

        The future raises CheckFailed or CheckTimeout. Cancelling it stops the processes.
        """
        return InTurn([lambda c=c: self._run(c, owner) for c in calls], lambda said: said is not None)  # type: ignore[misc]  # bound now

    def _check(self, pointer: str, check: Any) -> Check:
        if isinstance(check, Syntax):
            return Check(pointer, f"{check.language} {check.unit}", reference.target(check), parses=True)
        if not isinstance(check, str):
            return Check(pointer, getattr(check, "__qualname__", type(check).__name__), _target_of(check), check)
        if check not in self._registered:
            known = ", ".join(sorted(self._registered)) or "none"
            raise RequestError(
                f"checks: no check {check!r} is registered here; registered: {known}", param="checks", pointer=pointer
            )
        return Check(pointer, check, self._registered[check])

    def _probe(self, target: str) -> Future[Said]:
        return Mapped(self._pool.submit(self._job(target, b"", _IMPORT_S, _IMPORT_S), (None,)), _missing)

    def _run(self, call: Call, owner: Hashable) -> Future[Said]:
        check = call.check
        if check.target is None or check.target in self._missing:
            return self._in_thread(call)
        if check.function is None:
            return Mapped(self._in_process(call, owner), lambda done: _known(done.result()))
        tries: list[Callable[[], Future[Said | Missing]]] = [
            lambda: self._in_process(call, owner),
            lambda: self._in_thread(call),
        ]
        return Mapped(InTurn(tries, lambda said: not isinstance(said, Missing)), lambda done: _known(done.result()[-1]))

    def _in_process(self, call: Call, owner: Hashable) -> Future[Said | Missing]:
        target = str(call.check.target)
        payload = json.dumps(call.pointer).encode() + b"\n" + call.document
        cpu_s = wall_s = self._limits.check_s
        if call.check.parses:
            cpu_s += len(payload) * _PARSING_S
            wall_s = cpu_s * _WAITING
        answer = self._pool.submit(self._job(target, payload, cpu_s, wall_s), (owner,))
        return Mapped(answer, lambda done: self._read(done, call))

    def _job(self, target: str, payload: bytes, cpu_s: float, wall_s: float) -> Job:
        self._pool.prepare(_MODULE, target, b"")
        return Job(_MODULE, target, payload, session=target, cpu_s=cpu_s, wall_s=wall_s, memory_bytes=_MEMORY_BYTES)

    def _read(self, answer: Future[Answer], call: Call) -> Said | Missing:
        try:
            found = json.loads(answer.result().content)
        except Stopped as stopped:
            raise self._error(stopped, call) from None
        if "missing" not in found:
            return _said(found, call)
        if call.check.function is None:
            raise _failed(call, f"cannot be imported: {found['missing']}")
        self._missing.add(str(call.check.target))
        return Missing()

    def _in_thread(self, call: Call) -> Future[Any]:
        """In a thread of its own, for which nobody waits longer than the limit. Its result is a `Said`."""
        future: Future[Any] = Future()
        lock = threading.Lock()

        def settle(result: Said = None, error: BaseException | None = None) -> None:
            with lock:
                if future.done() or not future.set_running_or_notify_cancel():
                    return
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

        def run() -> None:
            function = call.check.function
            assert function is not None
            try:
                settle(_said(call_here(function, call.pointer, call.document), call))
            except EngineError as error:
                settle(error=error)

        timer = threading.Timer(self._limits.check_s, lambda: settle(error=self._late(call)))
        timer.daemon = True
        future.add_done_callback(lambda _: timer.cancel())
        timer.start()
        threading.Thread(target=run, name="check", daemon=True).start()
        return future

    def _late(self, call: Call) -> CheckTimeout:
        return CheckTimeout(
            f"the check {call.check.name!r} ran longer than limits.check_s = {self._limits.check_s:g} s",
            param="checks",
            pointer=call.pointer,
        )

    def _error(self, stopped: Stopped, call: Call) -> EngineError:
        if stopped.reason == "closed":
            return NotReady("the engine has been closed")
        if stopped.reason in ("cpu", "wall"):
            return self._late(call)
        if stopped.reason == "busy":
            message = f"the check {call.check.name!r} got only {stopped.detail}: the machine is busy, try again later"
            return CheckTimeout(message, param="checks", pointer=call.pointer)
        if stopped.reason == "memory":
            return _failed(call, f"needed more than {_MEMORY_BYTES >> 20} MiB of memory")
        return _failed(call, f"ended its process ({stopped.detail or stopped.reason})")


def _known(said: Said | Missing) -> Said:
    return None if isinstance(said, Missing) else said


def _missing(answer: Future[Answer]) -> Said:
    found = json.loads(answer.result().content).get("missing")
    return None if found is None else str(found)


def _said(found: dict[str, Any], call: Call) -> Said:
    if "failed" in found:
        raise _failed(call, found["failed"])
    message: Said = found["message"]
    return message


def _failed(call: Call, what: str) -> CheckFailed:
    return CheckFailed(f"the check {call.check.name!r} {what}", param="checks", pointer=call.pointer)


def _target_of(function: Callable[[Any, Any], Any]) -> str | None:
    """`module:function` by which another process finds the same; None for what stands in no module."""
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or module == "__main__" or "<" in path:
        return None
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return f"{module}:{path}" if found is function else None
