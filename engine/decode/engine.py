"""The engine as callers see it: submit requests, get futures, close. Everything that decodes runs in one thread.

Errors of the request itself are raised by `submit`; errors that appear while its grammar compiles come through the
future; after admission every outcome is a status.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from engine import __version__
from engine.config import EngineConfig
from engine.decode.crew import Crew
from engine.decode.interpreter import settle
from engine.decode.job import Job, OnText, Trace
from engine.decode.outcome import Identity, failed_result
from engine.decode.prompt import encode_prompt
from engine.decode.sampler import draw_seed
from engine.errors import EngineError, NotReady, QueueFull
from engine.grammar import CompiledGrammar, GrammarService
from engine.grammar.check import check_schema
from engine.model.loader import LoadedModel, Progress, load
from engine.request import Constraint, Request, Result


class Engine:
    """One model, loaded; a context manager. Constructing loads; methods may be called from any thread."""

    def __init__(
        self, config: EngineConfig | None = None, *, model: LoadedModel | None = None, progress: Progress | None = None
    ) -> None:
        """`model` injects a loaded model (tests, studies); otherwise `config.model` is loaded. Raises ModelError."""
        self.config = config or EngineConfig()
        self.loaded = model or load(self.config, progress)
        self.tokenizer = self.loaded.tokenizer
        runner = self.loaded.runner
        started = time.perf_counter()
        self.grammars = GrammarService(self.tokenizer, runner.vocab_size, config=self.config)
        self.loaded.phases["vocabulary"] = time.perf_counter() - started
        self.identity = Identity(self.loaded.name, runner.quantization, __version__, runner.device)
        self._wake = threading.Condition()
        self._inbox: list[Job] = []
        self._jobs: set[Job] = set()
        self._closing = False
        self._turn_since: float | None = None
        self._crew = Crew(self.config, runner, self.tokenizer, self.grammars.vocabulary, self.identity, self._forget)
        settle()
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Loaded, open, and its decode thread alive."""
        return not self._closing and self._thread.is_alive()

    def stalled_s(self) -> float:
        """Seconds the turn that is running now has taken; 0 between turns. For a watchdog: takes no lock."""
        since = self._turn_since
        return 0.0 if since is None else time.monotonic() - since

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
        self._refuse_when_unable()
        prompt = encode_prompt(
            request,
            self.tokenizer,
            max_sequence=self.loaded.runner.max_sequence,
            max_bytes=self.config.limits.prompt_bytes,
        )
        seed = request.sampling.seed if request.sampling.seed is not None else draw_seed()
        grammar = self.grammars.submit(request.constraint) if request.constraint is not None else None
        job = Job(request, prompt, seed, grammar, Future(), owner, on_text, trace, stats)
        if grammar is not None:
            grammar.add_done_callback(self._compiled)
        with self._wake:
            self._refuse_when_unable()
            self._jobs.add(job)
            self._inbox.append(job)
            self._wake.notify()
        job.future.add_done_callback(lambda _: self._notify())
        return job.future

    def generate(self, request: Request) -> Result:
        """Submit and wait. Raises what `submit` raises and what its future holds."""
        return self.submit(request).result()

    def generate_batch(self, requests: Sequence[Request]) -> list[Result]:
        """Results in order; what would raise becomes a Result with status `error` in its place."""
        return list(self.generate_each(requests))

    def generate_each(self, requests: Sequence[Request]) -> Iterator[Result]:
        """The same as an iterator, never more than a queue's worth in flight."""
        window = max(1, min(self.config.limits.queue, 2 * self.loaded.runner.max_batch))
        flying: list[tuple[Request, Future[Result] | EngineError]] = []
        for request in requests:
            if len(flying) >= window:
                yield self._settled(*flying.pop(0))
            try:
                flying.append((request, self.submit(request)))
            except EngineError as error:
                flying.append((request, error))
        for entry in flying:
            yield self._settled(*entry)

    def _settled(self, request: Request, outcome: Future[Result] | EngineError) -> Result:
        if isinstance(outcome, EngineError):
            return failed_result(request.id, outcome, self.identity)
        try:
            return outcome.result()
        except EngineError as error:
            return failed_result(request.id, error, self.identity)

    def stream(self, request: Request, *, owner: str | None = None) -> Iterator[str | Result]:
        """Pieces of text (sample 0's), the Result last. Leaving the iterator early cancels the request."""
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        future = self.submit(
            request, owner=owner, on_text=lambda sample, text: pieces.put(text) if sample == 0 else None
        )
        future.add_done_callback(lambda _: pieces.put(None))
        return self._pieces(pieces, future)

    def _pieces(self, pieces: queue.SimpleQueue[str | None], future: Future[Result]) -> Iterator[str | Result]:
        try:
            while (piece := pieces.get()) is not None:
                yield piece
            yield future.result()
        finally:
            future.cancel()

    def cancel(self, request_id: str, *, owner: str | None = None) -> bool:
        """Ask for a request's end: its Result comes with status `cancelled`. False when not in flight."""
        with self._wake:
            found = [job for job in self._jobs if (job.owner, job.request.id) == (owner, request_id)]
            for job in found:
                job.cancelled = True
            self._wake.notify()
        return bool(found)

    def in_flight(self) -> list[str]:
        """Ids of the requests that have been accepted and not answered."""
        with self._wake:
            return [job.request.id for job in self._jobs]

    def check(self, schema: Mapping[str, Any] | bool | str, **options: Any) -> dict[str, Any]:
        """The verdicts of a schema, as `maskloop check --json` prints them. Never raises for a refused schema."""
        return check_schema(self.grammars, schema, **options)

    def warmup(self, constraints: Sequence[Constraint] = ()) -> dict[str, float]:
        """Compile these constraints (in parallel), later what most schemas share; milliseconds by schema hash."""
        futures = [(constraint, self.grammars.submit(constraint)) for constraint in constraints]
        taken = {constraint.schema_hash: future.result().compile_ms for constraint, future in futures}
        self.grammars.warm()
        return taken

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
            "in_flight": len(self._jobs),
            "ready": self.ready,
        }

    def close(self, *, drain: bool = True) -> None:
        """Stop. With `drain` everything accepted is finished first, otherwise it is cancelled. Idempotent."""
        with self._wake:
            self._closing = True
            if not drain:
                for job in self._jobs:
                    job.cancelled = True
            self._wake.notify()
        self._thread.join()
        self.grammars.close()
        self.loaded.runner.close()

    def _refuse_when_unable(self) -> None:
        if not self.ready:
            raise NotReady("the engine has been closed" if self._closing else "the decode thread has ended")
        waiting = len(self._jobs) - self.loaded.runner.max_batch
        if waiting >= self.config.limits.queue:
            raise QueueFull(f"{waiting} requests are waiting already (limits.queue); try again later", param="queue")

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    def _compiled(self, grammar: Future[CompiledGrammar]) -> None:
        self._notify()
        if not grammar.cancelled() and grammar.exception() is None:
            grammar.result().when_loaded(self._notify)

    def _forget(self, job: Job) -> None:
        with self._wake:
            self._jobs.discard(job)

    def _run(self) -> None:
        """The decode thread: take what came in, step, and sleep when there is nothing to do."""
        stepped = True
        while True:
            with self._wake:
                while not self._inbox and not self._closing and (not self._crew.busy or not stepped):
                    if not self._wake.wait(timeout=0.05 if self._crew.busy else None):
                        break
                if self._closing and not self._jobs:
                    return
                arrived, self._inbox = self._inbox, []
            for job in arrived:
                self._crew.enter(job)
            self._turn_since = time.monotonic()
            stepped = self._crew.turn()
            self._turn_since = None
