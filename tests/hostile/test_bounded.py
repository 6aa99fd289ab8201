"""What a stranger's constraint may take: judging, lowering and compiling end within their limits, beside everybody."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.soak.attacks import nested_choice
from engine import Constraint, Engine, Limits, Request, SamplingParams
from engine.errors import JudgingLimit, LimitExceeded
from engine.schema.reading.validator import Validator
from tests.decode.fakes import fake_engine, wants
from tests.grammar.fakes import BOMB
from tests.hostile.families import families
from tests.hostile.growth import Report, grow, measured
from tests.serve.fakes import Server

LIMITS = Limits(compile_s=1.0, judge_s=0.3)
SLOW = 10


def doubling(n: int) -> dict[str, Any]:
    """n references, each of which stands twice for the next."""
    defs = {f"d{i}": {"allOf": [{"$ref": f"#/%24defs/d{i + 1}"}] * 2} for i in range(n)}
    return {"$defs": {**defs, f"d{n}": {"type": "string"}}, "$ref": "#/%24defs/d0"}


HEAVY: dict[str, Constraint] = {
    "multiple": Constraint.json_schema({"type": "number", "multipleOf": 0.0001237}),
    "tag": Constraint.structural_tag({"format": {"type": "any_text", "excludes": ["a" * 4000]}}),
    "keys": Constraint.json_schema(
        {"type": "object", "patternProperties": {"(a|b)*a(a|b){14}": {}, "(a|b)*b(a|b){13}c": {}}}
    ),
    "many keys": Constraint.json_schema(BOMB),
}


@pytest.mark.parametrize("schema", [nested_choice(40), doubling(18), doubling(40)], ids=["choice", "18", "40"])
def test_what_takes_for_ever_to_judge_ends_typed_and_holds_nobody_up(server: Server, schema: Any) -> None:
    with ThreadPoolExecutor(1) as beside, measured() as pieces:
        hostile = beside.submit(server.post, "/generate", {"prompt": "x", "schema": schema}, timeout=300)
        answer = server.post("/generate", {"prompt": "x", "schema": {"const": str(len(str(schema)))}}, timeout=300)
        assert answer.status_code == 200
        found = hostile.result(300)
    if found.status_code != 200:
        assert found.status_code == 422
        assert found.json()["error"]["type"] in ("JudgingLimit", "LimitExceeded")
    assert pieces.longest["decode turn"] < 0.05
    assert pieces.longest.get("judge job", 0.0) < LIMITS.judge_s + 0.1


def test_a_result_says_that_it_could_not_be_judged_and_keeps_its_text(engine: Engine) -> None:
    request = Request(prompt="x", constraint=Constraint.json_schema(nested_choice(40)))
    result = engine.generate(request)
    assert (result.status, result.valid) == ("error", False)
    assert (result.error or {})["type"] == "JudgingLimit"
    assert "judge_s = 0.3" in (result.error or {})["message"]
    assert json.loads(result.text)
    assert engine.in_flight() == []


def test_a_document_too_deep_to_be_read_is_no_valid_one_without_a_value(tmp_path: Path) -> None:
    deep = "[" * 1200 + "]" * 1200
    narrow, _ = fake_engine(wants(deep), tmp_path, max_sequence=4096)
    with narrow:
        params = SamplingParams(max_tokens=4000, temperature=0.0)
        constraint = Constraint.json_schema({"type": "array"})
        result = narrow.generate(Request(prompt="x", constraint=constraint, sampling=params))
    assert (result.status, result.valid, result.text) == ("error", False, deep)
    assert (result.error or {})["type"] == "JudgingLimit"


def test_the_deadline_ends_judging_too(engine: Engine) -> None:
    slow = Request(prompt="x", constraint=Constraint.json_schema(nested_choice(41)), deadline_s=2.0)
    started = time.monotonic()
    result = engine.generate(slow)
    assert (result.error or {})["type"] == "JudgingLimit"
    assert time.monotonic() - started < 3.0


@pytest.mark.parametrize("around", [lambda part: part, lambda part: {"not": part}], ids=["plain", "not"])
def test_a_pattern_that_goes_back_for_ever_makes_a_text_neither_valid_nor_invalid(engine: Engine, around: Any) -> None:
    constraint = Constraint.json_schema(around({"pattern": "^(a|aa)+(?=b)b$"}))
    judged = engine.judge.submit(constraint, [json.dumps("a" * 90 + "c").encode()])
    with pytest.raises(JudgingLimit, match="judge_s"):
        judged.result(300)


def idle(engine: Engine) -> bool:
    """Whether nothing compiles any more, soon."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if not any(task.job.module == "engine.grammar.store.worker" for task in engine.grammars.sandbox._tasks):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("name", HEAVY)
