"""One engine in its own process, so that a schema that hangs or crashes it costs one case and not the run.

Knows processes, limits and the order of messages. Knows nothing of figures.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any

import numpy
import psutil

from bench.cases import Case
from bench.peers import Compiled, Engine, RefusedError, load_engine
from bench.replay import Walk, walk
from bench.vocabulary import Vocabulary, load_vocabulary

MEMORY_BYTES = 8 << 30
START_S = 300.0
POLL_S = 0.25


@dataclass(slots=True)
class Outcome:
    """What one engine did with one case. `accepted` has one entry per test: True, False, or None where it never ran."""

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
    accepted: list[bool | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    fill_us: list[list[float]] = field(default_factory=list)
    accept_us: list[list[float]] = field(default_factory=list)
    first_us: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Settings:
    """How every engine of a run is started and limited."""

    tokenizer: str
    conformance: str = "spec"
    repeats: int = 3
    compile_limit_s: float = 10.0
    """Seconds of CPU, so that a busy machine does not decide; ten times as many by the clock."""
    walk_limit_s: float = 10.0


class Worker:
    """A process that holds one engine; started by the first case and again after a kill. Call `close`."""

    def __init__(self, engine: str, settings: Settings) -> None:
        self.engine = engine
        self.start_s = 0.0
        self.versions: tuple[str, ...] = ()
        self._settings = settings
        self._process: Any = None
        self._pipe: Connection | None = None

    def run(self, case: Case) -> Outcome:
        """Compile and walk one case; never raises for what the engine does."""
        outcome = Outcome(self.engine, case.name, accepted=[None] * len(case.tests))
        outcome.fill_us, outcome.accept_us = [[] for _ in case.tests], [[] for _ in case.tests]
        outcome.first_us = [[] for _ in case.tests]
        outcome.tokens, outcome.causes = [0] * len(case.tests), [""] * len(case.tests)
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        self._pipe.send(case)
        reply = self._receive(self._settings.compile_limit_s, "compile", outcome)
        if reply is None:
            return outcome
        for name, value in reply.items():
            setattr(outcome, name, value)
        if outcome.compiled:
            self._walks(case, outcome)
        if outcome.compiled and self._pipe is not None:
            again = self._receive(self._settings.compile_limit_s, "second compile", outcome)
            outcome.again_ms = 0.0 if again is None else again["again_ms"]
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _walks(self, case: Case, outcome: Outcome) -> None:
        for index in range(len(case.tests)):
            reply = self._receive(self._settings.walk_limit_s, f"walk of test {index}", outcome)
            if reply is None:
                return
            outcome.accepted[index] = reply["accepted"]
            outcome.tokens[index], outcome.causes[index] = reply["tokens"], reply["cause"]
            outcome.fill_us[index], outcome.accept_us[index] = reply["fill_us"], reply["accept_us"]
            outcome.first_us[index] = reply["first_us"]

    def _receive(self, limit_s: float, what: str, outcome: Outcome) -> dict[str, Any] | None:
        """The next message; None after a crash or a kill, with the reason written into the outcome."""
        assert self._pipe is not None
        try:
            if self._answers_within(limit_s):
                message: dict[str, Any] = self._pipe.recv()
                return message
            outcome.reason = f"{what} passed {limit_s:g} s"
        except EOFError:
            self._process.join(10)
            outcome.reason = f"process died in {what} (exit code {self._process.exitcode})"
        outcome.crashed = True
        if what == "compile":
            outcome.compile_ms = outcome.compile_wall_ms = limit_s * 1e3
        self.close()
        return None

    def _answers_within(self, limit_s: float) -> bool:
        """Whether a message comes before the child has used `limit_s` of CPU (or ten times that by the clock)."""
        assert self._pipe is not None
        child = psutil.Process(self._process.pid)
        used, begun = _cpu_s(child), perf_counter()
        while not self._pipe.poll(min(limit_s, POLL_S)):
            if _cpu_s(child) - used >= limit_s or perf_counter() - begun >= 10 * limit_s:
                return self._pipe.poll(0)
        return True

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.engine, self._settings), daemon=True)
        self._process.start()
        theirs.close()
        begun = perf_counter()
        if not self._pipe.poll(START_S):
            self.close()
            raise RuntimeError(f"engine {self.engine} did not start within {START_S:g} s")
        try:
            hello = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"engine {self.engine} died while starting") from None
        if "failed" in hello:
            self.close()
            raise RuntimeError(f"engine {self.engine} did not start: {hello['failed']}")
        self.versions = tuple(hello["packages"])
        self.start_s = self.start_s or perf_counter() - begun


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
    gc.freeze()  # as `engine.decode.interpreter` does: collections leave out what stays
    mask = numpy.zeros((vocabulary.width + 31) // 32, dtype=numpy.int32)
    while True:
        case: Case = pipe.recv()
        for message in _answers(engine, vocabulary, case, mask, settings.repeats):
            pipe.send(message)


def _answers(engine: Engine, vocabulary: Vocabulary, case: Case, mask: Any, repeats: int) -> Iterator[dict[str, Any]]:
    """First what the compile gave, then one message a test, at last what a second compile took."""
    reply, compiled = _compile(engine, case)
    yield reply
    if compiled is None:
        return
    for test in case.tests:
        yield asdict(_walk(engine, compiled, vocabulary, test.text, mask, repeats))
    again = _compile(engine, case)[0]
    yield {"again_ms": again["compile_ms"] + again["first_matcher_ms"]}


def _compile(engine: Engine, case: Case) -> tuple[dict[str, Any], Compiled | None]:
    wall, cpu = perf_counter(), process_time()
    compiled, reason, crashed, used, taken = None, "", False, 0.0, 0.0
    try:
        compiled = engine.compile(case.schema)
        used, taken = process_time() - cpu, perf_counter() - wall
        engine.matcher(compiled)
    except RefusedError as refusal:
        compiled, reason = None, str(refusal)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is its result here
        compiled, reason, crashed = None, f"{type(error).__name__}: {error}", True
    reply = {
        "compiled": compiled is not None,
        "reason": reason,
        "crashed": crashed,
        "compile_ms": (used or process_time() - cpu) * 1e3,
        "compile_wall_ms": (taken or perf_counter() - wall) * 1e3,
        "first_matcher_ms": (process_time() - cpu - used) * 1e3 if used else 0.0,
        "verdicts": compiled.verdicts if compiled is not None else [],
    }
    return reply, compiled


def _walk(engine: Engine, compiled: Compiled, vocabulary: Vocabulary, text: str, mask: Any, repeats: int) -> Walk:
    try:
        ids = vocabulary.encode(text)
    except UnicodeEncodeError:
        return Walk(False, 0, "not UTF-8")
    try:
        with _no_collection():
            return walk(lambda: engine.matcher(compiled), ids, vocabulary.stop_ids, mask, repeats)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is its result here
        return Walk(False, 0, f"{type(error).__name__}: {error}")


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
