"""The decode loop: one step after another, in one thread. The table of contents of this engine.

    schedule -> launch forward -> fill bitmasks -> copy, apply, sample -> token ids to host -> accept, check, emit

Knows rows, masks and endings. How a text is judged and handed back is `finish`'s business; who runs is the scheduler's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.decode.drafts import Drafts
from engine.decode.job import Sample
from engine.decode.record import record_row
from engine.decode.row import advance, close
from engine.decode.sampler import InputRows
from engine.decode.scheduler import Planned, Scheduler
from engine.errors import EngineError, EngineFailure
from engine.grammar import BitmaskBuffer, Vocabulary
from engine.interfaces import RowInput, Runner, Sampled, Tokenizer

Finish = Callable[[Sample], None]


@dataclass(slots=True)
class Row:
    """One planned row and where its logits lie: `first` is the index of its first logits row, `legal` counts a mask."""

    planned: Planned
    draft: list[int]
    first: int = 0
    legal: list[int] = field(default_factory=list)
    fill_s: list[float] = field(default_factory=list)

    @property
    def sample(self) -> Sample:
        return self.planned.sample


class Loop:
    """Steps over everything the scheduler holds. Not thread-safe: one thread steps."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        scheduler: Scheduler,
        drafts: Drafts,
        *,
        finish: Finish,
        prefilled: Finish,
        pinned: bool = False,
        overlap: bool = True,
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._scheduler = scheduler
        self._drafts = drafts
        self._finish = finish
        self._prefilled = prefilled
        self._overlap = overlap
        self._masks = BitmaskBuffer(runner.max_batch * (drafts.longest + 1), runner.vocab_size, pinned=pinned)
        self.steps = 0

    def step(self) -> bool:
        """Run one step; False when nothing could run (every row waits for its grammar)."""
        rows = [Row(planned, self._draft(planned)) for planned in self._scheduler.plan(_ready)]
        if not rows:
            return False
        started = time.perf_counter()
        masks_first = None if self._overlap else self._fill(rows)
        self._runner.forward([_row_input(row) for row in rows])
        inputs = masks_first if masks_first is not None else self._fill(rows)
        count = len(inputs)
        self._runner.sample(inputs.inputs(self._masks.tensor[:count] if count else None))
        sampled = self._runner.wait()
        self._account(rows, time.perf_counter() - started)
        for row in rows:
            self._accept(row, sampled)
        self.steps += 1
        return True

    def _draft(self, planned: Planned) -> list[int]:
        return self._drafts.propose(planned.sample) if planned.last else []

    def _fill(self, rows: list[Row]) -> InputRows:
        """One bitmask per logits row, while the forward runs. A row that cannot be masked fails alone."""
        inputs = InputRows()
        for row in rows:
            if row.planned.last:
                row.first = len(inputs)
                self._guarded(row.sample, lambda row=row: self._fill_row(row, inputs))
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
            self._masks.set_row(index, self._vocabulary.free_row)
            row.legal.append(self._vocabulary.free_count)
        else:
            row.legal.append(sample.matcher.fill(self._masks.array, index))
            if row.legal[-1] == 0:  # a dead end is decided on the host; the device must never see an empty row
                self._masks.set_row(index, self._vocabulary.free_row)
        row.fill_s.append(time.perf_counter() - started)

    def _account(self, rows: list[Row], elapsed: float) -> None:
        exposed = (self._runner.timings().get("mask_wait", 0.0) + self._runner.timings().get("apply", 0.0)) / 1e6
        for row in rows:
            row.sample.device_s += elapsed / len(rows)
            row.sample.fill_s += sum(row.fill_s)
            if row.sample.matcher is not None:
                row.sample.exposed_s += exposed

    def _accept(self, row: Row, sampled: Sampled) -> None:
        sample = row.sample
        sample.cached += len(row.planned.tokens)
        if sample.status is not None:
            self._finish(sample)
            return
        if row.planned.last:
            self._guarded(sample, lambda: self._accept_row(row, sampled))
            if sample.output and sample.first_token is None:
                sample.first_token = time.perf_counter()
                self._prefilled(sample)
        if sample.status is not None:
            self._finish(sample)

    def _accept_row(self, row: Row, sampled: Sampled) -> None:
        """Take sampled tokens while they agree with the draft; the first that differs is the last one taken."""
        sample = row.sample
        for offset in range(len(row.draft) + 1):
            if row.legal[offset] == 0:
                sample.status = "dead_end"
                return
            token = sampled.token_ids[row.first + offset]
            started = time.perf_counter()
            kept = advance(sample, token, self._tokenizer, sampled, row.first + offset)
            if sample.job.trace is not None:
                record_row(
                    sample,
                    row,
                    offset,
                    sampled,
                    accept_s=time.perf_counter() - started,
                    runner=self._runner,
                    tokenizer=self._tokenizer,
                    step=self.steps,
                    rows=len(self._scheduler.running),
                    overlap=self._overlap,
                )
            if not kept or sample.status is not None:
                return
            if sample.job.request.sampling.repetition_penalty != 1.0:
                self._runner.mark_seen(sample.slot or 0, [token])
            if offset == len(row.draft) or token != row.draft[offset]:
                return
            sample.cached += 1
            sample.forced += 1

    def _guarded(self, sample: Sample, work: Callable[[], None]) -> None:
        """Whatever goes wrong with one row is that row's status; the others go on."""
        try:
            work()
        except EngineError as error:
            sample.status, sample.error = "error", error
        except Exception as error:
            sample.status, sample.error = "error", EngineFailure(f"request {sample.job.request.id}: {error!r}")

    def close(self, sample: Sample) -> None:
        """End a row now (deadline): by grammar where an ending fits, else with an honest status."""
        self._guarded(sample, lambda: close(sample, self._tokenizer, overdue=True))
        self._finish(sample)


def _ready(sample: Sample) -> bool:
    """Whether the sample's masks can be filled: free text, or its grammar has been compiled."""
    return sample.job.grammar is None or sample.matcher is not None


def _row_input(row: Row) -> RowInput:
    sample = row.sample
    logits = len(row.draft) + 1 if row.planned.last else 0
    return RowInput(sample.slot or 0, row.planned.tokens + row.draft, sample.cached, logits)
