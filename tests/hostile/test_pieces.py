"""What a stranger's counts ask of the decode thread is done in pieces, which change nothing of what is written."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Constraint, Request, SamplingParams
from engine.decode.core.engine_core import EngineCore
from engine.decode.step import loop, masks, row
from engine.grammar import Matcher, Unfinished
from engine.grammar.endings import completion_table, least_text, unused
from engine.grammar.masks.bitmask import words
from engine.grammar.matching import narrowing, token_matcher
from engine.grammar.pieces import Work
from engine.grammar.vocabulary import shortest_tokenization
from engine.grammar.vocabulary.string_tokens import StringTokens
from engine.schema.rules import guards
from tests.decode.fakes import V, fake_engine, random_logits

UNION = {"anyOf": [{"type": "string", "pattern": f"^[^{c}]*$", "maxLength": 3 * n + 2} for n, c in enumerate("abcdef")]}
LIST = {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "maxItems": 5}}, "$ref": "#/$defs/a"}
KEYS = {
    "type": "object",
    "properties": {f"k{n}": {"type": "string", "maxLength": 3} for n in range(9)},
    "minProperties": 4,
}
UNLIKE = {"type": "array", "uniqueItems": True, "items": {"enum": list(range(25))}, "minItems": 20}


def documents(folder: Path, ahead: bool) -> list[tuple[tuple[int, ...], str]]:
    engine, _ = fake_engine(random_logits(3), folder, launch_ahead=ahead)
    requests = [
        Request(
            prompt="x",
            constraint=Constraint.json_schema(schema, conformance="spec"),
            sampling=SamplingParams(max_tokens=60, seed=seed, n=2),
        )
        for schema in (UNION, LIST, KEYS, UNLIKE)
        for seed in (1, 2)
    ]
    with engine:
        results = engine.generate_batch(requests)
    return [(sample.token_ids, sample.status) for result in results for sample in result.samples]


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_a_mask_made_in_pieces_is_the_same_mask(tmp_path: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = documents(tmp_path / "a", ahead)
    continued, go_on = [0], Matcher.go_on

    def counted(self: Matcher, pieces: int) -> None:
        continued[0] += 1
        go_on(self, pieces)

    monkeypatch.setattr(Matcher, "go_on", counted)
    monkeypatch.setattr(narrowing, "_PIECE", 1)
    monkeypatch.setattr(masks, "PIECES", 1)
    monkeypatch.setattr(loop, "PIECES", 1)
    assert documents(tmp_path / "b", ahead) == at_once
    assert continued[0] > 50
    assert {status for _, status in at_once} == {"complete", "closed"}


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_an_ending_looked_for_over_many_turns_is_the_same(
    tmp_path: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollback = Matcher.rollback

    def forgetful(self: Matcher, count: int, *, forget: bool = True) -> None:
        """Without the ending that was known there, so that it must be looked for."""
        rollback(self, count, forget=forget)
        self._ending = None

    monkeypatch.setattr(Matcher, "rollback", forgetful)
    at_once = documents(tmp_path / "a", ahead)
    seek, unfinished = Matcher.seek, [0]

    def slowly(self: Matcher, limit: int, pieces: int, *, timed: bool = False) -> bool:
        assert pieces > 0
        if pieces == token_matcher._QUICK:  # at a step: then the ending is found quickly, or the document ends there
            return seek(self, limit, 10_000, timed=timed)
        found = seek(self, limit, 1, timed=timed)
        unfinished[0] += not found
        return found

    monkeypatch.setattr(Matcher, "seek", slowly)
    for part in (least_text, shortest_tokenization, completion_table, token_matcher):
        monkeypatch.setattr(part, "_PIECE", 2)
    assert documents(tmp_path / "b", ahead) == at_once
    assert unfinished[0] > 20


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_an_ending_written_over_many_turns_is_the_same(
    tmp_path: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = documents(tmp_path / "a", ahead)
    written, write_on = [0], row.write_on

    def slowly(sample: Any, tokenizer: Any, seconds: float) -> None:
        written[0] += 1
        write_on(sample, tokenizer, -1.0)

    monkeypatch.setattr(row, "write_on", slowly)
    monkeypatch.setattr("engine.decode.step.loop.write_on", slowly)
    assert documents(tmp_path / "b", ahead) == at_once
    assert written[0] > 20


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_while_an_ending_is_written_its_slot_and_its_blocks_are_somebody_elses(
    tmp_path: Path, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot for all: who comes second runs while the first one's ending is written, and nothing is fed of that."""
    began: list[Any] = []
    beside, write_on = [0], row.write_on

    def slowly(sample: Any, tokenizer: Any, seconds: float) -> None:
        if sample not in began:
            began.append(sample)
        elif sample is began[0]:
            beside[0] += any(len(running.output) > 1 for running in engine._thread._core._scheduler.running)
            assert sample.slot is None
        write_on(sample, tokenizer, -1.0)

    monkeypatch.setattr(row, "write_on", slowly)
    monkeypatch.setattr("engine.decode.step.loop.write_on", slowly)
    constraint = Constraint.json_schema({"type": "string", "minLength": 60}, conformance="spec")
    engine, network = fake_engine(random_logits(3), tmp_path, launch_ahead=ahead, max_batch=1, prefix_cache_bytes=0)
    with engine:
        engine.warmup([constraint])
        futures = [
            engine.submit(Request(prompt="x", constraint=constraint, sampling=SamplingParams(max_tokens=most, seed=1)))
            for most in (64, 64)
        ]
        results = [future.result(120) for future in futures]
        blocks = engine.loaded.runner.blocks
        assert not blocks.table(0), "nobody runs"
        assert blocks.free == blocks.most
    assert [result.status for result in results] == ["closed", "closed"]
    assert results[0].token_ids == results[1].token_ids
    assert beside[0] > 5, "the second one ran meanwhile"
    prompt = results[0].usage.prompt_tokens
    assert network.tokens < 2 * (prompt + 20), "what is written of an ending is not computed"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps searches for a new item have taken, so far."""
    taken, take = [0], unused._steps

    def counted(*args: Any) -> Any:
        taken[0] += 1
        return take(*args)

    monkeypatch.setattr(unused, "_steps", counted)
    return taken


def test_a_look_ahead_stops_after_few_steps(tmp_path: Path, steps: list[int]) -> None:
    """All but one of 300 values are used: the mask looks for it a piece a time."""
    engine, _ = fake_engine(random_logits(3), tmp_path)
    with engine:
        schema = {"type": "array", "uniqueItems": True, "items": {"enum": list(range(300))}, "minItems": 300}
        document = engine.grammars.compile(Constraint.json_schema(schema)).matcher()
        started = steps[0]
        for byte in ("[" + ",".join(map(str, range(299))) + ",").encode():
            assert document.accept(byte, legal=True)
        assert steps[0] == started, "a token of the mask is taken without a look ahead"
        mask, longest, pieces = np.zeros((1, words(V)), dtype=np.int32), 0, 0
        with suppress(Unfinished):
            document.fill(mask, 0, pieces=1)
        while document.unfinished:
            before, pieces = steps[0], pieces + 1
            document.go_on(1)
            longest = max(longest, steps[0] - before)
        assert document.fill(mask, 0) == 1, "the 2 of 299"
    assert longest <= 2 * unused._PIECE < steps[0] - started
    assert pieces > 5


def test_an_ending_near_the_budget_is_looked_for_in_few_steps(tmp_path: Path, steps: list[int]) -> None:
    """One that takes longer is not looked for at every token: the document is closed."""
    engine, _ = fake_engine(random_logits(3), tmp_path)
    with engine:
        schema = {"type": "array", "uniqueItems": True, "items": {"enum": list(range(300))}, "minItems": 299}
        grammar = engine.grammars.compile(Constraint.json_schema(schema))
        document = grammar.matcher()
        assert document.accept(ord("["), legal=True)
        before = steps[0]
        assert not document.fits(grammar.min_tokens + 20)
    assert 0 < steps[0] - before <= 2 * token_matcher._QUICK * unused._PIECE


def test_keys_that_must_differ_are_short(tmp_path: Path) -> None:
    engine, _ = fake_engine(random_logits(3), tmp_path)
    with engine:
        schema = {"type": "object", "minProperties": 600, "additionalProperties": {"type": "boolean"}}
        grammar = engine.grammars.compile(Constraint.json_schema(schema, conformance="spec"))
        document = json.loads(grammar.matcher().text(grammar.least.tokens))
    assert len(document) == 600
    assert max(map(len, document)) == 2


def test_endings_of_one_turn_share_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that come to their budget in the same step: each looks for and writes its ending in what the others left."""
    given: list[list[int]] = []
    late, close, clock, begin = [0.0], row.close, loop.time.thread_time, loop.Loop.begin_turn

    def costly(*args: Any, pieces: int, **named: Any) -> None:
        given[-1].append(pieces)
        late[0] += 0.004
        close(*args, pieces=pieces, **named)

    def begun(self: loop.Loop) -> None:
        given.append([])
        begin(self)

    monkeypatch.setattr(loop, "close", costly)
    monkeypatch.setattr(loop.Loop, "begin_turn", begun)
    monkeypatch.setattr(loop.time, "thread_time", lambda: clock() + late[0])
    engine, _ = fake_engine(random_logits(3), tmp_path, max_batch=8)
    constraint = Constraint.json_schema({"type": "string", "pattern": "^[a-h]{30,}$"})
    with engine:
        sampling = SamplingParams(max_tokens=33, n=8, seed=1)
        result = engine.generate(Request(prompt="x", constraint=constraint, sampling=sampling))
    assert {sample.status for sample in result.samples} <= {"closed", "complete"}
    most = max(given, key=len)
    assert len(most) >= 3, "several rows end in one turn"
    assert most == sorted(most, reverse=True)
    assert sum(most[:3]) <= row.AT_ONCE + 6 + 2
    assert max(most[3:], default=1) == 1


