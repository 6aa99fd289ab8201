"""Slots after a failure: made as new, or kept from everybody until the device works again."""

from __future__ import annotations

from collections.abc import Iterator

from engine.decode.requests.job import Sample
from engine.decode.scheduling.scheduler import Scheduler
from engine.interfaces import Runner


class Slots:
    """Used by the decode thread."""

    def __init__(self, runner: Runner, scheduler: Scheduler) -> None:
        self._runner = runner
        self._scheduler = scheduler

    def clean(self, sample: Sample) -> None:
        """After a failure the slot is made as new; where that fails too, nobody gets it until it can be done."""
        if sample.slot is not None and not self._reset(sample.slot):
            self._scheduler.retire(sample.slot)

    def mend(self) -> Iterator[Sample]:
        """Take retired slots back, where the device has recovered; those who wait in vain where no slot is left."""
        for slot in self._scheduler.retired[:]:
            if self._reset(slot):
                self._scheduler.restore(slot)
        yield from self._scheduler.starving

    def _reset(self, slot: int) -> bool:
        try:
            self._runner.reset_slot(slot)
        except BaseException:  # noqa: BLE001 - whatever it is, this slot does not work
            return False
        return True
