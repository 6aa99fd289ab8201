"""Everything between two steps: admission, prefixes, grammars that became ready, deadlines, cancellations,
failures, results.

Owned by the decode thread. Knows jobs and samples; the step itself is the loop's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from engine.config import EngineConfig
from engine.decode.drafts import LONGEST, Drafts
from engine.decode.job import Job, Sample, typed
from engine.decode.judge import Judged, judge
from engine.decode.loop import Loop
from engine.decode.outcome import Identity, failed_result, job_result, sample_result
from engine.decode.prefix import PrefixCache
from engine.decode.row import emit, release
from engine.decode.scheduler import Scheduler
from engine.decode.text import TextStream
from engine.errors import BudgetTooSmall, EngineError, EngineFailure
from engine.grammar import Vocabulary
from engine.interfaces import Runner, Tokenizer
from engine.judge import Judgement
from engine.request import Result


class Crew:
    """Scheduler, prefix cache and loop of one engine."""

    def __init__(
        self,
        config: EngineConfig,
        runner: Runner,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        identity: Identity,
        forget: Callable[[Job], None],
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._identity = identity
        self._forget = forget
        self._results: dict[Job, dict[int, Result]] = {}
        self._scheduler = Scheduler(slots=runner.max_batch, prefill_chunk=config.prefill_chunk)
        self._prefixes = PrefixCache(config.prefix_cache_bytes)
        self._loop = Loop(
            runner,
            tokenizer,
            vocabulary,
            self._scheduler,
            Drafts(tokenizer, longest=0 if config.forced_runs == "off" else LONGEST),
            finish=self._finish,
            prefilled=self._prefilled,
            pinned=not runner.device.startswith("cpu"),
            overlap=config.overlap,
            retries=config.limits.retries,
            ahead=not runner.device.startswith("cpu") if config.launch_ahead is None else config.launch_ahead,
        )

    @property
    def busy(self) -> bool:
        return bool(self._scheduler)

    def enter(self, job: Job) -> None:
        """Queue the first sample; its siblings follow once the prompt is in the cache. Never raises."""
        room = self._runner.max_sequence - len(job.prompt)
        params = job.request.sampling
        try:
            budget = min(params.max_tokens or room, room)
            job.samples = [Sample(job, i, job.seed + i, budget, TextStream(params.stop)) for i in range(params.n)]
            self._results[job] = {}
            self._scheduler.add(job.samples[0])
        except BaseException as error:  # noqa: BLE001 - for instance no memory left: this request fails alone
            self._drop(job, typed(error, job))

    def turn(self) -> bool:
        """One round: reap and admit jobs, give slots, step. False when there was nothing to step. Never raises."""
        try:
            for job in list(self._results):
                self._attend(job)
            if self._scheduler.retired:
                self._mend_slots()
            for sample in self._scheduler.admit():
                self._attempt(sample, self._start)
            for sample in self._scheduler.running[:]:
                if sample.matcher is None and sample.job.grammar is not None and sample.job.admitted:
                    self._attempt(sample, self._make_ready)
            return self._step()
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
            return True

    def _attempt(self, sample: Sample, work: Callable[[Sample], None]) -> None:
        sample.guard(lambda: work(sample))
        if sample.status is not None:
            self._finish(sample)

    def _attend(self, job: Job) -> None:
        """Cancelled and overdue jobs end here, and those whose grammar turned out to be none."""
        going = [sample for sample in job.samples if sample.index not in self._results[job]]
        if job.cancelled or job.future.cancelled():
            for sample in going:
                sample.status = "cancelled"
                self._finish(sample)
        elif job.deadline is not None and time.perf_counter() > job.deadline:
            for sample in going:
                self._loop.close(sample)
        elif not job.admitted and not job.compiling:
            self._admit(job)

    def _admit(self, job: Job) -> None:
        """Once the grammar is compiled: its typed error; or a budget under the shortest document."""
        job.admitted = True
        try:
            grammar = job.compiled()
            budget = job.samples[0].budget
            if grammar is not None and grammar.min_tokens > budget:
                raise BudgetTooSmall(
                    f"max_tokens allows {budget} tokens, the shortest document needs {grammar.min_tokens}",
                    param="max_tokens",
                )
        except EngineError as error:
            self._drop(job, error)
        except BaseException as error:  # noqa: BLE001 - our bug in a compilation is that request's error
            self._drop(job, EngineFailure(f"the grammar could not be compiled: {error!r}"))

    def _start(self, sample: Sample) -> None:
        """A slot was given: reuse a known prefix of the prompt."""
        job, slot = sample.job, sample.slot or 0
        sample.started = sample.started or time.perf_counter()
        found = self._prefixes.find(job.salt, job.prompt)
        if found is not None:
            handle, length = found
            self._runner.load_prefix(slot, handle, length)
            sample.cached = length
        if job.request.sampling.repetition_penalty != 1.0:
            self._runner.reset_slot(slot, [*job.prompt, *sample.output])

    def _make_ready(self, sample: Sample) -> None:
        grammar = sample.job.compiled()
        if grammar is not None:
            sample.matcher = grammar.matcher(sample.job.request.id)

    def _prefilled(self, sample: Sample) -> None:
        """The prompt is in the cache: let the siblings in, and keep it for them and for others."""
        job = sample.job
        if sample.index == 0:
            self._scheduler.add(*job.samples[1:])
        if sample.index == 0 and self._prefixes.wants(job.salt, job.prompt):
            self._prefixes.store(job.salt, job.prompt, self._runner.save_prefix(sample.slot or 0, len(job.prompt)))

    def _finish(self, sample: Sample) -> None:
        """Judge an ended sample, free its slot; the last sample of a job settles its future."""
        job = sample.job
        if job not in self._results or sample.index in self._results[job]:
            return
        sample.ended = time.perf_counter()
        self._scheduler.release(sample)
        self._results[job][sample.index] = self._result(sample)
        if sample.error is not None:
            self._clean(sample)
        if sample.index == 0 and sample.first_token is None and sample.status != "complete":
            self._without_first(sample)  # the last of the siblings may settle the job
        if len(self._results.get(job, ())) == len(job.samples):
            results = self._results[job]
            self._drop(job, job_result([results[index] for index in sorted(results)]))

    def _without_first(self, sample: Sample) -> None:
        """The siblings of a sample that ended before its first token: an error is its own, anything else is theirs."""
        siblings = sample.job.samples[1:]
        if sample.status == "error":
            self._scheduler.add(*siblings)
            return
        for sibling in siblings:
            sibling.status = sample.status
            self._finish(sibling)

    def _drop(self, job: Job, outcome: Result | EngineError) -> None:
        """The job is over: nothing of it waits or runs. Its future raises an error, or has the Result."""
        self._results.pop(job, None)
        try:
            for sample in job.samples:
                sample.status = sample.status or "error"
                self._scheduler.release(sample)
        finally:
            self._forget(job)
            job.settle(outcome)

    def _clean(self, sample: Sample) -> None:
        """After a failure the slot is made as new; where that fails too, nobody gets it until it can be done."""
        if sample.slot is not None and not self._reset(sample.slot):
            self._scheduler.retire(sample.slot)

    def _mend_slots(self) -> None:
        """Take retired slots back, where the device has recovered. Without any slot those who wait fail."""
        for slot in self._scheduler.retired[:]:
            if self._reset(slot):
                self._scheduler.restore(slot)
        for sample in self._scheduler.starving:
            sample.fail(EngineFailure("the device has failed: none of its slots can be used"))
            self._finish(sample)

    def _reset(self, slot: int) -> bool:
        try:
            self._runner.reset_slot(slot)
        except BaseException:  # noqa: BLE001 - whatever it is, this slot does not work
            return False
        return True

    def _result(self, sample: Sample) -> Result:
        """The sample's Result; what goes wrong while it is judged and handed on is the sample's error."""
        started = time.perf_counter()
        judged = Judged(Judgement(False))
        try:
            emit(sample, sample.text.finish())
            release(sample)
            if sample.status in ("complete", "closed"):
                judged = self._judged(sample)
        except BaseException as error:  # noqa: BLE001 - a listener, or the judge: this sample fails alone
            sample.fail(error)
        spent = time.perf_counter() - started
        return sample_result(sample, judged, "".join(sample.pieces), spent, self._identity)

    def _judged(self, sample: Sample) -> Judged:
        data = b"".join(self._tokenizer.token_bytes(token) or b"" for token in sample.output)
        judged = judge(sample.job.request.constraint, sample.job.compiled(), data)
        if not judged.judgement.valid:
            sample.status = "invalid"
        return judged
