"""Several owners on one engine: ids are each owner's own, nobody keeps the rows, and who gives way loses nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Constraint, Limits, QueueFull, Request, Result, SamplingParams
from engine.decode.requests.detokenizer import Detokenizer
from engine.decode.requests.job import Job, Sample
from engine.decode.scheduling.prompts import Prompts
from engine.decode.scheduling.scheduler import Scheduler
from engine.model.cpu.kv_blocks import BlockTables
from tests.decode.fakes import fake_engine, random_logits, wants


@pytest.fixture(params=[False, True], ids=["in step", "ahead"])
def launch_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.decode.fakes.LAUNCH_AHEAD", request.param)


def slow(fed: Any) -> np.ndarray:
    """A text without end, at a hundred tokens a second."""
    time.sleep(0.01)
    return wants("a" * 5000)(fed)


def greedy(max_tokens: int, **more: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, **more)


def test_an_id_belongs_to_its_owner_and_nobody_else_can_cancel_it(tmp_path: Path) -> None:
    engine, _ = fake_engine(slow, tmp_path)
    with engine:
        hers = engine.submit(Request(prompt="x", id="job-42", sampling=greedy(40)), owner="her")
        his = engine.submit(Request(prompt="x", id="job-42", sampling=greedy(40)), owner="him")
        assert not engine.cancel("job-42"), "a caller without a name is not everybody"
        assert not engine.cancel("job-42", owner="them")
        assert engine.cancel("job-42", owner="him")
        assert his.result(120).status == "cancelled"
        assert hers.result(120).status == "length"


@pytest.mark.usefixtures("launch_ahead")
def test_many_samples_of_one_owner_do_not_keep_another_waiting(tmp_path: Path) -> None:
    engine, network = fake_engine(slow, tmp_path)
    with engine:
        greedy_owner = engine.submit(Request(prompt="x", sampling=greedy(400, n=128)), owner="many")
        while network.forwards < 12:
            time.sleep(0.005)
        before = network.forwards
        result = engine.submit(Request(prompt="y", sampling=greedy(2)), owner="few").result(120)
        assert result.status == "length"
        assert network.forwards - before <= 4 + 2 + 2, "four steps to make room, two tokens, two steps of slack"
        assert not greedy_owner.done()
        greedy_owner.cancel()


@pytest.mark.usefixtures("launch_ahead")
def test_owners_beyond_the_slots_take_turns(tmp_path: Path) -> None:
    engine, network = fake_engine(slow, tmp_path, max_batch=1)
    with engine:
        endless = [engine.submit(Request(prompt="x", sampling=greedy(1000)), owner=f"long {i}") for i in range(2)]
        while network.forwards < 40:
            time.sleep(0.005)
        assert engine.submit(Request(prompt="y", sampling=greedy(2)), owner="short").result(120).status == "length"
        for future in endless:
            assert not future.done()
            future.cancel()


PAIR = {"type": "object", "properties": {"k": {"type": "integer", "minimum": 0, "maximum": 1}}, "required": ["k"]}
UNIQUE = Constraint.json_schema(
    {
        "type": "array",
        "items": {**PAIR, "additionalProperties": False},
        "uniqueItems": True,  # beside `contains` it is only checked
        "minItems": 2,
        "contains": {"properties": {"k": {"minimum": 0}}},
    },
    conformance="spec",
)
RECORD = Constraint.json_schema(
    {
        "type": "object",
        "properties": {"kind": {"enum": ["alpha", "beta"]}, "size": {"type": "number"}, "note": {"type": "string"}},
        "required": ["kind", "size", "note"],
    },
    conformance="spec",
)
MIXED = [
    {"constraint": RECORD, "logprobs": 2},
    {"constraint": RECORD, "repetition_penalty": 1.3},
    {"constraint": UNIQUE, "temperature": 1.5},
    {"constraint": UNIQUE, "repetition_penalty": 1.1, "n": 2},
    {"constraint": None, "repetition_penalty": 1.2, "logprobs": 0, "n": 3},
    {"constraint": Constraint.regex("[a-f]{9}[0-9]{8}é*"), "top_p": 0.9},
    {"constraint": None, "stop": ("ab", "é")},
    {"constraint": UNIQUE, "logprobs": 1, "n": 3},
]


def mixed(number: int) -> Request:
    fields = dict(MIXED[number % len(MIXED)])
    constraint = fields.pop("constraint")
    params = SamplingParams(seed=number, max_tokens=30 + number % 7 * 3, **{"temperature": 0.9, **fields})
    prompt = "the same beginning of every prompt, " + "x" * (number * 5)
    return Request(prompt=prompt, constraint=constraint, sampling=params, id=str(number))


class Heard:
    """Pieces of text by request and sample."""

    def __init__(self) -> None:
        self.pieces: dict[tuple[str, int], list[str]] = {}

    def listener(self, request: Request) -> Callable[[int, str], None]:
        return lambda sample, text: self.pieces.setdefault((request.id, sample), []).append(text)

    def text(self, request_id: str, sample: int) -> str:
        return "".join(self.pieces.get((request_id, sample), ()))


@pytest.fixture
def put_backs(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Every sample that had to give way, as often as it had to."""
    seen: list[Sample] = []
    put_back = Scheduler._put_back

    def noted(self: Scheduler, sample: Sample) -> None:
        seen.append(sample)
        put_back(self, sample)

    monkeypatch.setattr(Scheduler, "_put_back", noted)
    return seen