def test_a_piece_of_an_ending_asks_few_guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that ask for others make many shapes of one object, and each guard asks about all of them."""
    asked, holds = [0], guards.Another.holds

    def counted(self: guards.Another, facts: Any) -> bool:
        asked[0] += 1
        return holds(self, facts)

    monkeypatch.setattr(guards.Another, "holds", counted)
    names = [f"k{n}" for n in range(48)]
    needs = {name: [names[(7 * n + 1) % 48]] for n, name in enumerate(names)}
    part = {"type": "object", "properties": {name: {} for name in names}, "dependentRequired": needs}
    schema = {"type": "object", "additionalProperties": part, "maxProperties": 4}
    engine, _ = fake_engine(random_logits(3), tmp_path)
    with engine:
        document = engine.grammars.compile(Constraint.json_schema(schema)).matcher()
        for byte in b'{"a":{"k0":1':
            assert document.accept(byte, legal=True)
        work, longest, pieces = Work(document._find_ending(0)), 0, 0
        while not work.run(1):
            longest, pieces = max(longest, asked[0]), pieces + 1
            asked[0] = 0
    assert pieces > 1
    assert longest <= 2 * least_text._PIECE


def test_keys_that_the_shapes_of_an_object_share_are_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that ask for others make many shapes of one object, each with a region of its own."""
    asked: list[str] = []
    begins = StringTokens.may_begin

    def counted(self: StringTokens, name: str) -> bool:
        asked.append(name)
        return begins(self, name)

    monkeypatch.setattr(StringTokens, "may_begin", counted)
    names = [f"k{n}" for n in range(48)]
    needs = {name: [names[(7 * n + 1) % 48]] for n, name in enumerate(names)}
    part = {"type": "object", "properties": {name: {} for name in names}, "dependentRequired": needs}
    engine, _ = fake_engine(random_logits(3), tmp_path)
    with engine:
        document = engine.grammars.compile(Constraint.json_schema({"anyOf": [{"type": "null"}, part]})).matcher()
        document.fill(np.zeros((1, words(V)), dtype=np.int32), 0)
    assert sorted(asked) == sorted(names)


def test_many_that_are_cancelled_at_once_end_over_several_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each end takes 1 ms here; what is left goes on in the next turn, which nothing else has to bring about."""
    ends: list[int] = []
    late, clock, tick, end = [0.0], time.thread_time, EngineCore.tick, EngineCore._end

    def counted(self: EngineCore, sample: Any) -> None:
        ends[-1] += 1
        late[0] += 0.001
        end(self, sample)

    def turn(self: EngineCore) -> bool:
        ends.append(0)
        return tick(self)

    monkeypatch.setattr(EngineCore, "_end", counted)
    monkeypatch.setattr(EngineCore, "tick", turn)
    monkeypatch.setattr(time, "thread_time", lambda: clock() + late[0])
    engine, _ = fake_engine(random_logits(3), tmp_path, max_batch=2)
    with engine:
        sampling = SamplingParams(max_tokens=900, n=100, seed=1)
        futures = [engine.submit(Request(prompt="x", sampling=sampling, id=str(number))) for number in range(3)]
        for number in range(3):
            assert engine.cancel(str(number))
        samples = [sample for future in futures for sample in future.result(60).samples]
    assert sum(sample.status == "cancelled" for sample in samples) > 200
    assert max(ends) <= 6
