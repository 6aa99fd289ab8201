"""What the command-line tests share: running a command in this process, and an engine that answers from a script."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cli import main
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.interfaces import StepRecord
from engine.request import Request, Result, Timings, Usage


@dataclass(frozen=True)
class Ran:
    """How a command ended. `code` is its exit code."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a refusal; more than one line, or a traceback, fails the test here."""
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert len(lines) == 1, lines
        assert self.out == ""
        return lines[0]


Run = Callable[..., Ran]


@pytest.fixture
def maskloop(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `maskloop ARGS` here; `stdin` is what it may read."""

    def run(*args: str, stdin: str = "") -> Ran:
        monkeypatch.setenv("PYTHONMALLOC", "default")  # `serve` would start this process anew
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogateescape"))))
        code = main([str(arg) for arg in args])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Ran(code, out.decode(), err.decode())

    return run


def step(position: int) -> StepRecord:
    return StepRecord(
        step=position, request_id="r", row=0, position=position, token_id=7, text="x", forced=False, rows=1,
        fill_us=4.0, accept_us=1.0, copy_us=1.0, apply_us=1.0, forward_us=900.0, sample_us=9.0, hidden_us=5.0,
        exposed_us=1.0,
        legal_tokens=12,
    )  # fmt: skip


@dataclass
class ScriptedEngine:
    """Answers by prompt: an exception is raised by `submit`, a dict changes the fields of a complete Result."""

    answers: dict[str, Any] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)
    config: EngineConfig = field(default_factory=EngineConfig)
    closed: bool = False

    def __post_init__(self) -> None:
        self.grammars = SimpleNamespace(compile=lambda constraint: SimpleNamespace(verdicts=()))

    def info(self) -> dict[str, Any]:
        return {"model": "scripted"}

    def submit(
        self, request: Request, *, trace: Callable[[StepRecord], None] | None = None, stats: bool = False
    ) -> Any:
        self.seen.append(request)
        answer = self.answers.get(request.prompt or "", {})
        if isinstance(answer, EngineError):
            raise answer
        if isinstance(answer, BaseException):
            raise answer
        if trace is not None:
            for position in range(3):
                trace(step(position))
        future: Future[Result] = Future()
        late = answer.pop("late", None) if isinstance(answer, dict) else None
        if late is not None:
            future.set_exception(late)
        else:
            future.set_result(self._result(request, answer))
        return future

    def _result(self, request: Request, answer: dict[str, Any]) -> Result:
        fields = {
            "id": request.id, "status": "complete", "finish_reason": "stop", "valid": True, "text": '{"a":1}',
            "value": {"a": 1}, "token_ids": (1, 2, 3), "usage": Usage(prompt_tokens=4, completion_tokens=3),
            "timings_ms": Timings(decode=300.0, mask_fill=6.0, mask_exposed=3.0),
        }  # fmt: skip
        return Result(**{**fields, **answer})


@pytest.fixture
def heed_interrupts() -> Callable[[], None]:
    """For a child process: a runner in the background of a shell ignores interrupts, and its children would too."""

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return heed


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    """`generate`, `batch` and `trace replay` find this engine instead of loading one."""
    from engine.cli.commands import batch, generate
    from engine.cli.commands import trace_replay as replay

    engine = ScriptedEngine()

    @contextmanager
    def opened(config: EngineConfig, progress: Any) -> Iterator[ScriptedEngine]:
        engine.config = config
        try:
            yield engine
        finally:
            engine.closed = True

    monkeypatch.setattr(generate, "open_engine", opened)
    monkeypatch.setattr(batch, "open_engine", opened)
    monkeypatch.setattr(replay, "open_engine", opened)
    return engine
