"""The engine: submit requests, get futures, close. Everything that decodes runs in one thread.

Errors of the request itself are raised by `submit`; errors that appear while its grammar compiles come through the
future; after admission every outcome is a status.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Unpack

from engine import __version__
from engine.checks.languages import languages_of
from engine.checks.row_checks import verdicts_of
from engine.checks.service import CheckService
from engine.config import EngineConfig
from engine.decode.calls import Calls
from engine.decode.core.engine_core import EngineCore
from engine.decode.core.inbox import Inbox
from engine.decode.core.process import settle
from engine.decode.core.thread import DecodeThread
from engine.decode.requests.job import Job, OnText, Trace
from engine.decode.requests.judge import Judging
from engine.decode.requests.outcome import Identity
from engine.decode.requests.prompt import encode_prompt
from engine.decode.step.mask_maker import MaskMaker
from engine.decode.step.sampler import draw_seed
from engine.errors import EngineError, RequestError
from engine.grammar import GrammarService
from engine.grammar.check import Checking
from engine.judge.service import JudgeService
from engine.model.loaded_model import LoadedModel, Progress
from engine.model.loader import load
from engine.options import EngineOptions
from engine.request import Constraint, Request, Result, SamplingParams
from engine.schema_source import SchemaSource


class Engine(Calls):
    """One model, loaded; a context manager. Constructing loads; methods may be called from any thread."""

    def __init__(
        self,
        config: EngineConfig | str | None = None,
        *,
        model: str | None = None,
        loaded: LoadedModel | None = None,
        progress: Progress | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        """A config, or in short form a model's name and fields of EngineConfig. Raises RequestError, ModelError.

        `loaded` is a model loaded elsewhere (tests, studies); `progress(phase)` is called as each phase begins.
        """
        self.config = _config(config, model, options)
        self.checks = CheckService(self.config.limits, self.config.checks)
        self.checks.start()
        self.loaded = loaded or load(self.config, progress)
        self.tokenizer = self.loaded.tokenizer
        runner = self.loaded.runner
        started = time.perf_counter()
        self.grammars = GrammarService(self.tokenizer, runner.vocab_size, config=self.config)
        self.loaded.phases["vocabulary"] = time.perf_counter() - started
        self.identity = Identity(self.loaded.name, runner.quantization, __version__, runner.device)
        self._inbox = Inbox(slots=runner.max_batch, queue=self.config.limits.queue)
        self.judge = JudgeService(self.config.limits)
        self.judge.start()
        judging = Judging(self.judge, self.checks, self._inbox.wake)
        vocabulary = self.grammars.vocabulary
        maker = MaskMaker(self._inbox.wake)
        core = EngineCore(
            self.config, runner, self.tokenizer, vocabulary, self.identity, judging, maker, self._inbox.forget
        )
        settle()
        closing = (self.judge.close, self.checks.close, maker.close, self.grammars.close, runner.close)
        self._thread = DecodeThread(core, self._inbox, *closing)
        self._thread.start()
        weakref.finalize(self, self._inbox.close, drain=True).atexit = False

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish what runs; after an exception (Ctrl-C) cancel it: nobody will ask for it."""
        self.close(drain=kind is None)

    @property
    def ready(self) -> bool:
        """Loaded, open, and its decode thread alive."""
        return not self._inbox.closing and self._thread.is_alive()

    def stalled_s(self) -> float:
        """Seconds the turn that is running now has taken; 0 between turns. For a watchdog: takes no lock."""
        return self._thread.stalled_s()

    def submit(
        self,
        request: Request,
        *,
        owner: str | None = None,
        on_text: OnText | None = None,
        trace: Trace | None = None,
        stats: bool = False,
    ) -> Future[Result]:
        """Queue a request. Raises RequestError, QueueFull, NotReady at once; ConstraintError through the future.

        `owner` is whoever asks (an API key's label): rows are shared fairly between owners, and the request's id is its
        owner's alone. `on_text(sample, text)` and `trace(record)` are called from the decode thread: return quickly.
        `stats` measures feasible mass and entropies for the trace. Cancelling the future frees the slot within a step.
        """
        return self._entered(self._job(request, owner, on_text, trace, stats)).future

    def refuse_when_full(self, count: int, *, owner: str | None = None) -> None:
        """NotReady, or QueueFull where so many more requests of this owner would not all be taken."""
        self._inbox.refuse_when_full(owner, count)

    def _job(
        self,
        request: Request,
        owner: str | None = None,
        on_text: OnText | None = None,
        trace: Trace | None = None,
        stats: bool = False,
    ) -> Job:
        """The request with its prompt encoded and its grammar on the way."""
        if not isinstance(request, Request):
            kind = type(request).__name__
            raise RequestError(
                f"a Request is wanted, got {kind}; generate and stream take a prompt too", param="request"
            )
        self._refuse_method(request.sampling, traced=trace is not None)
        self._inbox.refuse_when_full(owner)
        checks = self.checks.checks_of(request.constraint)
        prompt = encode_prompt(
            request,
            self.tokenizer,
            max_sequence=self.loaded.runner.max_sequence,
            max_bytes=self.config.limits.prompt_bytes,
        )
        seed = request.sampling.seed if request.sampling.seed is not None else draw_seed()
        constraint = request.constraint
        grammar = self.grammars.submit(constraint.unchecked, owner=owner) if constraint is not None else None
        job = Job(request, prompt, seed, grammar, Future(), owner, on_text, trace, stats, keeper=self, checks=checks)
        job.languages = languages_of(constraint, self.config.limits)
        wake = self._inbox.wake
        job.future.add_done_callback(lambda _: wake())
        if grammar is not None:
            grammar.add_done_callback(lambda _: wake())
        return job

    def _refuse_method(self, params: SamplingParams, *, traced: bool) -> None:
        """RequestError where this engine cannot draw so."""
        rows = self.loaded.runner.max_batch
        if params.method == "smc" and params.particles > rows:
            raise RequestError(
                f"particles is {params.particles}, and this engine decodes {rows} rows together (max_batch)",
                param="particles",
            )
        if params.method != "mask" and traced:
            raise RequestError(f"a trace is of method 'mask', not {params.method!r}", param="trace")

    def _entered(self, job: Job) -> Job:
        try:
            self._inbox.put(job)
        except EngineError as error:
            job.settle(error)  # what was begun for it stops
            raise
        return job

    def cancel(self, request_id: str, *, owner: str | None = None) -> bool:
        """Ask for a request's end: its Result comes with status `cancelled`. False when not in flight."""
        return self._inbox.cancel(request_id, owner)

    def finish_now(self) -> None:
        """End everything in flight as its deadline would end it: documents by their grammar, free text as it is."""
        self._inbox.finish_now()

    def in_flight(self) -> list[str]:
        """Ids of the requests that have been accepted and not answered."""
        return self._inbox.ids()

    def check(self, schema: SchemaSource | Constraint | None = None, **options: Any) -> dict[str, Any]:
        """The verdicts of a constraint, as `maskloop check --json` prints them: a Constraint, a schema, or one of
        `regex=`, `ebnf=`, `lark=`, `choice=`, `structural_tag=`, and its options. Never raises for a refused one."""
        if not isinstance(schema, Constraint):
            schema, options = Constraint.demanded({"schema": schema, **options}), {}
        elif options:
            raise RequestError(f"{next(iter(options))} is already said in the Constraint", param=next(iter(options)))
        return self._checking(schema, None).report()

    def submit_check(self, constraint: Constraint, *, owner: str | None = None) -> Checking:
        """The same for any constraint, without waiting; it counts as `owner`'s. Raises QueueFull, NotReady."""
        self._inbox.refuse_when_full(owner)
        return self._checking(constraint, owner)

    def _checking(self, constraint: Constraint, owner: str | None) -> Checking:
        checks = self.checks.checks_of(constraint)
        return Checking(constraint, self.grammars.submit(constraint.unchecked, owner=owner), verdicts_of(checks))

    def warmup(self, constraints: Sequence[Constraint] = ()) -> dict[str, float]:
        """Compile these constraints (in parallel); milliseconds by schema hash."""
        futures = [(constraint, self.grammars.submit(constraint.unchecked)) for constraint in constraints]
        return {constraint.schema_hash: future.result().compile_ms for constraint, future in futures}

    def info(self) -> dict[str, Any]:
        """Model, device, versions, load phases and what is in flight, as plain JSON types."""
        runner = self.loaded.runner
        return {
            "model": self.loaded.name,
            "revision": self.loaded.revision,
            "quantization": runner.quantization,
            "device": runner.device,
            "engine_version": __version__,
            "max_batch": runner.max_batch,
            "max_sequence": runner.max_sequence,
            "vocab_size": runner.vocab_size,
            "load_s": {name: round(seconds, 3) for name, seconds in self.loaded.phases.items()},
            "in_flight": len(self._inbox),
            "ready": self.ready,
        }

    def close(self, *, drain: bool = True) -> None:
        """Stop. With `drain` everything accepted is finished first, otherwise it is cancelled. Idempotent."""
        self._inbox.close(drain=drain)
        self._thread.join()


def _config(config: EngineConfig | str | None, model: str | None, options: EngineOptions) -> EngineConfig:
    if isinstance(config, EngineConfig):
        if model is not None or options:
            raise RequestError("give either an EngineConfig or its single fields", param="config")
        return config
    if config is not None and model is not None:
        raise RequestError("the model is named twice", param="model")
    name = model if config is None else config
    return EngineConfig.from_mapping({**options, **({} if name is None else {"model": name})})
