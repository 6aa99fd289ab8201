"""Futures: one that lets go of whoever waits, and those made of other ones; giving these up gives the others up too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Outcome(Future[Made]):
    """Lets its callbacks go once they have been called. They hold whoever waits, and he holds this: a circle otherwise,
    in which all that was made stays until a full collection."""

    def _invoke_callbacks(self) -> None:
        super()._invoke_callbacks()  # type: ignore[misc]  # Python's own hook, called at every end
        self._done_callbacks.clear()  # type: ignore[attr-defined]  # what it has called


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
        """Begin one after the other: in a loop, since thousands may be over as soon as they begin."""
        while not self.cancelled():
            if not self._left or (self._results and self._enough(self._results[-1])):
                self._settle(None)
                return
            try:
                running = self._running = self._left.pop(0)()
            except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
                self._settle(error)
                return
            if self.cancelled():
                running.cancel()
            second = iter((False, True))  # who comes second goes on: whoever settles what runs, or this loop
            running.add_done_callback(lambda done, second=second: self._heard(done) if next(second) else None)  # type: ignore[misc]  # bound now
            if not next(second) or not self._took(running):
                return

    def _heard(self, done: Future[Made]) -> None:
        if self._took(done):
            self._go_on()

    def _took(self, done: Future[Made]) -> bool:
        """Whether there is a result to go on from."""
        if done.cancelled() or self.cancelled():
            return False
        error = done.exception()
        if error is not None:
            self._settle(error)
            return False
        self._results.append(done.result())
        return True

    def _settle(self, error: BaseException | None) -> None:
        if not self.set_running_or_notify_cancel():
            return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(self._results)
