"""The bitmasks of a step: one row of bits per logits row, filled while the forward runs.

Knows matchers, drafts and buffer rows. Knows nothing of what is sampled from them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engine.decode.drafts import Drafts
from engine.decode.job import Sample
from engine.decode.sampler import InputRows
from engine.decode.scheduler import Planned
from engine.grammar import BitmaskBuffer, Vocabulary


@dataclass(slots=True)
class Row:
    """One planned row and where its logits lie: `first` is the index of its first logits row, `legal` counts a mask."""

    planned: Planned
    draft: list[int]
    first: int = 0
    legal: list[int] = field(default_factory=list)
    fill_s: list[float] = field(default_factory=list)
    launched: float = field(default_factory=time.perf_counter)
    epoch: int = 0

    def __post_init__(self) -> None:
        self.epoch = self.sample.epoch

    @property
    def sample(self) -> Sample:
        return self.planned.sample

    @property
    def void(self) -> bool:
        """The sample has ended, or taken tokens back, since this row was planned: its logits mean nothing."""
        return self.sample.status is not None or self.sample.epoch != self.epoch


class Masks:
    """Per engine: the buffer, pinned where there is a device to copy it to."""

    def __init__(self, rows: int, vocabulary: Vocabulary, drafts: Drafts, *, pinned: bool, expect_runs: bool) -> None:
        """`expect_runs`: note on a sample when a forced run is about to come, so that its draft is not missed."""
        self._buffer = BitmaskBuffer(rows, vocabulary.size, pinned=pinned)
        self._vocabulary = vocabulary
        self._drafts = drafts
        self._expect_runs = expect_runs

    def tensor(self, count: int) -> Any | None:
        """int32 [count, W], or None when no row has logits."""
        return self._buffer.tensor[:count] if count else None

    def fill(self, rows: list[Row]) -> InputRows:
        """One bitmask per logits row, while the forward runs. A row that cannot be masked fails alone."""
        inputs = InputRows()
        for row in rows:
            if row.planned.last:
                row.first = len(inputs)
                if not row.void:
                    row.sample.guard(partial(self._fill_row, row, inputs))
                for _ in range(len(inputs) - row.first, len(row.draft) + 1):
                    self._add_row(row, inputs, free=True)
        return inputs

    def _fill_row(self, row: Row, inputs: InputRows) -> None:
        """Masks after the pending tokens and after each drafted one; the matcher is back where it was afterwards."""
        matcher = row.sample.matcher
        if matcher is None:
            self._add_row(row, inputs, free=True)
            return
        walked = 0
        if self._expect_runs and not row.draft:
            row.sample.hold = row.sample.asks or len(self._drafts.propose(row.sample)) > 1
        try:
            for token in [*row.draft, None]:
                self._add_row(row, inputs, free=False)
                if token is None or not matcher.accept(token) or matcher.terminated:
                    break
                walked += 1
        finally:
            matcher.rollback(walked)

    def _add_row(self, row: Row, inputs: InputRows, *, free: bool) -> None:
        sample, started = row.sample, time.perf_counter()
        index = inputs.add(
            sample.job.request.sampling,
            seed=sample.seed,
            position=len(sample.output) + len(inputs) - row.first,
            slot=sample.slot or 0,
            want_stats=sample.job.want_stats,
        )
        if free or sample.matcher is None:
            self._buffer.set_row(index, self._vocabulary.free_row)
            row.legal.append(self._vocabulary.free_count)
        else:
            row.legal.append(sample.matcher.fill(self._buffer.array, index, count=sample.job.trace is not None))
            if row.legal[-1] == 0:  # a dead end is decided on the host; the device must never see an empty row
                self._buffer.set_row(index, self._vocabulary.free_row)
        row.fill_s.append(time.perf_counter() - started)
