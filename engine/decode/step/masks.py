"""The bitmasks of a step: one row of bits per logits row, filled while the forward runs.

Knows matchers, drafts and buffer rows. Knows nothing of what is sampled from them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engine.decode.requests.job import Sample
from engine.decode.scheduling.scheduler import Planned
from engine.decode.step.drafts import Drafts
from engine.decode.step.mask_maker import MaskMaker
from engine.decode.step.sampler import InputRows
from engine.grammar import BitmaskBuffer, Matcher, Unfinished, Vocabulary

_PATIENCE_S = 0.02
"""What a step waits at most for a new mask of one row, or of a draft, while other rows could go on."""
_ALONE_S = 0.05
_NEW_S = 3e-4
"""What a new mask takes, mostly."""
PIECES = 10
"""Milliseconds of a step, about, that guards may take for masks; every row has one of them."""


@dataclass(slots=True)
class Row:
    """One planned row and where its logits lie: `logits` rows from `first` on, `legal` counts a mask. What a `late` row
    has computed is computed again: its mask was not there in time."""

    planned: Planned
    draft: list[int]
    first: int = 0
    late: bool = False
    legal: list[int] = field(default_factory=list)
    fill_s: list[float] = field(default_factory=list)
    launched: float = field(default_factory=time.perf_counter)
    epoch: int = 0
    fed: list[int] = field(default_factory=list)
    """The planned tokens and the whole draft, whatever is left of that behind masks which take long."""
    logits: int = 0

    def __post_init__(self) -> None:
        self.epoch = self.sample.epoch
        self.fed = self.planned.tokens + self.draft
        self.logits = len(self.draft) + 1 if self.planned.last else 0

    @property
    def sample(self) -> Sample:
        return self.planned.sample

    @property
    def void(self) -> bool:
        """The sample has ended, or taken tokens back, since this row was planned: its logits mean nothing."""
        return self.sample.status is not None or self.sample.epoch != self.epoch


class Masks:
    """Per engine: the buffer, pinned where there is a device to copy it to."""

    def __init__(
        self,
        rows: int,
        vocabulary: Vocabulary,
        drafts: Drafts,
        maker: MaskMaker,
        *,
        pinned: bool,
        steer: Callable[[Sample], bool],
    ) -> None:
        """`steer`: whether a row has gone back, see `row.steer`."""
        self._buffer = BitmaskBuffer(rows, vocabulary.size, pinned=pinned)
        self._free = vocabulary.free_row, vocabulary.free_count  # which take 30 ms of a step that finds them out
        self._drafts = drafts
        self._maker = maker
        self._steer = steer
        self._turn = 0
        self.pace_s = 0.0
        """What a step takes at present, without waiting for masks."""

    def tensor(self, count: int) -> Any | None:
        """int32 [count, W], or None when no row has logits."""
        return self._buffer.tensor[:count] if count else None

    def fill(self, rows: list[Row], until: float = math.inf) -> InputRows:
        """One bitmask per logits row, while the forward runs, `until` about then. A row that cannot be masked fails
        alone.

        Masks that are still to be made are made beside this thread meanwhile. A row whose mask takes longer than the
        step is `late` and samples in vain, so that its neighbours need not wait; alone it waits longer. So is one whose
        mask is new when the forward has ended, where so many would wait that this costs less; one a step is not.
        """
        inputs = InputRows()
        sampled = [row for row in rows if row.planned.last]
        pieces = max(1, PIECES // max(1, len(sampled)))
        for row in sampled:
            if row.draft and not row.void and not self._drafts.holds(row.sample, row.draft):
                row.draft.clear()
            row.first = len(inputs)
            for offset in range(row.logits):
                self._add_row(row, offset, inputs)
        _share_logits(sampled, inputs)
        waiting = [row for row in sampled if not (row.void or row.draft) and self._maker.begin(row.sample)]
        self._fill_until(until, [row for row in sampled if row not in waiting], pieces)
        if waiting:
            beside = len(waiting) < len(rows)
            patience = min(self.pace_s, _PATIENCE_S) if beside else _ALONE_S
            self._maker.wait([row.sample for row in waiting], rows[0].launched + patience - time.perf_counter())
        for row in waiting:
            row.late = not row.sample.masked
            self._fill_rows(row, pieces)
            row.fill_s[0] += self._maker.seconds(row.sample)
        return inputs

    def _fill_until(self, until: float, rows: list[Row], pieces: int) -> None:
        """The masks of these rows, whose turn to be first goes round."""
        self._turn += 1
        first = self._turn % max(1, len(rows))
        costly, new = len(rows) * _NEW_S > self.pace_s > 0, 0
        for row in (*rows[first:], *rows[:first]):
            if costly and time.perf_counter() > until and _is_new(row):
                new += 1
                row.late = new > 1
            self._fill_rows(row, pieces)

    def _add_row(self, row: Row, offset: int, inputs: InputRows) -> None:
        sample = row.sample
        inputs.add(
            sample.job.request.sampling,
            seed=sample.seed,
            position=len(sample.output) + offset,
            slot=sample.slot or 0,
            want_stats=sample.job.want_stats,
            bias=None if sample.conditional is None else sample.conditional.bias(),
        )

    def _fill_rows(self, row: Row, pieces: int) -> None:
        """The masks of one row; where there is nothing to mask with, everything is let through."""
        if row.late:
            row.sample.hold = True
        elif not row.void and row.sample.matcher is not None:
            row.sample.guard(partial(self._walk, row, row.sample.matcher, pieces))
        free_row, free_count = self._free
        for offset in range(len(row.legal), row.logits):
            self._buffer.set_row(row.first + offset, free_row)
            row.legal.append(free_count)
            row.fill_s.append(0.0)

    def _walk(self, row: Row, matcher: Matcher, pieces: int) -> None:
        """Masks after the pending tokens and after each drafted one; the matcher is back where it was afterwards.

        Within a draft they are made at once, since there is little to choose, but new ones only while the step
        is young. Behind one whose mask must be made first nothing is sampled.
        """
        if matcher.strings is not None and self._steer(row.sample):
            return
        walked, young = 0, row.launched + max(self.pace_s, _PATIENCE_S)
        try:
            for token in [*row.draft, None]:
                late = walked and time.perf_counter() > young and not matcher.kept
                if late or (token is None and walked and self._maker.begin(row.sample)):
                    del row.draft[walked - 1 :]
                    break
                self._mask(row, matcher, pieces)
                if token is None or not self._accepted(row, matcher, token) or matcher.terminated:
                    break
                walked += 1
        except Unfinished:  # the row waits for it, as for one that is made beside
            row.late = walked == 0
            del row.draft[max(0, walked - 1) :]
        finally:
            row.sample.hold |= len(row.legal) < row.logits
            matcher.rollback(walked)

    def _accepted(self, row: Row, matcher: Matcher, token: int) -> bool:
        """Whether the last mask of the row allows this drafted token, which the matcher has taken then."""
        return self._buffer.legal(row.first + len(row.legal) - 1, token) and matcher.accept(token, legal=True)

    def _mask(self, row: Row, matcher: Matcher, pieces: int) -> None:
        started, index = time.perf_counter(), row.first + len(row.legal)
        counted = row.sample.job.trace is not None or row.sample.conditional is not None
        row.legal.append(matcher.fill(self._buffer.array, index, count=counted, pieces=pieces))
        if row.legal[-1] == 0:  # a dead end is decided on the host; the device must never see an empty row
            self._buffer.set_row(index, self._free[0])
        row.fill_s.append(time.perf_counter() - started)


def _share_logits(rows: list[Row], inputs: InputRows) -> None:
    """Rows that have taken over a sibling's text draw from its logits."""
    copies = [(row, source) for row in rows if (source := row.sample.source) is not None and not row.void]
    first = {row.sample: row.first for row in rows} if copies else {}
    for row, source in copies:
        inputs.sources[row.first] = first[source]
        row.sample.source = None


def _is_new(row: Row) -> bool:
    """Whether the mask of a row without a draft is still to be made."""
    matcher = row.sample.matcher
    return matcher is not None and not (row.void or row.draft or matcher.kept)
