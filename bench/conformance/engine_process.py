"""One engine in its own process, so that a schema that hangs or crashes it costs one case and not the run."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any

import numpy
import psutil

from bench.conformance.walk import Walk, walk
from bench.datasets.cases import Case
from bench.datasets.vocabulary import Vocabulary, load_vocabulary
from bench.peers import Compiled, Engine, RefusedError, load_engine

MEMORY_BYTES = 8 << 30
"""What the largest peer needs for the hardest schema of MaskBench that it can take, twice."""
START_S = 300.0
"""A peer builds its tree of 150,000 tokens in less, also beside neighbours."""
POLL_S = 0.25
CLOCK_FACTOR = 10
"""Seconds by the clock that a second of CPU may take, so that a process that waits ends too."""


@dataclass(slots=True)
class Outcome:
    """What one engine did with one case; `walks` has one entry per test."""

    engine: str
    case: str
    compiled: bool = False
    reason: str = ""
    crashed: bool = False
    """Not a refusal: an exception of another kind, a dead process, or a limit of the bench."""
    compile_ms: float = 0.0
    """CPU time of the process; wall time stands beside it."""
    compile_wall_ms: float = 0.0
    again_ms: float = 0.0
    """CPU time of compiling the same schema once more, first matcher included."""
    first_matcher_ms: float = 0.0
    """CPU time of the first matcher, with what an engine makes when it is first needed (ours: the endings' tables)."""
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)

    @property
    def narrowed(self) -> bool:
        """Whether a verdict says that valid documents are left out."""
        return any(verdict["verdict"] in ("narrowed", "refused") for verdict in self.verdicts)


@dataclass(frozen=True, slots=True)
class Settings:
    """How every engine of a run is started and limited; limits are seconds of CPU: a busy machine does not decide."""

    tokenizer: str
    conformance: str = "spec"
    repeats: int = 3
    compile_limit_s: float = 10.0
    walk_limit_s: float = 10.0


class EngineProcess:
    """A process that holds one engine; started by the first case and again after a kill. Call `close`."""

    def __init__(self, engine: str, settings: Settings) -> None:
        self.engine = engine
        self.start_s = 0.0
        self.packages: tuple[str, ...] = ()
        self._settings = settings
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(self, case: Case) -> Outcome:
        """Compile and walk one case; never raises for what the engine does."""
        outcome = Outcome(self.engine, case.name, walks=[Walk() for _ in case.tests])
        pipe = self._pipe or self._start()
        pipe.send(case)
        limit_s = self._settings.compile_limit_s
        reply = self._receive(pipe, limit_s, "compile", outcome)
        if reply is None:
            outcome.compile_ms = outcome.compile_wall_ms = limit_s * 1e3
            return outcome
        for name, value in reply.items():
            setattr(outcome, name, value)
        if not outcome.compiled:
            return outcome
        for index in range(len(case.tests)):
            done = self._receive(pipe, self._settings.walk_limit_s, f"walk of test {index}", outcome)
            if done is None:
                return outcome
            outcome.walks[index] = done
        again = self._receive(pipe, limit_s, "second compile", outcome)
        outcome.again_ms = 0.0 if again is None else again["compile_ms"] + again["first_matcher_ms"]
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _receive(self, pipe: Connection, limit_s: float, what: str, outcome: Outcome) -> Any:
        """The next message; None after a crash or a kill, with the reason written into the outcome."""
        try:
            if self._answers_within(pipe, limit_s):
                return pipe.recv()
            outcome.reason = f"{what} passed {limit_s:g} s"
        except EOFError:
            self._process.join(10)
            outcome.reason = f"process died in {what} (exit code {self._process.exitcode})"
        outcome.crashed = True
        self.close()
        return None

    def _answers_within(self, pipe: Connection, limit_s: float) -> bool:
        """Whether a message comes before the child has used `limit_s` of CPU."""
        child = psutil.Process(self._process.pid)
        used, begun = _cpu_s(child), perf_counter()
        while not pipe.poll(min(limit_s, POLL_S)):
            if _cpu_s(child) - used >= limit_s or perf_counter() - begun >= CLOCK_FACTOR * limit_s:
                return pipe.poll(0)
        return True

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.engine, self._settings), daemon=True)
        self._process.start()
        theirs.close()
        begun = perf_counter()
        try:
            hello = self._pipe.recv() if self._pipe.poll(START_S) else {"failed": f"no answer within {START_S:g} s"}
        except EOFError:
            hello = {"failed": "its process died"}
        if "failed" in hello:
            self.close()
            raise RuntimeError(f"engine {self.engine} did not start: {hello['failed']}")
        self.packages = tuple(hello["packages"])
        self.start_s = self.start_s or perf_counter() - begun
        return self._pipe


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds used so far; without end for a process that has died, whose pipe then tells."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return math.inf
    return float(times.user + times.system)