@pytest.mark.usefixtures("launch_ahead")
@pytest.mark.parametrize("forced_runs", ["off", "verify"])
def test_a_row_that_is_put_back_at_any_moment_ends_as_it_would_have_alone(
    forced_runs: str, tmp_path: Path, put_backs: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, admit = random.Random(7), Scheduler.admit

    def restless(self: Scheduler) -> list[Sample]:
        for sample in self.running[:]:
            if chance.random() < 0.15:
                self._put_back(sample)
        return admit(self)

    requests = [mixed(number) for number in range(len(MIXED))]
    engine, _ = fake_engine(random_logits(3, 2.0), tmp_path, max_batch=3, prefill_chunk=32, forced_runs=forced_runs)
    with engine:
        alone = [engine.generate(request) for request in requests]
        assert not put_backs, "nobody else was there"
        monkeypatch.setattr(Scheduler, "admit", restless)
        heard = Heard()
        futures = [engine.submit(request, on_text=heard.listener(request)) for request in requests]
        shared = [future.result(120) for future in futures]
    assert any(sample.retries for sample in put_backs), "rows that had taken text back themselves, too"
    assert any(result.usage.forced_tokens for result in shared) == (forced_runs == "verify")
    for lone, crowded in zip(alone, shared, strict=True):
        for index, (one, other) in enumerate(zip(samples(lone), samples(crowded), strict=True)):
            same(one, other)
            assert heard.text(other.id, index) == other.text, "a piece was lost or came twice"


@pytest.mark.usefixtures("launch_ahead")
@pytest.mark.parametrize("admitted", [False, True], ids=["while it waits", "while it is prefilled again"])
def test_a_row_that_is_put_back_while_the_judge_is_asked_goes_on_as_it_would_have_alone(
    admitted: bool, tmp_path: Path, put_backs: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [replace(mixed(2), sampling=SamplingParams(seed=seed, max_tokens=40)) for seed in range(15)]
    admit = Scheduler.admit
    settings = {"max_batch": 1, "prefill_chunk": 8, "prefix_cache_bytes": 0}
    undisturbed, _ = fake_engine(random_logits(3, 2.0), tmp_path, **settings)
    engine, network = fake_engine(
        random_logits(3, 2.0), tmp_path, **settings
    )  # its judge remembers nothing of that one

    def crowded(self: Scheduler) -> list[Sample]:
        """Whoever asks is put back, and the answer is there before the row can be in the cache again."""
        asking = [(sample, sample.question.answer) for sample in self.running if sample.question is not None]
        for sample, answer in asking:
            wait([answer], 60)
            self._put_back(sample)
            network.places.clear()  # as good as used by somebody else
        return [] if asking and not admitted else admit(self)

    monkeypatch.setattr("engine.decode.core.inbox._PULSE_S", 0.001)
    with undisturbed:
        alone = [undisturbed.generate(request) for request in requests]
    monkeypatch.setattr(Scheduler, "admit", crowded)
    with engine:
        crowded_out = [engine.generate(request) for request in requests]
    assert sum(sample.retries for sample in set(put_backs)) > len(requests) // 2, "text was taken back meanwhile"
    for one, other in zip(alone, crowded_out, strict=True):
        same(one, other)


def samples(result: Result) -> tuple[Result, ...]:
    return result.samples or (result,)


def same(one: Result, other: Result) -> None:
    assert other.token_ids == one.token_ids
    assert (other.status, other.text, other.valid, other.error) == (one.status, one.text, one.valid, one.error)
    assert (one.logprobs is None) == (other.logprobs is None)
    for a, b in zip(one.logprobs or (), other.logprobs or (), strict=True):
        assert a["token_id"] == b["token_id"]
        assert b["constrained"] == pytest.approx(a["constrained"], abs=1e-5)


def test_a_row_that_is_put_back_can_be_cancelled_and_closed_at_its_deadline(
    tmp_path: Path, put_backs: list[Sample]
) -> None:
    def string(fed: Any) -> np.ndarray:
        time.sleep(0.01)
        return wants('"' + "a" * 5000)(fed)

    engine, _ = fake_engine(string, tmp_path, max_batch=2)
    constraint = Constraint.json_schema({"type": "string"})
    with engine:
        engine.warmup([constraint])
        kept = engine.submit(Request(prompt="x", sampling=greedy(1500)), owner="a")
        late = engine.submit(
            Request(prompt="x", constraint=constraint, sampling=greedy(1500), deadline_s=0.6), owner="a"
        )
        time.sleep(0.3)
        blocking = engine.submit(Request(prompt="x", sampling=greedy(1500)), owner="b")
        closed = late.result(120)
        assert [sample.job.future for sample in put_backs] == [late], "the newest row of who had both"
        assert (closed.status, closed.valid) == ("closed", True)
        again = engine.submit(Request(prompt="x", id="again", sampling=greedy(1500)), owner="a")
        time.sleep(0.1)
        assert engine.cancel("again", owner="a")
        assert again.result(120).status == "cancelled"
        kept.cancel()
        blocking.cancel()


def test_a_full_queue_of_one_owner_refuses_nobody_else(tmp_path: Path) -> None:
    engine, _ = fake_engine(slow, tmp_path, max_batch=1, limits=Limits(queue=4))
    with engine:
        full = [engine.submit(Request(prompt="x", sampling=greedy(1000)), owner="many") for _ in range(5)]
        with pytest.raises(QueueFull):
            engine.submit(Request(prompt="x", sampling=greedy(1)), owner="many")
        assert engine.submit(Request(prompt="x", sampling=greedy(1)), owner="other").result(120).status == "length"
        for future in full:
            future.cancel()


def test_rows_that_wait_for_their_grammar_hold_no_slot_that_others_could_use(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants("hello"), tmp_path, max_batch=2)
    never: Future[Any] = Future()
    with engine:
        submit, engine.grammars.submit = engine.grammars.submit, lambda *_, **__: never  # type: ignore[method-assign, assignment]
        stuck = [engine.submit(Request(prompt="x", constraint=UNIQUE), owner="a") for _ in range(3)]
        engine.grammars.submit = submit  # type: ignore[method-assign]
        time.sleep(0.1)
        assert engine.submit(Request(prompt="x", sampling=greedy(20)), owner="a").result(120).text == "hello"
        for future in stuck:
            future.cancel()


def scheduler_of(
    blocks: BlockTables | None = None, *, slots: int, prefill_chunk: int, undisturbed: int = 1
) -> Scheduler:
    """With blocks for all rows at full length, where none are given; nothing is stored beside them."""
    return Scheduler(
        slots=slots, prefill_chunk=prefill_chunk, undisturbed=undisturbed,
        blocks=blocks or BlockTables.for_rows(slots, 2048), prompts=Prompts(None, 0),  # type: ignore[arg-type]  # nothing is stored: no runner is asked
    )  # fmt: skip


def waiting(owner: str, prompt: int, n: int = 1) -> list[Sample]:
    job = Job(Request(prompt="x"), list(range(prompt)), 0, None, Future(), owner)
    job.samples = [Sample(job, index, index, 100, Detokenizer()) for index in range(n)]
    return job.samples


def test_free_slots_go_to_whoever_holds_the_fewest_and_a_lone_owner_has_them_all() -> None:
    scheduler = scheduler_of(slots=4, prefill_chunk=8)
    first, second = waiting("a", 5, n=9), waiting("b", 5, n=2)
    scheduler.add(*first)
    assert scheduler.admit() == first[:4]
    scheduler.add(*second)
    assert scheduler.admit() == second
    assert scheduler.running == [*first[:2], *second], "the newest rows of the other made room"
    assert scheduler.admit() == [], "an even share stays as it is"
    scheduler.release(second[0])
    assert scheduler.admit() == [first[2]], "what was put back goes before what has not begun"


def test_one_owners_long_prompts_leave_room_in_the_chunk_for_anothers() -> None:
    scheduler = scheduler_of(slots=4, prefill_chunk=8)
    scheduler.add(*waiting("a", 100, n=2))
    scheduler.add(*waiting("b", 3))
    scheduler.admit()
    fed = {(p.sample.job.owner, p.sample.index): len(p.tokens or ()) for p in scheduler.plan(lambda _: True)}
    assert fed == {("b", 0): 3, ("a", 0): 5}


def test_threads_that_submit_and_cancel_for_many_owners_leave_nothing_behind(tmp_path: Path) -> None:
    engine, _ = fake_engine(random_logits(5), tmp_path, max_batch=3, limits=Limits(queue=500))
    statuses: list[str] = []

    def client(owner: str) -> None:
        for number in range(6):
            request = mixed(number)
            future = engine.submit(request, owner=owner)
            if number % 3 == 0:
                engine.cancel(request.id, owner=owner)
            statuses.append(future.result(120).status)

    with engine:
        engine.warmup([UNIQUE, RECORD, MIXED[5]["constraint"]])
        clients = [threading.Thread(target=client, args=(f"owner {i}",)) for i in range(3)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(60)
        assert engine.in_flight() == []
    assert len(statuses) == 18
    assert "error" not in statuses
