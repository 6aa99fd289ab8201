"""The function-call contract: plain dicts in and out, failures in place, nothing raised."""

from __future__ import annotations

import asyncio
import json

from engine.serve.functions import Functions
from engine.serve.service import Service
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


def test_generate_ir_takes_a_dict_and_the_bundled_ir_schema(fake):
    assert run(fake, lambda f: f.generate_ir({"prompt": "x"}))["status"] == "complete"
    assert "signature" in json.loads(fake.requests[0].constraint.source)["properties"]


def test_a_batch_keeps_order_and_failures_stay_in_their_place(fake):
    good, bad = {"prompt": "a"}, {"prompt": "b", "nonsense": 1}
    answers = run(fake, lambda f: f.generate_batch([good, bad, {"prompt": "c"}]))
    assert [answer.get("text") for answer in answers] == ["echo: a", None, "echo: c"]
    assert answers[1]["error_detail"] == {
        "type": "UnknownOption",
        "message": "unknown field 'nonsense'",
        "param": "nonsense",
        "status_code": 400,
    }


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


def test_stream_gives_pieces_then_the_answer(fake):
    async def collect(functions):
        return [item async for item in functions.stream({"prompt": "a b c"})]

    *pieces, last = run(fake, collect)
    assert "".join(pieces) == "echo: a b c" == last["text"]
    assert run(fake, lambda f: collect_one(f, {"nonsense": 1}))[0]["error_detail"]["type"] == "UnknownOption"


async def collect_one(functions, body):
    return [item async for item in functions.stream(body)]


def test_check_info_and_warmup_are_plain(fake):
    assert run(fake, lambda f: f.check(SCHEMA, "spec"))["conformance"] == "spec"
    assert run(fake, lambda f: f.info())["model"] == "fake"
    assert run(fake, lambda f: f.warmup())["ready_for_requests"] is True


def test_an_id_may_be_chosen_but_not_twice_at_once():
    engine = FakeEngine(delay_s=0.3)

    async def twice(functions):
        return await asyncio.gather(*(functions.generate("x", id="mine") for _ in range(2)))

    first, second = run(engine, twice)
    assert first["request_id"] == "mine"
    assert second["error_detail"]["param"] == "id"