def _serve(pipe: Connection, name: str, settings: Settings) -> None:
    """The child: quiet on stderr (engines print there from C++), bounded in memory, one case at a time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        vocabulary = load_vocabulary(settings.tokenizer)
        engine = load_engine(name, vocabulary, {"conformance": settings.conformance})
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is its result here
        pipe.send({"failed": f"{type(error).__name__}: {error}"})
        return
    pipe.send({"packages": engine.packages})
    gc.collect()
    gc.freeze()  # as the engine's own processes do: collections leave out what stays
    mask = numpy.zeros((vocabulary.width + 31) // 32, dtype=numpy.int32)
    while True:
        for message in _answers(engine, vocabulary, pipe.recv(), mask, settings.repeats):
            pipe.send(message)


def _answers(engine: Engine, vocabulary: Vocabulary, case: Case, mask: Any, repeats: int) -> Iterator[Any]:
    """First what the compile gave, then one walk a test, at last what a second compile gave."""
    reply, compiled = _compile(engine, case)
    yield reply
    if compiled is not None:
        for test in case.tests:
            yield _walk(engine, compiled, vocabulary, test.text, mask, repeats)
        yield _compile(engine, case)[0]


def _compile(engine: Engine, case: Case) -> tuple[dict[str, Any], Compiled | None]:
    """Fields of the outcome. What fails is timed to the failure; a first matcher counts apart."""
    compiled, reason, crashed, times = None, "", False, [(perf_counter(), process_time())]
    try:
        compiled = engine.compile(case.schema)
        times.append((perf_counter(), process_time()))
        engine.matcher(compiled)
    except RefusedError as refusal:
        compiled, reason = None, str(refusal)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is its result here
        compiled, reason, crashed = None, f"{type(error).__name__}: {error}", True
    times.append((perf_counter(), process_time()))
    (wall, cpu), (wall_then, cpu_then) = times[:2]
    reply = {
        "compiled": compiled is not None,
        "reason": reason,
        "crashed": crashed,
        "compile_ms": (cpu_then - cpu) * 1e3,
        "compile_wall_ms": (wall_then - wall) * 1e3,
        "first_matcher_ms": (times[-1][1] - cpu_then) * 1e3,
        "verdicts": compiled.verdicts if compiled is not None else [],
    }
    return reply, compiled


def _walk(engine: Engine, compiled: Compiled, vocabulary: Vocabulary, text: str, mask: Any, repeats: int) -> Walk:
    """Without collections: their milliseconds would be a mask's."""
    gc.disable()
    try:
        return walk(lambda: engine.matcher(compiled), vocabulary.encode(text), vocabulary.stop_ids, mask, repeats)
    except UnicodeEncodeError:
        return Walk(accepted=False, cause="not UTF-8")
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is its result here
        return Walk(accepted=False, cause=f"{type(error).__name__}: {error}")
    finally:
        gc.enable()
