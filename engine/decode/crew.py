"""Everything between two steps: admission, prefixes, grammars that became ready, deadlines, cancellations, results.

Owned by the decode thread. Knows jobs and samples; the step itself is the loop's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.config import EngineConfig
from engine.decode.drafts import LONGEST, Drafts
from engine.decode.job import Job, Sample
from engine.decode.judge import Judged, judge
from engine.decode.loop import Loop
from engine.decode.outcome import Identity, job_result, sample_result
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
        """Queue the first sample; its siblings follow once the prompt is in the cache."""
        room = self._runner.max_sequence - len(job.prompt)
        budget = min(job.request.sampling.max_tokens or room, room)
        stop = job.request.sampling.stop
        job.samples = [Sample(job, i, job.seed + i, budget, TextStream(stop)) for i in range(job.request.sampling.n)]
        self._results[job] = {}
        self._scheduler.add(job.samples[0])

    def turn(self) -> bool:
        """One round: reap, admit, make ready, step. False when there was nothing to step."""
        for sample in list(self._scheduler):
            self._reap(sample)
        for sample in self._scheduler.admit():
            self._start(sample)
        for sample in list(self._scheduler.running):
            self._make_ready(sample)
        try:
            return self._loop.step()
        except Exception as error:  # noqa: BLE001 - the device failed: every row fails, the engine goes on
            self._loop.abandon()
            for sample in list(self._scheduler.running):
                sample.status, sample.error = "error", EngineFailure(f"the step failed: {error!r}")
                self._finish(sample)
            return True

    def _reap(self, sample: Sample) -> None:
        """Cancelled and overdue samples end here."""
        job = sample.job
        if job.cancelled or job.future.cancelled():
            sample.status = "cancelled"
            self._finish(sample)
        elif job.deadline is not None and time.perf_counter() > job.deadline:
            self._loop.close(sample)

    def _start(self, sample: Sample) -> None:
        """A slot was given: reuse a known prefix of the prompt."""
        job = sample.job
        sample.started = time.perf_counter()
        slot = sample.slot or 0
        found = self._prefixes.find(job.salt, job.prompt)
        if found is not None:
            handle, length = found
            self._runner.load_prefix(slot, handle, length)
            sample.cached = length
        if job.request.sampling.repetition_penalty != 1.0:
            self._runner.reset_slot(slot, job.prompt)

    def _make_ready(self, sample: Sample) -> None:
        """Once the grammar is compiled: its matcher, or its typed error; a budget under the shortest document."""
        job = sample.job
        if sample.matcher is not None or job.grammar is None or not job.grammar.done():
            return
        try:
            grammar = job.grammar.result()
            if grammar.min_tokens > sample.budget:
                raise BudgetTooSmall(
                    f"max_tokens allows {sample.budget} tokens, the shortest document needs {grammar.min_tokens}",
                    param="max_tokens",
                )
            sample.matcher = grammar.matcher(job.request.id)
        except EngineError as error:
            self._refuse(job, error)
        except Exception as error:  # noqa: BLE001 - our bug in a compilation is that request's error
            self._refuse(job, EngineFailure(f"the grammar could not be compiled: {error!r}"))

    def _refuse(self, job: Job, error: EngineError) -> None:
        """Before admission an error is raised, not a status."""
        for sample in job.samples:
            sample.status = "error"
            self._scheduler.release(sample)
        self._results.pop(job, None)
        self._forget(job)
        if job.future.set_running_or_notify_cancel():
            job.future.set_exception(error)

    def _prefilled(self, sample: Sample) -> None:
        """The prompt is in the cache: keep it for others, and let the siblings in."""
        job = sample.job
        if sample.index == 0 and len(job.samples) > 1:
            self._scheduler.add_next(job.samples[1:])
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
        if sample.index == 0 and sample.first_token is None and sample.status != "complete":
            self._abandon_siblings(sample)  # the last of them may have settled the job
        if len(self._results.get(job, ())) == len(job.samples):
            self._settle(job)

    def _abandon_siblings(self, sample: Sample) -> None:
        for sibling in sample.job.samples[1:]:
            sibling.status, sibling.error = sample.status, sample.error
            self._finish(sibling)

    def _settle(self, job: Job) -> None:
        results = self._results.pop(job)
        self._forget(job)
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(job_result([results[index] for index in sorted(results)]))

    def _result(self, sample: Sample) -> Result:
        started = time.perf_counter()
        emit(sample, sample.text.finish())
        release(sample)
        text = "".join(sample.pieces)
        judged = Judged(Judgement(False))
        if sample.status in ("complete", "closed"):
            data = b"".join(self._tokenizer.token_bytes(token) or b"" for token in sample.output)
            judged = judge(sample.job.request.constraint, sample.job.compiled(), data)
            if not judged.judgement.valid:
                sample.status = "invalid"
        return sample_result(sample, judged, text, time.perf_counter() - started, self._identity)
