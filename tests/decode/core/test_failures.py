"""What fails stays where it happens: the row or the step that failed, never the thread, the slots or a neighbour."""

from __future__ import annotations

import gc
import inspect
import linecache
import signal
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from engine import Constraint, EngineConfig, Request, SamplingParams
from engine.decode.calls import Calls
from engine.decode.core.engine_core import EngineCore
from engine.decode.core.inbox import Inbox
from engine.decode.engine import Engine
from engine.decode.requests.judge import Judging
from engine.decode.scheduling.scheduler import Scheduler
from engine.decode.step.loop import Loop
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.loaded_model import LoadedModel
from tests.decode.fakes import ByteTokenizer, FakeNetwork, fake_engine, random_logits, wants

CALLS = ("reset_slot", "load_prefix", "save_prefix", "mark_seen", "forward", "sample", "wait", "timings")
SLOTS = 3


class FailingRunner(CpuRunner):
    """The real runner, one of whose calls fails when it is made for the `at`th time (0: from now on always)."""

    def __init__(self, logits: Any, call: str, at: int) -> None:
        network = FakeNetwork(logits)
        super().__init__(network, max_batch=SLOTS, max_sequence=2048, quantization="fp32")
        self.network, self.made = network, Counter[str]()
        for name in CALLS:
            setattr(self, name, self._counted(name, getattr(self, name), call, at))
        self.broken = True

    def _counted(self, name: str, real: Any, call: str, at: int) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.made[name] += 1
            if name == call and self.broken and self.made[name] in (at, at or self.made[name]):
                raise MemoryError(f"the device has no memory for {name}")
            return real(*args, **kwargs)

        return counted


def engine_on(runner: CpuRunner, tmp_path: Path, **settings: Any) -> Engine:
    config = EngineConfig(max_batch=SLOTS, max_sequence=2048, cache_dir=tmp_path, prefill_chunk=16, **settings)
    return Engine(config, loaded=LoadedModel("fake", None, runner, ByteTokenizer()))  # type: ignore[arg-type]


CHOICE = Constraint.choice(["yes, it is", "no, never"])
PENALISED = SamplingParams(seed=1, max_tokens=12, repetition_penalty=1.2, n=2)


def requests() -> list[Request]:
    """What makes use of every call: shared prompts, penalties, samples, a grammar."""
    prompt = "the same prompt for everybody"
    return [
        Request(prompt=prompt, sampling=PENALISED),
        Request(prompt=prompt, constraint=CHOICE, sampling=SamplingParams(seed=2, max_tokens=12, n=3)),
        Request(prompt=prompt, sampling=PENALISED),
        Request(prompt="another", constraint=CHOICE, sampling=PENALISED),
    ]


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("call", CALLS)
def test_a_runner_that_fails_once_fails_the_rows_concerned(call: str, at: int, ahead: bool, tmp_path: Path) -> None:
    at = min(at, 2) if call in ("load_prefix", "save_prefix") else at
    runner = FailingRunner(random_logits(3), call, at)
    with engine_on(runner, tmp_path, launch_ahead=ahead) as engine:
        results = [future.result(120) for future in [engine.submit(request) for request in requests()]]
        texts = [sample for result in results for sample in result.samples or (result,)]
        failed = [text for text in texts if text.status == "error"]
        assert runner.made[call] >= at, "the call was made"
        assert failed
        assert all(f"no memory for {call}" in (text.error or {})["message"] for text in failed)
        assert {(text.error or {})["type"] for text in failed} == {"EngineFailure"}
        assert {text.status for text in texts} <= {"complete", "closed", "length", "error"}
        if call in ("reset_slot", "load_prefix", "save_prefix", "mark_seen"):
            assert len(failed) < len(texts), "the others went on"
        everywhere(engine)


def everywhere(engine: Engine) -> None:
    """As many rows as there are slots run at once: none was lost, none is dirty."""
    assert engine.in_flight() == []
    lone = engine.generate(Request(prompt="afterwards", sampling=PENALISED))
    again = [engine.submit(Request(prompt="afterwards", sampling=PENALISED)) for _ in range(SLOTS)]
    for result in [future.result(120) for future in again]:
        assert [s.token_ids for s in result.samples] == [s.token_ids for s in lone.samples]
        assert {s.status for s in result.samples} <= {"complete", "length"}


