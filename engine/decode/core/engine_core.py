"""Everything between two steps: admission, prefixes, grammars that became ready, deadlines, cancellations,
failures, results.

Owned by the decode thread. Knows jobs and samples; the step itself is the loop's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from engine.checks.row_checks import RowChecks
from engine.config import EngineConfig
from engine.decode.particles.samples import samples_of
from engine.decode.requests.admission import refusal
from engine.decode.requests.job import Job, Sample, typed
from engine.decode.requests.judge import Judged, Judging
from engine.decode.requests.outcome import Identity, failed_result, job_result, sample_result
from engine.decode.scheduling.prompts import Prompts
from engine.decode.scheduling.scheduler import Scheduler
from engine.decode.scheduling.slots import Slots
from engine.decode.step.drafts import LONGEST, Drafts
from engine.decode.step.loop import Loop
from engine.decode.step.mask_maker import MaskMaker
from engine.decode.step.row import emit, release
from engine.errors import EngineError, EngineFailure
from engine.grammar import FollowedStrings, Vocabulary
from engine.interfaces import Runner, Tokenizer
from engine.judge import Judgement
from engine.request import Result
from engine.schema.reading.contents import SYNTAX

_ENDING_S = 0.5
"""What looking for an ending and writing it may last beyond the deadline; what is longer does not fit."""
_CLOSING_S = 0.005
"""Of processor time, for one turn, in which cancelled and overdue rows are ended; the others go on for a step."""
_CHUNKS = 4
"""On an accelerator, chunks of prompts in a step that no decoding row waits for: a token costs less in a longer step.
On a CPU it costs the same, and nobody gains from a step that takes four times as long."""


class EngineCore:
    """Scheduler, prefix cache and loop of one engine."""

    def __init__(
        self,
        config: EngineConfig,
        runner: Runner,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        identity: Identity,
        judging: Judging,
        maker: MaskMaker,
        forget: Callable[[Job], None],
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._identity = identity
        self._judging = judging
        self._forget = forget
        self._limits = config.limits
        self._results: dict[Job, dict[int, Result]] = {}
        self._prompts = Prompts(runner, config.prefix_cache_bytes)
        accelerated = not runner.device.startswith("cpu")
        self._scheduler = Scheduler(
            slots=runner.max_batch, prefill_chunk=config.prefill_chunk, undisturbed=_CHUNKS if accelerated else 1,
            blocks=runner.blocks, prompts=self._prompts,
        )  # fmt: skip
        self._slots = Slots(runner, self._scheduler)
        self._loop = Loop(
            runner,
            tokenizer,
            vocabulary,
            self._scheduler,
            Drafts(tokenizer, longest=0 if config.forced_runs == "off" else LONGEST),
            maker,
            finish=self._finish,
            ask=judging.ask,
            prefilled=self._prefilled,
            pinned=accelerated,
            overlap=config.overlap,
            retries=config.limits.retries,
            ahead=accelerated if config.launch_ahead is None else config.launch_ahead,
        )

    @property
    def busy(self) -> bool:
        return bool(self._scheduler) or bool(self._judging) or bool(self._loop.writing)

    def enter(self, job: Job) -> None:
        """Queue the first sample; its siblings follow once the prompt is in the cache. Never raises."""
        room = self._runner.max_sequence - len(job.prompt)
        params = job.request.sampling
        try:
            budget = min(params.max_tokens or room, room)
            job.samples = samples_of(job, budget, self._runner, self._limits)
            self._results[job] = {}
            self._scheduler.add(job.samples[0])
        except BaseException as error:  # noqa: BLE001 - for instance no memory left: this request fails alone
            self._drop(job, typed(error, job))

    def tick(self) -> bool:
        """One round: reap and admit jobs, give slots, step. False when there was nothing to step. Never raises."""
        try:
            self._loop.begin_turn()
            self._hear()
            closing_until = time.thread_time() + _CLOSING_S
            for job in list(self._results):
                self._attend(job, closing_until)
            for sample in self._slots.mend() if self._scheduler.retired else ():
                sample.fail(EngineFailure("the device has failed: none of its slots can be used"))
                self._finish(sample)
            for sample in self._scheduler.admit():
                self._attempt(sample, self._start)
            for sample in self._scheduler.running[:]:
                if sample.matcher is None and sample.job.grammar is not None and sample.job.admitted:
                    self._attempt(sample, self._make_ready)
            ended_all = time.thread_time() < closing_until
            return self._step() or not ended_all
        except BaseException as error:  # noqa: BLE001 - a bug of ours: everybody is answered, and the thread lives
            self._loop.abandon()
            for job in list(self._results):
                failed = failed_result(job.request.id, typed(error, job), self._identity, len(job.prompt))
                with suppress(BaseException):
                    self._drop(job, failed)
            return True

    def _step(self) -> bool:
        try:
            return self._loop.step()
        except BaseException as error:  # noqa: BLE001 - the device failed: the rows of that step fail, the others go on
            for sample in self._loop.abandon() or self._scheduler.running[:]:
                sample.fail(EngineFailure(f"the step failed: {error!r}"))
                self._finish(sample)
                self._record(sample, Judged(Judgement(False)))
            return True

    def _hear(self) -> None:
        """What the judge has answered: rows go on, or are over."""
        for sample in self._judging.answered():
            self._judging.ask(sample)
            if sample.status is not None:
                self._finish(sample)
        for sample, judged in self._judging.judged():
            if sample.error is None and not judged.judgement.valid:
                sample.status = "invalid"
            self._record(sample, judged)

    def _attempt(self, sample: Sample, work: Callable[[Sample], None]) -> None:
        sample.guard(lambda: work(sample))
        if sample.status is not None:
            self._finish(sample)

    def _attend(self, job: Job, closing_until: float) -> None:
        """Cancelled and overdue jobs end here, and those whose grammar turned out to be none."""
        if job.cancelled or job.future.cancelled():
            for sample in self._going(job):
                if time.thread_time() >= closing_until:
                    return
                self._judging.drop(sample)
                sample.status = "cancelled"
                self._finish(sample)
                self._record(sample, Judged(Judgement(False)))
        elif job.overdue():
            for sample in self._going(job):
                if sample.ended is None and time.thread_time() < closing_until:
                    self._close(sample)
        elif not job.admitted and not job.compiling:
            job.admitted = True
            if (error := refusal(job)) is not None:
                self._drop(job, error)

    def _going(self, job: Job) -> list[Sample]:
        return [sample for sample in job.samples if sample.index not in self._results[job]]

    def _close(self, sample: Sample) -> None:
        """The deadline has passed. A row that has ended but for a look of the judge has ended."""
        asked = sample.question
        if sample.conditional is not None and sample.status is None:  # no ending is forced upon it
            sample.status = "timeout"
            self._finish(sample)
        if sample.closing and sample.job.overdue(_ENDING_S):
            sample.status, sample.ending, sample.sought = "timeout", [], None
            self._finish(sample)
        if sample.status is not None or sample.closing or (asked is not None and asked.ends):
            return
        self._judging.drop(sample)
        if asked is not None and asked.status is not None:
            sample.status = asked.status
        else:
            self._loop.close(sample)
            self._judging.ask(sample)
        if sample.status is not None:
            self._finish(sample)

    def _start(self, sample: Sample) -> None:
        """A slot was given: reuse a known prefix of the prompt."""
        job = sample.job
        sample.started = sample.started or time.perf_counter()
        self._prompts.begin(sample)
        if job.request.sampling.repetition_penalty != 1.0:
            self._runner.reset_slot(sample.slot or 0, [*job.prompt, *sample.output])

    def _make_ready(self, sample: Sample) -> None:
        grammar = sample.job.compiled()
        if grammar is not None:
            sample.matcher = grammar.matcher(sample.job.request.id)
            asks = grammar.judge is not None or sample.conditional is not None
            sample.matcher.judge = sample.opinions if asks else None
            if (languages := sample.job.languages) is not None:
                sample.matcher.strings = FollowedStrings(languages)
                checked = {verdict.keyword for verdict in grammar.verdicts if verdict.verdict == "checked"}
                sample.around_strings = sample.conditional is None and checked <= set(SYNTAX) and languages.alone
            sample.matcher.checks = sample.checks = RowChecks(sample.job.checks) if sample.job.checks else None

    def _prefilled(self, sample: Sample) -> None:
        """The prompt is in the cache: let the siblings in, and keep it for them and for others."""
        if sample.index == 0:
            self._scheduler.add(*sample.job.samples[1:])
            self._prompts.keep(sample)

    def _finish(self, sample: Sample) -> None:
        """The sample has ended. Others may end with it."""
        if sample.conditional is None:
            self._end(sample)
            return
        over, answered = sample.conditional.dissolve(sample)
        for other in over:
            self._judging.drop(other)
            self._scheduler.release(other)
            if sample.error is not None:
                self._slots.clean(other)
        for other in answered:
            self._end(other)

    def _end(self, sample: Sample) -> None:
        """Free the slot of an ended sample, hand on the rest of its text and have it judged."""
        job = sample.job
        if job not in self._results or sample.ended is not None:
            return
        sample.ended = time.perf_counter()
        self._scheduler.release(sample)
        self._hand_on(sample)
        if sample.error is not None:
            self._slots.clean(sample)
        if sample.index == 0 and sample.first_token is None:  # what ended it is its own, or will end its siblings too
            self._scheduler.add(*job.samples[1:])
        if sample.status in ("complete", "closed") and job.request.constraint is not None:
            data = b"".join(self._tokenizer.token_bytes(token) or b"" for token in sample.output)
            sample.guard(lambda: self._judging.end(sample, data))
        if sample not in self._judging:
            self._record(sample, Judged(Judgement(valid=job.request.constraint is None)))

    def _record(self, sample: Sample, judged: Judged) -> None:
        """The sample's Result; the last one of a job settles its future."""
        job, results = sample.job, self._results.get(sample.job)
        if results is None or sample.index in results or sample not in job.samples:
            return
        results[sample.index] = sample_result(sample, judged, "".join(sample.pieces), sample.text_s, self._identity)
        if len(results) == len(job.samples):
            self._drop(job, job_result([results[index] for index in sorted(results)]))

    def _drop(self, job: Job, outcome: Result | EngineError) -> None:
        """The job is over: nothing of it waits or runs. Its future raises an error, or has the Result."""
        self._results.pop(job, None)
        self._prompts.drop(job)
        try:
            for sample in job.samples:
                self._judging.drop(sample)
                sample.status = sample.status or "error"
                self._scheduler.release(sample)
        finally:
            self._forget(job)
            job.settle(outcome)
            job.samples = []  # a circle otherwise, which only a full collection would find

    def _hand_on(self, sample: Sample) -> None:
        """What is left of its text; a listener that raises is the sample's error."""
        started = time.perf_counter()
        try:
            if sample.conditional is not None:
                if sample.status != "complete":
                    del sample.output[:], sample.logprobs[:]  # what was proposed has not been drawn
                for token in sample.output:
                    emit(sample, sample.text.feed(self._tokenizer.token_bytes(token) or b""))
            emit(sample, sample.text.finish())
            release(sample)
        except BaseException as error:  # noqa: BLE001 - this sample fails alone
            sample.fail(error)
        sample.text_s = time.perf_counter() - started
