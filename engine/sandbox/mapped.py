"""Futures made of other futures; giving one up gives those up too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Mapped(Future[Made], Generic[Given, Made]):
    """What somebody makes of another future's result. `make(source)` runs in the thread that settles the source; what
    it raises is this future's exception."""

    def __init__(self, source: Future[Given], make: Callable[[Future[Given]], Made]) -> None:
        super().__init__()
        self._source = source
        source.add_done_callback(lambda _: self._settle(make))

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self._source.cancel()
        return cancelled

    def _settle(self, make: Callable[[Future[Given]], Made]) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(make(self._source))
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            self.set_exception(error)


class InTurn(Future[list[Made]]):
    """Results in order, up to the first that is `enough`; the first exception is its own. Cancelling it gives up the
    one that runs. `begin` is called in the thread that settles the one before."""

    def __init__(self, begin: Sequence[Callable[[], Future[Made]]], enough: Callable[[Made], bool]) -> None:
        super().__init__()
        self._left = list(begin)
        self._enough = enough
        self._results: list[Made] = []
        self._running: Future[Made] | None = None
        self._go_on()

    def cancel(self) -> bool:
        cancelled, running = super().cancel(), self._running
        if cancelled and running is not None:
            running.cancel()
        return cancelled

    def _go_on(self) -> None:
        if self.cancelled():
            return
        if not self._left or (self._results and self._enough(self._results[-1])):
            self._settle(None)
            return
        try:
            self._running = self._left.pop(0)()
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            self._settle(error)
            return
        if self.cancelled():
            self._running.cancel()
        self._running.add_done_callback(self._heard)

    def _heard(self, done: Future[Made]) -> None:
        if done.cancelled() or self.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._settle(error)
            return
        self._results.append(done.result())
        self._go_on()

    def _settle(self, error: BaseException | None) -> None:
        if not self.set_running_or_notify_cancel():
            return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(self._results)
