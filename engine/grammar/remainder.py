"""What is still missing of something that is already in use: made when it is wanted, or soon after by itself.

A future. Knows threads; does not know what it makes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

Made = TypeVar("Made")
PATIENCE_S = 0.25
"""Unwanted for so long it is made all the same. Whoever fetches several grammars one after another has them by then,
and does not wait for what only a document needs: the interpreter makes one thing at a time."""


class Remainder(Future[Made], Generic[Made]):
    """`make` runs once, in a thread of `executor`; waiting for `result` wants it, `done` and callbacks do not."""

    def __init__(self, make: Callable[[], Made], executor: Executor) -> None:
        super().__init__()
        self._make = make
        self._executor = executor
        self._begun = threading.Lock()
        self._timer = threading.Timer(PATIENCE_S, self.want)
        self._timer.daemon = True
        self._timer.start()

    def want(self) -> None:
        """Begin, unless that has happened. Some microseconds."""
        if not self._begun.acquire(blocking=False):
            return
        self._timer.cancel()
        try:
            self._executor.submit(self._run)
        except RuntimeError as error:  # the executor has been shut down
            self.set_exception(error)

    def result(self, timeout: float | None = None) -> Made:
        """Wait for it, and begin if need be. Raises what making it raised."""
        self.want()
        return super().result(timeout)

    def _run(self) -> None:
        try:
            made = self._make()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it, as from any future
            self.set_exception(error)
        else:
            self.set_result(made)