@pytest.mark.parametrize("call", ["forward", "reset_slot", "wait"])
def test_a_device_that_is_lost_answers_everybody_and_serves_again_when_it_is_back(call: str, tmp_path: Path) -> None:
    runner = FailingRunner(random_logits(3), call, 0)
    with engine_on(runner, tmp_path) as engine:
        for _ in range(2):
            results = [future.result(120) for future in [engine.submit(request) for request in requests()]]
            assert all(s.status == "error" for result in results for s in result.samples if s.seed == 1)
            assert engine.in_flight() == []
        runner.broken = False
        everywhere(engine)


def test_one_slot_that_can_never_be_used_is_left_out(tmp_path: Path) -> None:
    runner = FailingRunner(random_logits(3), "", 0)
    real = runner.reset_slot

    def reset_slot(slot: int, seen: Any = ()) -> None:
        if slot == 1:
            raise MemoryError("slot 1")
        real(slot, seen)

    runner.reset_slot = reset_slot  # type: ignore[method-assign]
    with engine_on(runner, tmp_path) as engine:
        first = [future.result(120) for future in [engine.submit(request) for request in requests()]]
        later = [future.result(120) for future in [engine.submit(request) for request in requests() * 2]]
    assert [s.status for result in first for s in result.samples].count("error") == 1
    assert [s.status for result in later for s in result.samples].count("error") == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (EngineCore, "_attend"), (EngineCore, "_start"), (EngineCore, "_make_ready"), (EngineCore, "_record"),
        (EngineCore, "_prefilled"),
        (Judging, "end"), (Judging, "judged"),
        (Scheduler, "admit"), (Scheduler, "plan"), (Scheduler, "release"), (Loop, "_accept"), (Loop, "close"),
    ],
)  # fmt: skip
def test_a_bug_anywhere_in_a_turn_answers_whom_it_concerns_and_the_thread_lives(
    owner: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, real = threading.Event(), getattr(owner, name)

    def failing(self: Any, *args: Any) -> Any:
        if broken.is_set():
            broken.clear()
            raise SystemExit("a bug")  # not even an Exception
        return real(self, *args)

    monkeypatch.setattr(owner, name, failing)
    engine, _ = fake_engine(wants("yes, it is"), tmp_path)
    request = Request(prompt="x", constraint=CHOICE, sampling=SamplingParams(temperature=0), deadline_s=20)
    if name == "close":
        request = Request(prompt="x", sampling=SamplingParams(temperature=0), deadline_s=1e-9)
    with engine:
        engine.warmup([CHOICE])
        broken.set()
        failed = engine.submit(request).result(120)
        assert not broken.is_set(), "the bug was met"
        assert (failed.status, (failed.error or {})["type"]) == ("error", "EngineFailure")
        assert engine.generate(Request(prompt="x", constraint=CHOICE, sampling=SamplingParams(temperature=0))).valid
        assert engine.in_flight() == []


def test_callbacks_of_a_future_and_listeners_may_raise_anything(tmp_path: Path) -> None:
    def raises(*_: Any) -> None:
        raise CancelledError if threading.current_thread().name == "decode" else AssertionError

    engine, _ = fake_engine(wants("hello"), tmp_path)
    greedy = SamplingParams(temperature=0)
    with engine:
        future = engine.submit(Request(prompt="x", sampling=greedy))
        future.add_done_callback(raises)
        assert future.result(120).status == "complete"
        assert engine.submit(Request(prompt="x", sampling=greedy), on_text=raises).result(120).status == "error"
        assert engine.submit(Request(prompt="x", sampling=greedy), trace=raises).result(120).status == "error"
        assert engine.generate(Request(prompt="x", sampling=greedy)).text == "hello"


def endless(fed: Any) -> np.ndarray:
    time.sleep(0.005)
    return wants("a" * 5000)(fed)


LONG = SamplingParams(temperature=0, max_tokens=1500)
ENDLESS = SamplingParams(temperature=0, max_tokens=100_000)
"""What is not cancelled runs on for minutes."""


def nothing_is_left(engine: Engine) -> None:
    limit = time.monotonic() + 60
    while engine.in_flight():
        assert time.monotonic() < limit, "the request runs on"
        time.sleep(0.01)


WAITS: dict[str, Callable[[Engine], Any]] = {
    "generate": lambda engine: engine.generate(Request(prompt="x", sampling=ENDLESS)),
    "batch": lambda engine: engine.generate_batch([Request(prompt="x", sampling=ENDLESS)] * 2),
    "stream": lambda engine: list(engine.stream(Request(prompt="x", sampling=ENDLESS))),
}


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """A shell that starts a process in the background has it ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_cancels_what_was_being_waited_for(name: str, tmp_path: Path) -> None:
    engine, network = fake_engine(endless, tmp_path, max_sequence=110_000)
    with engine:
        interrupting = threading.Thread(target=interrupt_when, args=(lambda: network.forwards >= 5,))
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            WAITS[name](engine)
        interrupting.join()
        nothing_is_left(engine)


def interrupt_when(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_at_any_line_before_the_wait_leaves_nothing_running(name: str, tmp_path: Path) -> None:
    """The interrupt comes at the first line of the engine's calls, then at the second, up to the one that waits."""
    files, at, left, waits = {inspect.getfile(each) for each in (Calls, Engine, Inbox)}, 0, 0, False

    def traced(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left, waits
        if frame.f_code.co_filename not in files:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not line.startswith("with "):  # locks are left in one piece, as a signal finds them
            left -= 1
            waits = any(wait in line for wait in WAITING)
            if waits or not left:
                sys.settrace(None)
                raise KeyboardInterrupt
        return traced

    engine, _ = fake_engine(endless, tmp_path, max_sequence=110_000)
    with engine:
        while not waits:
            at += 1
            left = at
            sys.settrace(traced)
            try:
                with pytest.raises(KeyboardInterrupt):
                    WAITS[name](engine)
            finally:
                sys.settrace(None)
            nothing_is_left(engine)
    assert at > 20


WAITING = ("future.result()", "pieces.get()")


def test_a_stream_that_is_dropped_before_or_after_it_began_leaves_nothing_running(tmp_path: Path) -> None:
    engine, _ = fake_engine(endless, tmp_path)
    with engine:
        stream = engine.stream(Request(prompt="x", sampling=LONG))
        assert engine.in_flight()
        del stream
        gc.collect()
        nothing_is_left(engine)
        stream = engine.stream(Request(prompt="x", sampling=LONG))
        assert isinstance(next(stream), str)
        del stream
        gc.collect()
        nothing_is_left(engine)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("decode", "forward", "compile"))}


def test_an_engine_that_nobody_closed_is_collected_with_its_threads_and_its_model(tmp_path: Path) -> None:
    before = threads()
    engine, network = fake_engine(wants("hello"), tmp_path)
    assert engine.generate(Request(prompt="x", constraint=CHOICE, sampling=LONG)).valid
    assert engine.submit(Request(prompt="x", sampling=LONG)).result(120).text == "hello"
    assert [*engine.stream(Request(prompt="x", sampling=LONG))]
    gone, model = weakref.ref(engine), weakref.ref(network)
    del engine, network
    gc.collect()
    assert gone() is None
    limit = time.monotonic() + 5
    while threads() - before or model() is not None:
        assert time.monotonic() < limit, (threads(), model())
        time.sleep(0.02)
        gc.collect()


def test_an_engine_that_only_a_request_in_flight_needs_stays_until_that_is_answered(tmp_path: Path) -> None:
    future: Future[Any] = fake_engine(endless, tmp_path)[0].submit(
        Request(prompt="x", sampling=SamplingParams(temperature=0, max_tokens=40))
    )
    gc.collect()
    assert future.result(120).status == "length"
