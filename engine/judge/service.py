"""Judging what strangers send: in a process that can be stopped, within `limits.judge_s` of CPU time.

A validator takes time exponential in what some schemas say, whatever a screen counts; and it holds the interpreter's
lock meanwhile. So no judge runs where anybody else would have to wait for it.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace

from engine.config import Limits
from engine.errors import EngineError, EngineFailure, JudgingLimit, NotReady
from engine.judge.judgement import Judgement
from engine.request import Constraint
from engine.sandbox import Answer, Job, Stopped, shared_pool
from engine.sandbox.mapped import Mapped

_MODULE = "engine.judge.worker"
_MEMORY_BYTES = 512 << 20
_CONSTRAINTS, _TEXTS, _SHORT = 64, 1_000, 1_000
"""Of so many constraints are verdicts remembered, of so many texts each, together of so many bytes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgements of some texts, in order, up to the first that is valid; and the CPU seconds they took."""

    judgements: tuple[Judgement, ...]
    cpu_s: float


class Verdicts:
    """What was judged lately of short texts: choices and samples come out alike often. Any thread may use it."""

    def __init__(self) -> None:
        self._by_session: OrderedDict[Hashable, dict[tuple[bytes, ...], Verdict]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, session: Hashable, texts: tuple[bytes, ...]) -> Verdict | None:
        """It has cost nothing."""
        with self._lock:
            return self._by_session.get(session, {}).get(texts)

    def put(self, session: Hashable, texts: tuple[bytes, ...], verdict: Verdict) -> None:
        if sum(map(len, texts)) > _SHORT or any(judgement.arguments for judgement in verdict.judgements):
            return  # arguments are dicts, and each result's its own
        with self._lock:
            known = self._by_session.setdefault(session, {})
            self._by_session.move_to_end(session)
            if len(known) >= _TEXTS:
                known.clear()
            known[texts] = replace(verdict, cpu_s=0.0)
            if len(self._by_session) > _CONSTRAINTS:
                self._by_session.popitem(last=False)


class JudgeService:
    """`submit` may be called from any thread and never blocks. Processes start with the first text."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._verdicts = Verdicts()
        self._pool, self._release = shared_pool(self)

    def submit(
        self, constraint: Constraint, texts: Sequence[bytes], *, owner: Hashable = None, spent_s: float = 0.0
    ) -> Future[Verdict]:
        """Judge whole texts; `spent_s` of the limit has been used before. About 0.2 ms, 2-5 for a constraint's first,
        none where the same was judged lately.

        The future raises JudgingLimit, or what `judge_of` raises for the constraint. Cancelling it stops the judge.
        """
        session, asked = (owner, constraint), tuple(texts)
        if (known := self._verdicts.get(session, asked)) is not None:
            answer = Future[Verdict]()
            answer.set_result(known)
            return answer
        head = json.dumps([len(text) for text in texts]).encode()
        job = Job(
            _MODULE,
            "",
            b"\n".join((head, b"".join(texts))),
            session=session,
            setup=json.dumps(asdict(constraint)).encode(),
            cpu_s=max(0.0, self._limits.judge_s - spent_s),
            memory_bytes=_MEMORY_BYTES,
        )
        return Mapped(self._pool.submit(job, (owner,)), self._reader(session, asked))

    def start(self) -> None:
        """Start the process that later ones are made of: 0.2 s of another processor."""
        self._pool.prepare(_MODULE)

    def close(self) -> None:
        """No more is judged. Idempotent."""
        self._release()

    def _reader(
        self, session: tuple[Hashable, Constraint], texts: tuple[bytes, ...]
    ) -> Callable[[Future[Answer]], Verdict]:
        def read(answer: Future[Answer]) -> Verdict:
            try:
                found = answer.result()
            except Stopped as stopped:
                raise self._error(stopped, session[1]) from None
            judgements = tuple(Judgement(**judgement) for judgement in json.loads(found.content))
            verdict = Verdict(judgements, found.cpu_s)
            self._verdicts.put(session, texts, verdict)
            return verdict

        return read

    def _error(self, stopped: Stopped, constraint: Constraint) -> EngineError:
        if stopped.reason == "closed":
            return NotReady("the engine has been closed")
        if stopped.reason == "lost":
            return EngineFailure(f"the document could not be judged: {stopped.detail}")
        over = {
            "cpu": f"limit judge_s = {self._limits.judge_s:g} s of CPU time exceeded",
            "busy": f"the judge got only {stopped.detail}: the machine is busy, try again later",
            "memory": f"more than {_MEMORY_BYTES >> 20} MiB of memory needed",
            "depth": "it nests too deeply",
        }.get(stopped.reason, stopped.detail)
        return JudgingLimit(
            f"the document could not be judged by this {constraint.kind}: {over}", param=constraint.kind
        )
