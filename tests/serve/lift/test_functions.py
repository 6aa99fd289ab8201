"""The function-call contract where it fails: dicts in place, nothing raised. Its answers: tests/modal."""

from __future__ import annotations

import asyncio
import json

import pytest

from engine.serve.lift.functions import Functions
from engine.serve.service.service import Service
from engine.serve.wire.json_body import MOST_VALUES
from tests.hostile.growth import PIECE_S, measured
from tests.serve.fakes import DOCUMENT, FakeEngine, document

SCHEMA = {"type": "object"}


def run(engine, work):
    async def main():
        return await work(Functions(Service(engine)))

    answer = asyncio.run(main())
    json.dumps(answer)
    return answer


def test_generate_has_lifts_names_order_and_defaults(fake):
    answer = run(fake, lambda f: f.generate("x", SCHEMA, 100, 0.0, 0.5))
    assert answer["ir_json"] == answer["text"] == DOCUMENT
    assert "error" not in answer
    sampling = fake.requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (100, 0.0, 0.5)
    run(fake, lambda f: f.generate(prompt="x"))
    sampling = fake.requests[1].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (2048, 0.3, 0.95)


def test_a_failure_has_an_error_line_and_never_a_value():
    engine = FakeEngine(lambda request: document(request, status="invalid", valid=False, text='{"half'))
    answer = run(engine, lambda f: f.generate("x", SCHEMA))
    assert (answer["status"], answer["finish_reason"], answer["raw_output"]) == ("invalid", "error", '{"half')
    assert isinstance(answer["error"], str)
    assert "\n" not in answer["error"]
    assert not {"text", "ir_json", "value"} & set(answer)


def test_a_wrong_type_is_a_failure_not_an_exception(fake):
    for bad in ({"prompt": 3}, {"prompt": "x", "schema": "s"}, {}):
        answer = run(fake, lambda f, bad=bad: f.generate_ir(bad))
        assert answer["error"]
        assert "raw_output" not in answer


async def collect_one(functions, body):
    return [item async for item in functions.stream(body)]


def test_an_id_may_be_chosen_but_not_twice_at_once():
    engine = FakeEngine(delay_s=0.3)

    async def twice(functions):
        return await asyncio.gather(*(functions.generate("x", id="mine") for _ in range(2)))

    answered, refused = sorted(run(engine, twice), key=lambda result: "error_detail" in result)  # either may be first
    assert answered["request_id"] == "mine"
    assert refused["error_detail"]["param"] == "id"


CIRCLE: dict = {"prompt": "x"}
CIRCLE["schema"] = CIRCLE
NOT_REQUESTS = [None, "x", 7, ["x"], 1j, {1, 2}, b"{}"]
NOT_JSON = [
    {"prompt": 1j},
    {"prompt": "x", "schema": {"enum": {1, 2}}},
    {"prompt": "x", "deadline_s": float("nan")},
    {("a", "b"): 1},
    CIRCLE,
]


@pytest.mark.parametrize("request_", [*NOT_REQUESTS, *NOT_JSON], ids=repr)
def test_what_is_no_request_is_a_failure_in_its_place_and_the_others_are_answered(fake, request_):
    good = {"prompt": "x", "schema": SCHEMA}
    answers = run(fake, lambda f: f.generate_batch([good, request_, good]))
    assert [answer["status"] for answer in answers] == ["complete", "error", "complete"]
    for failure in (
        answers[1],
        run(fake, lambda f: f.generate_ir(request_)),
        run(fake, lambda f: collect_one(f, request_))[-1],
    ):
        assert (failure["error_detail"]["status_code"], failure["finish_reason"]) == (400, "error")
        assert "text" not in failure


@pytest.mark.parametrize("requests", [None, "xy", 7, {"prompt": "x"}, 1j], ids=repr)
def test_a_batch_that_is_no_list_is_one_failure(fake, requests):
    (failure,) = run(fake, lambda f: f.generate_batch(requests))
    assert failure["error_detail"]["type"] == "Malformed"


@pytest.mark.parametrize("schema", [None, 7, "string", [1], {1, 2}], ids=repr)
def test_check_of_what_is_no_schema_is_a_failure(fake, schema):
    assert run(fake, lambda f: f.check(schema))["error_detail"]["status_code"] == 400


def test_a_fault_of_our_own_is_a_failure_that_does_not_quote_the_request(fake, capsys):
    fake.submit = lambda *_, **__: 1 / 0
    failure = run(fake, lambda f: f.generate("secret"))
    assert failure["error_detail"] == {
        "type": "EngineFailure", "message": "ZeroDivisionError in the engine", "status_code": 500,
    }  # fmt: skip
    assert "secret" not in capsys.readouterr().err


def test_requests_of_all_batches_together_stay_below_the_engines_queue():
    engine = FakeEngine(delay_s=0.05)
    most = 0

    async def batches(f):
        nonlocal most
        calls = [f.generate_batch([{"prompt": "x"}] * 10) for _ in range(10)]
        gathered = asyncio.gather(*calls)
        while not gathered.done():
            most = max(most, len(f._service.in_flight))
            await asyncio.sleep(0.005)
        return await gathered

    answers = run(engine, batches)
    assert {answer["status"] for batch in answers for answer in batch} == {"complete"}
    assert most == 32


CALLS = {
    "generate": lambda f, body: f.generate(**body),
    "generate_ir": lambda f, body: f.generate_ir(body),
    "generate_batch": lambda f, body: f.generate_batch([body]),
    "stream": collect_one,
    "check": lambda f, body: f.check(body["schema"]),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_large_request_holds_the_event_loop_no_longer_than_a_piece(fake, name):
    body = {"prompt": "x", "schema": {"enum": list(range(MOST_VALUES - 100))}}
    with measured() as pieces:
        run(fake, lambda f: CALLS[name](f, body))
    assert {"submit", "check"} & set(fake.calls), "it was taken"
    assert pieces.longest["event loop"] < PIECE_S


@pytest.mark.parametrize("name", CALLS)
def test_more_values_than_http_takes_are_refused_alike(fake, name):
    answer = run(fake, lambda f: CALLS[name](f, {"prompt": "x", "schema": {"enum": [0] * (MOST_VALUES + 1)}}))
    failure = answer[-1] if isinstance(answer, list) else answer
    assert (failure["error_detail"]["type"], failure["error_detail"]["status_code"]) == ("BodyTooLarge", 413)
    assert fake.calls == []
