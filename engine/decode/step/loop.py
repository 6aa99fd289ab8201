"""The decode loop: one step after another, in one thread. The table of contents of this engine.

    schedule -> launch forward -> fill bitmasks -> copy, apply, sample -> token ids to host -> accept, check, emit

Knows rows, masks and endings. How a text is judged and handed back is `finish`'s business; who runs is the scheduler's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from engine.decode.requests.job import Drawn, Sample
from engine.decode.scheduling.scheduler import Planned, Scheduler
from engine.decode.step.drafts import Drafts
from engine.decode.step.idle_time import IdleTime
from engine.decode.step.mask_maker import MaskMaker
from engine.decode.step.masks import PIECES, Masks, Row
from engine.decode.step.row import AT_ONCE, advance, close, note_logprobs, reconsider, settle, steer, write_on
from engine.decode.step.sampler import InputRows
from engine.decode.step.step_trace import record_row
from engine.grammar import Vocabulary
from engine.interfaces import RowInput, Runner, Sampled, Tokenizer, step_rows

Finish = Callable[[Sample], None]


class Loop:
    """Steps over everything the scheduler holds. Not thread-safe: one thread steps."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        scheduler: Scheduler,
        drafts: Drafts,
        maker: MaskMaker,
        *,
        finish: Finish,
        ask: Finish,
        prefilled: Finish,
        pinned: bool = False,
        overlap: bool = True,
        ahead: bool = False,
        retries: int = 3,
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._scheduler = scheduler
        self._drafts = drafts
        self._finish = finish
        self._ask = ask
        self._prefilled = prefilled
        self._overlap = overlap
        self._ahead = ahead and overlap
        self._retries = retries
        self._early: InputRows | None = None
        self._launched: list[Row] = []
        self._flying: list[Row] = []
        self._collected = 0.0
        self._capacity = step_rows(runner.max_batch)
        self._idle_time = IdleTime(tokenizer, maker)
        self._masks = Masks(self._capacity, vocabulary, drafts, maker, pinned=pinned, steer=self._steer)
        self.steps = 0
        self.begin_turn()
        self.writing: list[Sample] = []
        """Those whose ending takes several turns, the oldest first."""

    def begin_turn(self) -> None:
        """Endings may take time again: what all rows have of a turn is bounded, not what each has."""
        self._closing_s = 0.0  # of processor time

    def step(self) -> bool:
        """Launch the next step, then take in the tokens of the one before; False when there is nothing to do.

        Ahead, the forward of step t + 1 starts from the token that step t left on the device, before the host has seen
        it, and as if all of that step's draft held; a row that turns out to have ended, or to have sampled another
        token than was drafted, has computed in vain. Otherwise a step is taken in at once.
        """
        went_on = self._go_on()
        rows = self._rows()
        if not rows:
            return self._collect() or went_on
        self._launch(rows)
        if self._ahead:
            self._use_idle_time()
            self._collect()
            _wait_for_siblings(rows)
        inputs = self._early if self._early is not None else self._masks.fill(rows, self._forward_ends(rows))
        self._runner.sample(inputs.inputs(self._masks.tensor(len(inputs))))
        self._launched, self._flying = [], rows
        if not self._ahead:
            self._collect()
        self.steps += 1
        return True

    def _forward_ends(self, rows: list[Row]) -> float:
        """About when the forward in flight has ended: it began when it was launched and the one before was over."""
        return max(self._collected, rows[0].launched) + self._masks.pace_s

    def _use_idle_time(self) -> None:
        if self._flying:
            self._idle_time.use(self._scheduler.running, self._runner.finished)

    def _go_on(self) -> bool:
        """A piece of what would hold up the others at once: guards asked about many tokens, a long ending written."""
        self.writing = [s for s in self.writing if s.status is None and (s.closing or s.question is not None)]
        for sample in self.writing:  # that needs neither the slot nor the device
            self._scheduler.release(sample)
            sample.slot = None
        closing = [sample for sample in self.writing if sample.closing]
        waiting = [*closing, *filter(_unfinished, self._scheduler.running)][:PIECES]
        for sample in waiting:
            pieces = max(1, PIECES // len(waiting))
            if sample.ending:
                sample.guard(partial(write_on, sample, self._tokenizer, pieces / 1e3))
            elif sample.sought is not None:
                sample.guard(partial(sample.pursue, partial(sample.sought, pieces=pieces), ends=True))
                if sample.question is not None:
                    self._ask(sample)
            elif sample.matcher is not None:
                sample.guard(partial(sample.matcher.go_on, pieces))
            if sample.status is not None:
                self._finish(sample)
        return bool(waiting)

    def _launch(self, rows: list[Row]) -> None:
        """Start the forward. With overlap off the masks are filled before it, to measure what overlap hides."""
        self._launched = rows
        self._early = None if self._overlap else self._masks.fill(rows)
        self._runner.forward([_row_input(row) for row in rows])
        for row in rows:
            sample = row.sample
            sample.cached += len(row.fed)
            sample.flying += row.logits
            sample.hold = sample.in_turns

    def _collect(self) -> bool:
        """Wait for the tokens of the step in flight and take them; False when there is none."""
        if not self._flying:
            return False
        rows, sampled = self._flying, self._runner.wait()
        now = time.perf_counter()
        self._account(rows, min(now - self._collected, now - rows[0].launched))
        self._collected = now
        for row in rows:
            self._accept(row, sampled)
        self._flying = []
        return True

    def abandon(self) -> list[Sample]:
        """Forget the steps under way, whose device failed; the samples that had a part in them."""
        rows = [*self._flying, *self._launched]
        self._flying, self._launched = [], []
        return list(dict.fromkeys(row.sample for row in rows if not row.void))

    def _rows(self) -> list[Row]:
        """The planned rows with their drafts, which share what is left of the step's logits rows."""
        plan = self._scheduler.plan(_ready)
        room = self._capacity - sum(planned.last for planned in plan)
        rows = []
        for planned in plan:
            rows.append(Row(planned, self._draft(planned, room)))
            room -= len(rows[-1].draft)
        return rows

    def _draft(self, planned: Planned, room: int) -> list[int]:
        """At most `room` tokens that probably follow those fed and in flight; none where the KV cache has no block to
        try them in."""
        if not planned.last or room <= 0:
            return []
        draft = self._drafts.propose(planned.sample)[planned.sample.flying :][:room]
        fits = not draft or self._scheduler.extend(planned.sample, len(planned.tokens) + len(draft))
        return draft if fits else []

    def _account(self, rows: list[Row], elapsed: float) -> None:
        waited = self._runner.timings().get("mask_wait", 0.0) / 1e6
        exposed = waited + self._runner.timings().get("apply", 0.0) / 1e6
        self._masks.pace_s = elapsed - waited
        for row in rows:
            row.sample.device_s += elapsed / len(rows)
            row.sample.fill_s += sum(row.fill_s)
            if row.sample.matcher is not None:
                row.sample.exposed_s += exposed

    def _accept(self, row: Row, sampled: Sampled) -> None:
        sample = row.sample
        if sample.epoch == row.epoch:
            sample.flying -= row.logits
        if sample.status is not None:
            self._finish(sample)
        if row.void:
            return
        if row.late:
            sample.retract()
            return
        if row.planned.last:
            accept = self._accept_row if sample.conditional is None else self._hand_over
            sample.guard(lambda: accept(row, sampled))
            if (sample.output or sample.conditional is not None) and sample.first_token is None:
                sample.first_token = time.perf_counter()
                sample.guard(lambda: self._prefilled(sample))
        if sample.question is not None:
            self._ask(sample)
        if sample.status is not None:
            self._finish(sample)

    def _hand_over(self, row: Row, sampled: Sampled) -> None:
        """What was drawn for a row whose text may be taken back at every token."""
        drawn = _drawn(row, sampled)
        note_logprobs(row.sample, drawn.token, self._tokenizer, sampled, row.first)
        if row.sample.conditional is not None:
            row.sample.conditional.take(row.sample, drawn)

    def _accept_row(self, row: Row, sampled: Sampled) -> None:
        """Take what was sampled; what has been launched behind more than that is launched again."""
        self._take(row, sampled)
        if row.sample.missing < 1:
            row.sample.retract()

    def _take(self, row: Row, sampled: Sampled) -> None:
        """Take sampled tokens while they agree with the draft; the first that differs is the last one taken."""
        sample = row.sample
        for offset in range(len(row.draft) + 1):
            if row.legal[offset] == 0:
                sample.status = None if self._steer(sample, stuck=True) else "dead_end"
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
            if not kept:
                sample.pursue(lambda: self._end(sample), ends=True)
                return
            if sample.job.request.sampling.repetition_penalty != 1.0:
                self._runner.mark_seen(sample.slot or 0, [token])
            epoch = sample.epoch
            sample.pursue(lambda: self._reconsider(sample))
            if sample.epoch != epoch or sample.question is not None or sample.status is not None:
                return
            if offset == len(row.draft) or token != row.draft[offset]:
                return
            sample.forced += 1

    def _reconsider(self, sample: Sample) -> None:
        back = self._gone_back(sample, reconsider(sample, self._tokenizer, self._retries))
        sample.opinions.forget()
        if not back:
            settle(sample)

    def _steer(self, sample: Sample, *, stuck: bool = False) -> bool:
        return self._gone_back(sample, steer(sample, self._tokenizer, stuck=stuck))

    def _gone_back(self, sample: Sample, back: bool) -> bool:
        if back and sample.slot is not None and sample.job.request.sampling.repetition_penalty != 1.0:
            self._runner.reset_slot(sample.slot, [*sample.job.prompt, *sample.output])
        return back

    def close(self, sample: Sample) -> None:
        """End a row now (deadline): by grammar where an ending fits, else with an honest status."""
        sample.guard(lambda: sample.pursue(lambda: self._end(sample, overdue=True), ends=True))

    def _end(self, sample: Sample, *, overdue: bool = False) -> None:
        started = time.thread_time()
        try:
            left = AT_ONCE - int(self._closing_s * 1e3)
            close(sample, self._tokenizer, overdue=overdue, pieces=max(1, left))
        finally:
            self._closing_s += time.thread_time() - started
        if sample.closing and sample not in self.writing:
            self.writing.append(sample)


def _wait_for_siblings(rows: list[Row]) -> None:
    """Rows that were launched ahead and may not go on yet."""
    for row in rows:
        if row.sample.waits and not row.void:
            row.sample.retract()


def _drawn(row: Row, sampled: Sampled) -> Drawn:
    """Of a row without a draft."""
    index = row.first
    if sampled.log_mass is None or sampled.log_drawn is None:
        raise ValueError("the step was not asked for masses")
    return Drawn(sampled.token_ids[index], row.legal[0], sampled.log_mass[index], sampled.log_drawn[index])


def _unfinished(sample: Sample) -> bool:
    return sample.matcher is not None and sample.matcher.unfinished


def _ready(sample: Sample) -> bool:
    """Whether the sample's masks can be filled: free text, or its grammar is there, nothing is being judged, no mask
    is being made and no sibling is waited for."""
    if sample.job.grammar is None:
        return True
    if sample.waits:
        return False
    return sample.question is None and sample.matcher is not None and sample.masked and not _unfinished(sample)


def _row_input(row: Row) -> RowInput:
    return RowInput(row.sample.slot or 0, row.fed, row.sample.cached, row.logits)
