"""Who runs in the next step: first come, first served, decoding rows before prefill chunks. Pure Python, no clock.

Knows slots and token counts. Knows nothing of grammars, models or threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.decode.job import Sample


@dataclass(frozen=True, slots=True)
class Planned:
    """One row of the next step: `tokens` to feed (None: the one in flight); `last` when logits are wanted after."""

    sample: Sample
    tokens: list[int] | None
    last: bool


class Scheduler:
    """Fixed slots, one queue. `prefill_chunk` bounds the prompt tokens of one step, so decoding rows never stall."""

    def __init__(self, *, slots: int, prefill_chunk: int) -> None:
        self._free = list(range(slots - 1, -1, -1))
        self._chunk = prefill_chunk
        self._waiting: deque[Sample] = deque()
        self._running: list[Sample] = []

    @property
    def running(self) -> list[Sample]:
        return self._running

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running)

    def __iter__(self) -> Iterator[Sample]:
        yield from self._running
        yield from self._waiting

    def add(self, sample: Sample) -> None:
        self._waiting.append(sample)

    def add_next(self, samples: list[Sample]) -> None:
        """Siblings of a running sample go before everybody else: their prompt is in the cache now."""
        self._waiting.extendleft(reversed(samples))

    def admit(self) -> list[Sample]:
        """Give free slots to those who wait, in order; returns the newcomers."""
        admitted: list[Sample] = []
        while self._free and self._waiting:
            sample = self._waiting.popleft()
            if sample.status is None:
                sample.slot = self._free.pop()
                self._running.append(sample)
                admitted.append(sample)
        return admitted

    def plan(self, ready: Callable[[Sample], bool]) -> list[Planned]:
        """Rows of the next step. A sample whose grammar is not `ready` is fed all but its last token, then waits."""
        decoding = [s for s in self._running if s.missing == 1 and ready(s) and not (s.flying and s.hold)]
        rows = [Planned(sample, None if sample.flying else sample.pending(1), True) for sample in decoding]
        room = self._chunk
        for sample in self._running:
            missing = sample.missing
            if missing <= 1 or room <= 0:
                continue
            count = min(room, missing if ready(sample) else missing - 1)
            if count > 0:
                rows.append(Planned(sample, sample.pending(count), count == missing))
                room -= count
        return rows

    def release(self, sample: Sample) -> None:
        """The sample has ended: its slot is free for the next one."""
        if sample.slot is not None and sample in self._running:
            self._running.remove(sample)
            self._free.append(sample.slot)
        elif sample in self._waiting:
            self._waiting.remove(sample)
