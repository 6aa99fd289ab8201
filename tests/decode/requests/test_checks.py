"""Checks of the caller's own: they go back into values as `checked` keywords do, and one that gives no answer ends its
own request, whoever runs beside it."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine import Constraint, Engine, EngineConfig, Limits, Request, SamplingParams
from engine.checks.row_checks import Check, RowChecks
from engine.errors import CheckFailed, CheckTimeout, RequestError
from engine.judge import Undecided
from engine.request import Result
from tests.checks import functions
from tests.decode.fakes import fake_engine, random_logits, wants

HERE = "tests.checks.functions"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
ITEMS = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "integer"}}, "x": {"type": "null"}},
    "required": ["items", "x"],
}
PATIENT = Limits(check_s=60.0)
NO_ANSWER = [
    (functions.raises, CheckFailed, "raised ValueError: no idea"),
    (functions.exits, CheckFailed, "raised SystemExit: 3"),
    (functions.leaves, CheckFailed, "ended its process"),
    (functions.crashes, CheckFailed, "ended its process (the process died of signal 11)"),
    (functions.hungry, CheckFailed, "raised MemoryError"),
    (functions.number, CheckFailed, "answered int; a check answers None or a message"),
    (functions.yes, CheckFailed, "answered bool"),
    (functions.silent, CheckFailed, "answered an empty message"),
    (functions.huge, CheckFailed, "answered 1000000 characters"),
    (functions.late, CheckFailed, "answered coroutine"),
    (functions.sleeps, CheckTimeout, "ran longer than limits.check_s = 1 s"),
    (functions.spins, CheckTimeout, "ran longer than limits.check_s = 1 s"),
    (functions.holds_the_lock, CheckTimeout, "ran longer than limits.check_s = 1 s"),
]


def limits_for(kind: type[CheckFailed]) -> Limits:
    """A second for what hangs; a minute for what answers or dies, however busy the machine is."""
    return Limits() if kind is CheckTimeout else PATIENT


def asked(checks: Any, schema: Any = SCHEMA, **sampling: Any) -> Request:
    constraint = Constraint.json_schema(schema, checks=checks)
    return Request(prompt="x", constraint=constraint, sampling=SamplingParams(**{"temperature": 0, **sampling}))


def eventually(happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def running_check(folder: Path) -> int:
    """The number of the process in which `functions.told` stays."""
    file = folder / "pid"
    eventually(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine, _ = fake_engine(wants('{"a":"hello","b":12}'), tmp_path)
    with engine:
        yield engine


def test_a_wrong_value_is_written_again_and_the_verdict_names_the_check(engine: Engine) -> None:
    request = asked({"/a": functions.short})
    result = engine.generate(request)
    assert result.status == "complete"
    assert result.valid
    assert result.value is not None
    assert len(result.value["a"]) <= 3
    assert (result.verdicts or {})["checked"] == 1
    found = engine.check(SCHEMA, checks={"/a": functions.short})
    told = {"pointer": "/a", "keyword": "check", "verdict": "checked", "reason": "asked of each value there: short"}
    assert found["verdicts"][-1] == told
    assert not found["min_tokens_exact"]
    assert engine.check(SCHEMA)["min_tokens_exact"]


@pytest.mark.parametrize(
    "check", [lambda value, document: functions.short(value, document), functions.Named.short, functions.short]
)
def test_functions_of_any_kind_are_checks(engine: Engine, check: Any) -> None:
    result = engine.generate(asked({"/a": check}))
    assert result.status == "complete"
    assert len(result.value["a"]) <= 3


def test_a_check_may_be_a_registered_name(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants('{"a":"hello","b":12}'), tmp_path, checks={"brief": f"{HERE}:Named.short"})
    with engine:
        result = engine.generate(asked({"/a": "brief"}))
        assert len(result.value["a"]) <= 3
        with pytest.raises(RequestError, match="no check 'short' is registered here; registered: brief") as refused:
            engine.generate(asked({"/a": "short"}))
        assert (refused.value.param, refused.value.pointer) == ("checks", "/a")


def test_a_check_sees_the_document_as_it_was_when_the_value_closed(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants('{"items":[0,1,2],"x":null}'), tmp_path)
    with engine:
        result = engine.generate(asked({"/items/*": functions.as_many_as_before}, ITEMS))
    assert result.text == '{"items":[0,1,2],"x":null}', result.error


def test_a_value_that_stays_wrong_ends_invalid_after_the_allowed_returns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    schema = {
        **SCHEMA,
        "properties": {"log": {"const": str(log)}, **SCHEMA["properties"]},
        "required": ["log", "a", "b"],
    }
    engine, _ = fake_engine(wants(f'{{"log":"{log}","a":"hello","b":12}}'), tmp_path, limits=Limits(retries=2))
    with engine:
        result = engine.generate(asked({"/a": functions.never}, schema))
    assert result.status == "invalid"
    assert result.error is not None
    assert result.error["message"] == f"{result.value['a']!r} is wrong"
    assert (result.error["pointer"], result.error["param"]) == ("/a", "check")
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 3, "once for each writing, the last time at the end"


def test_a_forced_ending_passes_the_checks_or_is_invalid(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants('{"a":"' + "h" * 500), tmp_path)

    def even(value: Any, document: Any) -> str | None:
        return "odd" if len(value) % 2 else None

    with engine:
        results = [engine.generate(asked({"/a": even}, max_tokens=budget)) for budget in range(20, 26)]
        wrong = engine.generate(asked({"/b": lambda value, document: "no"}, max_tokens=20))
    assert {result.status for result in results} <= {"closed", "invalid"}
    assert sum(result.status == "closed" for result in results) >= 3
    for result in results:
        assert result.valid is (result.status == "closed") is (len(result.value["a"]) % 2 == 0)
    assert (wrong.status, (wrong.error or {})["pointer"]) == ("invalid", "/b")


def test_complete_and_closed_documents_pass_whatever_the_model_wants(tmp_path: Path) -> None:
    def small(value: Any, document: Any) -> str | None:
        return None if value % 2 == 0 else "odd"

    ended = []
    for seed in range(8):
        engine, _ = fake_engine(random_logits(seed), tmp_path)
        with engine:
            requests = [asked({"/items/*": small}, ITEMS, max_tokens=60, temperature=1, seed=n) for n in range(4)]
            ended += engine.generate_batch(requests)
    for result in ended:
        if result.status in ("complete", "closed"):
            assert all(number % 2 == 0 for number in result.value["items"])
        else:
            assert (result.status, (result.error or {})["param"]) == ("invalid", "check")
    assert sum(result.valid for result in ended) >= len(ended) // 2


@pytest.mark.parametrize(("check", "kind", "told"), NO_ANSWER, ids=lambda value: getattr(value, "__name__", ""))
def test_a_check_without_an_answer_ends_its_own_request_alone(
    tmp_path: Path, check: Any, kind: type[CheckFailed], told: str
) -> None:
    with fake_engine(wants('{"a":"hello","b":12}'), tmp_path, limits=limits_for(kind))[0] as engine:
        beside = [engine.submit(Request(prompt="y", sampling=SamplingParams(max_tokens=30))) for _ in range(2)]
        result = engine.generate(asked({"/a": check}))
        assert (result.status, (result.error or {})["type"]) == ("error", kind.__name__)
        assert told in (result.error or {})["message"]
        assert (result.error or {})["pointer"] == "/a"
        assert not result.valid
        assert [future.result(120).status for future in beside] == ["complete", "complete"]
        assert engine.generate(asked({"/a": functions.short})).valid, "the next one has a process again"


@pytest.mark.parametrize("check", [functions.sleeps, functions.spins, functions.holds_the_lock, "thread"])
def test_neighbours_take_their_steps_while_a_check_hangs(tmp_path: Path, check: Any) -> None:
    engine, network = fake_engine(wants('{"a":"hello","b":12}'), tmp_path)
    steps: list[float] = []
    hanging = threading.Event()

    def hangs(value: Any, document: Any) -> None:
        hanging.wait(600)

    with engine:
        engine.generate(asked({"/a": functions.short}))  # processes are there
        alone, before = engine.generate(asked({})), network.forwards
        assert alone.valid
        engine.generate(asked({}))
        needed = network.forwards - before
        network.before = lambda: steps.append(time.perf_counter())
        stuck = engine.submit(asked({"/a": hangs if check == "thread" else check}))
        eventually(lambda: any(sample.question for job in engine._thread._core._results for sample in job.samples))
        before = network.forwards
        del steps[:]
        assert engine.generate(asked({})).text == alone.text
        assert network.forwards - before <= needed + 1
        assert not stuck.done()
        gaps = [later - earlier for earlier, later in pairwise(steps)]
        assert max(gaps) < 0.5, "half of what the check hangs"
        assert (stuck.result(120).error or {})["type"] == "CheckTimeout"
    hanging.set()


def test_a_neighbour_with_a_check_of_its_own_does_not_wait_for_those_that_hang(tmp_path: Path) -> None:
    engine, _ = fake_engine(wants('{"a":"hello","b":12}'), tmp_path, limits=PATIENT, max_batch=8)
    with engine:
        stuck = [engine.submit(asked({"/a": functions.sleeps})) for _ in range(4)]
        eventually(lambda: sum(bool(s.question) for job in engine._thread._core._results for s in job.samples) == 4)
        assert engine.submit(asked({"/a": functions.short})).result(60).valid
        assert not any(future.done() for future in stuck)
        for future in stuck:
            future.cancel()


def test_every_sample_is_checked(tmp_path: Path) -> None:
    engine, _ = fake_engine(random_logits(5, scale=1.0), tmp_path)
    with engine:
        result = engine.generate(asked({"/a": functions.short}, n=5, temperature=1, max_tokens=80, seed=1))
    assert len(result.samples) == 5
    for sample in result.samples:
        assert sample.status in ("complete", "closed", "invalid")
        assert sample.valid is (len(sample.value["a"]) <= 3)


def test_a_stream_holds_back_the_value_that_is_asked_about_and_no_more(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    engine, _ = fake_engine(wants(f'{{"b":12,"a":"{gate}"}}'), tmp_path, limits=PATIENT)
    schema = {**SCHEMA, "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
    pieces: list[str] = []
    with engine:
        future = engine.submit(asked({"/a": functions.gated}, schema), on_text=lambda _, text: pieces.append(text))
        eventually(lambda: any(sample.question for job in engine._thread._core._results for sample in job.samples))
        held = "".join(pieces)
        gate.touch()
        result = future.result(120)
    assert held.rstrip(":") == '{"b":12,"a"'
    assert "".join(pieces) == result.text == f'{{"b":12,"a":"{gate}"}}'


def test_what_a_stream_handed_on_is_never_taken_back(engine: Engine) -> None:
    *pieces, result = engine.stream(asked({"/a": functions.short}))
    assert isinstance(result, Result)
    assert result.valid
    assert "".join(map(str, pieces)) == result.text
    assert len(pieces) > 3


def told_request(tmp_path: Path, **changes: Any) -> tuple[Engine, Request]:
    engine, _ = fake_engine(wants(f'{{"a":"{tmp_path / "pid"}","b":12}}'), tmp_path, limits=PATIENT)
    request = asked({"/a": functions.told})
    return engine, Request(prompt="x", constraint=request.constraint, sampling=request.sampling, **changes)


def test_cancelling_ends_the_check(tmp_path: Path) -> None:
    engine, request = told_request(tmp_path)
    with engine:
        future = engine.submit(request)
        pid = running_check(tmp_path)
        engine.cancel(request.id)
        assert future.result(30).status == "cancelled"
        eventually(lambda: gone(pid))


def test_a_deadline_ends_the_check(tmp_path: Path) -> None:
    engine, request = told_request(tmp_path, deadline_s=2.0)
    with engine:
        assert request.constraint is not None
        engine.warmup([request.constraint])  # two seconds are for the check, not for the grammar of a busy machine
        future = engine.submit(request)
        pid = running_check(tmp_path)
        result = future.result(30)
        assert (result.status, (result.error or {})["type"]) == ("error", "CheckTimeout")
        assert "deadline" in (result.error or {})["message"]
        eventually(lambda: gone(pid))


def test_closing_the_engine_leaves_no_process(tmp_path: Path) -> None:
    engine, request = told_request(tmp_path)
    future = engine.submit(request)
    pid = running_check(tmp_path)
    engine.close(drain=False)
    assert future.result(30).status == "cancelled"
    eventually(lambda: gone(pid))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("no.such.module:check", "ModuleNotFoundError"),
        (f"{HERE}:missing", "AttributeError"),
        (f"{HERE}:NOTHING", "it is no function but int"),
    ],
)
def test_what_cannot_be_imported_is_told_before_the_model_is_loaded(target: str, told: str) -> None:
    with pytest.raises(RequestError, match=f"the check 'mine' cannot be used: {re.escape(target)}: .*{told}") as wrong:
        Engine(EngineConfig(model="/no/such/model", checks={"mine": target}))
    assert "\n" not in wrong.value.message
    assert "PYTHONPATH" in wrong.value.message


@pytest.mark.parametrize("pointer", ["/c", "/a/0", "/b/*"])
def test_a_pointer_that_meets_nothing_is_refused_by_name(engine: Engine, pointer: str) -> None:
    with pytest.raises(RequestError, match="is no place of this schema") as refused:
        engine.generate(asked({pointer: functions.short}))
    assert (refused.value.param, refused.value.pointer) == ("checks", pointer)


def test_checks_are_no_part_of_the_grammar(engine: Engine) -> None:
    plain, checked = Constraint.json_schema(SCHEMA), Constraint.json_schema(SCHEMA, checks={"/a": functions.short})
    assert plain.key == checked.key
    assert plain != checked
    assert checked.unchecked == plain
    assert engine.generate(asked({})).text == '{"a":"hello","b":12}'
    assert engine.generate(asked({"/a": functions.short})).grammar_source == "memory"
    assert engine.generate(asked({})).text == '{"a":"hello","b":12}', "another's check is not asked"


@pytest.mark.parametrize(
    ("checks", "told"),
    [
        ({"a": functions.short}, "'a' is no JSON pointer"),
        ({"/a~2": functions.short}, "'/a~2' is no JSON pointer"),
        ({"/a": 3}, "checks./a must be a function, a registered name or a syntax, got int"),
        ({"/a": ""}, "checks./a must be a function, a registered name or a syntax, got str"),
        ({3: functions.short}, "3 is no JSON pointer"),
        ({"/a" * 501: functions.short}, "checks has 1002 characters, over the limit of 1000"),
        ({f"/{n}": functions.short for n in range(65)}, "checks has 65 pointers, over the limit of 64"),
        ([functions.short], "checks must be an object"),
    ],
)
def test_what_is_no_check_is_refused_when_it_is_made(checks: Any, told: str) -> None:
    with pytest.raises(RequestError, match=re.escape(told)) as refused:
        Constraint.json_schema(SCHEMA, checks=checks)
    assert refused.value.param == "checks"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"kind": "regex", "checks": (("", functions.short),)}, "checks does not apply to regex"),
        ({"kind": "json_schema", "checks": {"/a": functions.short}}, "checks must be pairs"),
        ({"kind": "json_schema", "checks": ("/a",)}, "checks must be pairs"),
        ({"kind": "json_schema", "checks": (1,)}, "checks must be pairs"),
    ],
)
def test_a_constraint_made_by_hand_is_looked_at_as_well(made: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told) as refused:
        Constraint(source="{}", **made)
    assert refused.value.param == "checks"


def test_what_is_asked_about_many_values_holds_their_text_once() -> None:
    row = RowChecks([Check("/*", "short", None, functions.short)])
    with pytest.raises(Undecided) as asked:
        row.judgement(b"[1, [2], 3]")
    assert [call.document for call in asked.value.calls] == [b"[1]", b"[1, [2]]", b"[1, [2], 3]"]
    assert len({id(call.text.obj) for call in asked.value.calls}) == 1


def test_checks_stand_beside_a_schema_alone_and_are_not_enforced() -> None:
    with pytest.raises(RequestError, match="checks does not apply to regex"):
        Constraint.from_mapping({"regex": "a", "checks": {"": functions.short}})
    with pytest.raises(RequestError, match="require_enforced excludes them"):
        Constraint.json_schema(SCHEMA, checks={"/a": functions.short}, require_enforced=True)


@pytest.mark.parametrize("text", ["x", "x=", "x=module", "=a:b", "x=a:b,x=c:d", "x=a b:c"])
def test_a_wrong_registration_names_its_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLOOP_CHECKS", text)
    with pytest.raises(RequestError, match="MASKLOOP_CHECKS: "):
        EngineConfig()


def test_the_environment_registers_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLOOP_CHECKS", "one=a.b:c, two=d:E.f")
    assert EngineConfig().checks == {"one": "a.b:c", "two": "d:E.f"}
    assert EngineConfig(checks={}).checks == {}
    with pytest.raises(RequestError, match="'x' names 'y'"):
        EngineConfig(checks={"x": "y"})
