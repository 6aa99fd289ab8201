"""A batch through Modal's map: order, failures in place, the form of a Result line."""

from __future__ import annotations

import asyncio
import json

from engine.client.batch import CHUNK, run_batch
from engine.request import Request, Result
from engine.serve.lift.functions import Functions
from engine.serve.service.service import Service
from tests.serve.fakes import DOCUMENT, FakeEngine, document


class Mapped:
    """What `modal.Cls.from_name(..)()` gives, over the real functions: `generate_batch.map`."""

    def __init__(self, engine, broken=()):
        self.functions, self.broken, self.calls = Functions(Service(engine)), broken, []
        self.generate_batch = self

    def map(self, bodies, *, order_outputs, return_exceptions):
        assert order_outputs
        assert return_exceptions
        for number, body in enumerate(bodies):
            self.calls.append(body)
            if number in self.broken:
                yield ConnectionError("container lost")
            else:
                yield asyncio.run(self.functions.generate_batch(body))


def lines(count):
    return [{"id": f"line-{number}", "prompt": f"p{number}", "schema": {"type": "object"}} for number in range(count)]


def test_every_line_comes_back_in_order_with_its_own_id():
    handle = Mapped(FakeEngine())
    results = list(run_batch(lines(2 * CHUNK + 1), handle=handle))
    assert [result["id"] for result in results] == [line["id"] for line in lines(2 * CHUNK + 1)]
    assert [len(call) for call in handle.calls] == [CHUNK, CHUNK, 1]
    assert all(result["status"] == "complete" and result["value"] == DOCUMENT for result in results)
    json.dumps(results)


def test_a_line_means_what_it_means_locally():
    handle = Mapped(FakeEngine())
    list(run_batch([{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x", "temperature": 0}], handle=handle))
    first, second = handle.calls[0]
    assert first == {"prompt": "x", "max_tokens": None, "temperature": 1.0, "top_p": 1.0}
    assert second["temperature"] == 0


def test_the_lines_have_the_fields_of_a_local_result():
    remote = next(iter(run_batch(lines(1), handle=Mapped(FakeEngine()))))
    local = document(Request(prompt="p0"), text=remote["text"], value=DOCUMENT).to_dict()
    assert set(local) - set(remote) <= {"token_ids", "logprobs"}
    assert set(remote) <= set(Result.__dataclass_fields__)
    assert json.loads(remote["text"]) == remote["value"]


def test_one_bad_line_and_one_lost_container_stay_in_their_places():
    told = lines(2 * CHUNK)
    told[1]["nonsense"] = 1
    results = list(run_batch(told, handle=Mapped(FakeEngine(), broken=(1,))))
    assert results[1]["status"] == "error"
    assert results[1]["error"]["param"] == "nonsense"
    assert [result["status"] for result in results[:CHUNK]].count("complete") == CHUNK - 1
    assert all(result["error"]["message"] == "container lost" for result in results[CHUNK:])


def test_free_text_has_no_value():
    result = next(iter(run_batch([{"id": "a", "prompt": "x"}], handle=Mapped(FakeEngine()))))
    assert (result["text"], result["value"]) == ("echo: x", None)
