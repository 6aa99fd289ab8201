"""A future of what somebody makes of another future's result; giving it up gives that up too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Mapped(Future[Made], Generic[Given, Made]):
    """`make(source)` runs in the thread that settles the source; what it raises is this future's exception."""

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