def test_what_looks_light_and_is_not_ends_within_its_limit(engine: Engine, name: str) -> None:
    with measured() as pieces:
        refused = engine.grammars.submit(HEAVY[name]).exception(300)
        assert idle(engine)
    assert refused is None or (isinstance(refused, LimitExceeded) and "compile_s = 1 s" in refused.message)
    assert pieces.longest["grammar job"] < LIMITS.compile_s + 0.1
    assert pieces.longest.get("light load", 0.0) < 0.05


def test_one_owners_heavy_schemas_do_not_delay_anothers(engine: Engine) -> None:
    heavy = [{"type": "number", "multipleOf": 0.0001237, "title": str(n)} for n in range(12)]
    flood = [engine.grammars.submit(Constraint.json_schema(schema), owner="a") for schema in heavy]
    small = engine.grammars.submit(Constraint.json_schema({"enum": ["small", 1]}), owner="b")
    small.result(300)
    assert sum(future.done() for future in flood) <= 2
    for future in flood:
        future.cancel()
    until = time.monotonic() + 120
    while engine.grammars._running and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.grammars._running == {}
    assert idle(engine)


def test_a_keyword_that_is_only_checked_is_judged_elsewhere_and_found_all_the_same(engine: Engine) -> None:
    items = {"type": "integer", "minimum": 0, "maximum": 9999}
    schema = {"type": "array", "uniqueItems": True, "items": items, "minItems": 2, "contains": {"minimum": 0}}
    constraint = Constraint.json_schema(schema)
    assert engine.grammars.compile(constraint).judge is not None, "a keyword of it is only checked"
    params = SamplingParams(max_tokens=60, n=4)
    with measured() as pieces:
        result = engine.generate(Request(prompt="x", constraint=constraint, sampling=params))
    assert {sample.status for sample in result.samples} <= {"complete", "closed", "invalid"}
    assert pieces.longest["judge job"] > 0
    assert engine.judge.submit(constraint, [result.text.encode()]).result(300).judgements[0].valid is result.valid


def tools(schema: Any) -> dict[str, Any]:
    """A request of the chat route that ends in calls whose parameters are so."""
    declared = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    told = {"model": "fake", "messages": [{"role": "user", "content": "x"}], "max_tokens": 600, "seed": 1}
    return {**told, "tools": declared, "tool_choice": "required", "parallel_tool_calls": False}


def slow_tool(n: int) -> dict[str, Any]:
    """Parameters that the validator takes a while for, twice as long with each n."""
    parameter = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "required": ["a"]}
    return {**parameter, "$defs": nested_choice(n)["$defs"], "additionalProperties": False}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_no_schema_of_a_tool_is_judged_where_others_wait(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: str, stream: bool
) -> None:
    """Neither before decoding nor after it, when calls are read into arguments."""
    monkeypatch.setattr(Validator, "__init__", lambda *_: pytest.fail("a validator was made in this process"))
    monkeypatch.setattr(Validator, "check_value", lambda *_: pytest.fail("a value was judged in this process"))
    body: dict[str, Any] = {**tools(slow_tool(SLOW)), "stream": stream}
    if path == "/v1/responses":
        (declared,) = body["tools"]
        body = {"model": "fake", "input": "x", "max_output_tokens": 600, "stream": stream, "tool_choice": "required",
                "parallel_tool_calls": False, "tools": [{"type": "function", **declared["function"]}]}  # fmt: skip
    with measured() as pieces:
        answer = server.post(path, body, timeout=300)
    assert (answer.status_code, "error" in answer.text[-200:]) == (200, False), answer.text
    assert '"name":"f"' in answer.text
    assert pieces.longest["judge job"] > 0
    assert pieces.longest["event loop"] < 0.05


def test_growing_schemas_hold_nothing_and_are_refused_by_name(server: Server) -> None:
    """Some of the families, to a modest size; all of them to the limit: `python -m tests.hostile.growth`."""
    report = Report(Limits(compile_s=1.0, judge_s=0.3, schema_bytes=600))
    with measured() as pieces:
        for family in families()[::75]:
            grow(family, server, pieces, report)
    assert report.over == []
    assert report.asked > 12
