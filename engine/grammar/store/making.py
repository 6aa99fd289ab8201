"""One compilation on its way, and those who wait for it. Nobody's wish to stop touches another who waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from engine.grammar.compiled_grammar import CompiledGrammar
from engine.request import Constraint
from engine.sandbox import Outcome, Task


class Making:
    """`future` is what all share; `task` its job in the sandbox, once there is one."""

    def __init__(self, key: str, constraint: Constraint) -> None:
        self.key = key
        self.constraint = constraint
        self.owners: list[Hashable] = []
        """Of those who wait; the last one stays, and pays for what cannot be stopped any more."""
        self.future: Future[CompiledGrammar] = Outcome()
        self.task: Task | None = None
        self.started = time.perf_counter()
        self._settled = threading.Lock()
        """Held from the first end on: closing a service may come between a result and whoever takes it off the list."""

    def wait(self, owner: Hashable, meets: Callable[[CompiledGrammar], CompiledGrammar]) -> Future[CompiledGrammar]:
        """A future of one more caller; `meets` raises when the grammar is not what this caller wants."""
        own: Future[CompiledGrammar] = Outcome()
        self.owners.append(owner)

        def pass_on(done: Future[CompiledGrammar]) -> None:
            if not own.set_running_or_notify_cancel():
                return
            try:
                own.set_result(meets(done.result()))
            except BaseException as error:  # noqa: BLE001 - whatever stopped the compilation belongs to the caller
                own.set_exception(error)

        self.future.add_done_callback(pass_on)
        return own

    def begin(self, task: Task) -> None:
        """It is being compiled, unless nobody waits any more."""
        self.task = task
        if self.future.cancelled():
            task.cancel()

    def leave(self, owner: Hashable) -> bool:
        """One caller waits no longer; True when he was the last."""
        last = len(self.owners) == 1
        if not last:
            self.owners.remove(owner)
        return last

    def stop(self) -> None:
        """Nobody waits any more."""
        self.future.cancel()
        if self.task is not None:
            self.task.cancel()

    def fail(self, error: BaseException) -> None:
        if self._is_first():
            self.future.set_exception(error)

    def settle(self, grammar: CompiledGrammar) -> None:
        if self._is_first():
            self.future.set_result(grammar)

    def _is_first(self) -> bool:
        return self._settled.acquire(blocking=False) and self.future.set_running_or_notify_cancel()
