"""LIFT's HTTP contract: what it sends, what it gets, and what becomes of what is wrong."""

from __future__ import annotations

import json

import pytest

from engine.request import Usage
from engine.serve.settings import ServeSettings
from tests.serve.fakes import DOCUMENT, FakeEngine, Server, document

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
FIVE = {"prompt": "add two numbers", "schema": SCHEMA, "max_tokens": 2048, "temperature": 0.3, "top_p": 0.95}


@pytest.fixture(scope="module")
def server():
    with Server(FakeEngine()) as running:
        yield running


@pytest.fixture
def fake(server):
    server.engine.requests.clear()
    return server.engine


@pytest.mark.parametrize("path", ["/generate", "/generate_ir", "/"])
def test_lifts_five_fields_give_both_keys_and_no_error(server, path):
    response = server.post(path, FIVE)
    body = response.json()
    assert response.status_code == 200
    assert body["ir_json"] == DOCUMENT
    assert body["text"] == DOCUMENT
    assert json.loads(body["raw_text"]) == DOCUMENT
    assert "error" not in body
    assert (body["tokens_used"], body["prompt_tokens"], body["finish_reason"]) == (5, 7, "stop")
    assert isinstance(body["generation_time_ms"], float)
    assert body["request_id"].startswith("req-")
    for name in ("status", "valid", "created", "schema_hash", "timings_ms", "gpu_seconds", "device", "model"):
        assert name in body


def test_the_five_fields_reach_the_engine_unchanged(server, fake):
    server.post("/generate", FIVE)
    request = fake.requests[0]
    assert (request.prompt, request.template, request.system) == ("add two numbers", "chat", None)
    assert json.loads(request.constraint.source) == SCHEMA
    assert (request.sampling.max_tokens, request.sampling.temperature, request.sampling.top_p) == (2048, 0.3, 0.95)


def test_lifts_defaults_are_lifts(server, fake):
    server.post("/generate", {"prompt": "x"})
    sampling = fake.requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (2048, 0.3, 0.95)


def test_no_schema_is_free_text_as_a_string(server):
    body = server.post("/generate", {"prompt": "hello"}).json()
    assert body["text"] == body["ir_json"] == body["raw_text"] == "echo: hello"


def test_generate_ir_without_a_schema_takes_the_ir_schema(serving, tmp_path):
    engine = FakeEngine()
    path = tmp_path / "ir.json"
    path.write_text(json.dumps({"type": "object", "title": "mine"}))
    serving(engine, ServeSettings(ir_schema=path)).post("/generate_ir", {"prompt": "x"})
    assert json.loads(engine.requests[0].constraint.source)["title"] == "mine"


def test_every_sampling_field_and_option_is_read(server, fake):
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "schema": SCHEMA,
        "max_tokens": None,
        "top_k": 3,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "seed": 5,
        "n": 2,
        "logprobs": 1,
        "conformance": "spec",
        "whitespace": "flexible",
        "require_enforced": True,
        "schema_in_prompt": True,
        "deadline_s": 9,
        "cache_salt": "a",
    }
    assert server.post("/generate", body).status_code == 200
    request = fake.requests[0]
    sampling, constraint = request.sampling, request.constraint
    assert (sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (3, 0.1, 1.1)
    assert (sampling.seed, sampling.n, sampling.logprobs, sampling.max_tokens) == (5, 2, 1, None)
    assert (constraint.conformance, constraint.whitespace, constraint.require_enforced) == ("spec", "flexible", True)
    assert (request.schema_in_prompt, request.deadline_s, request.cache_salt) == (True, 9, "anonymous/a")


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("regex", "[a-z]+", "regex"),
        ("ebnf", 'root ::= "a"', "ebnf"),
        ("lark", 'start: "a"', "lark"),
        ("choice", ["a", "b"], "choice"),
        ("structural_tag", {"type": "structural_tag"}, "structural_tag"),
        ("json_object", True, "json_object"),
    ],
)
def test_other_constraints_have_a_field_each(server, fake, field, value, kind):
    assert server.post("/generate", {"prompt": "x", field: value}).status_code == 200
    assert fake.requests[0].constraint.kind == kind


@pytest.mark.parametrize(
    ("body", "code", "param", "kind"),
    [
        ({**FIVE, "top_q": 1}, 400, "top_q", "UnknownOption"),
        ({"schema": SCHEMA}, 400, "prompt", "RequestError"),
        ({**FIVE, "prompt": 7}, 400, "prompt", "Malformed"),
        ({**FIVE, "prompt": ""}, 400, "prompt", "RequestError"),
        ({**FIVE, "prompt": "\ud800"}, 400, "prompt", "RequestError"),
        ({**FIVE, "schema": "text"}, 400, "schema", "Malformed"),
        ({**FIVE, "schema": [1]}, 400, "schema", "Malformed"),
        ({**FIVE, "max_tokens": "many"}, 400, "max_tokens", "Malformed"),
        ({**FIVE, "max_tokens": 2.5}, 400, "max_tokens", "Malformed"),
        ({**FIVE, "max_tokens": True}, 400, "max_tokens", "Malformed"),
        ({**FIVE, "max_tokens": 0}, 400, "max_tokens", "Malformed"),
        ({**FIVE, "temperature": -1}, 400, "temperature", "Malformed"),
        ({**FIVE, "top_p": 0}, 400, "top_p", "Malformed"),
        ({**FIVE, "stop": ["x"]}, 400, "stop", "RequestError"),
        ({**FIVE, "regex": "a"}, 400, "regex", "RequestError"),
        ({**FIVE, "system": "s", "template": "raw"}, 400, "template", "RequestError"),
        ({"messages": [], "schema": SCHEMA}, 400, "messages", "Malformed"),
        ({"messages": [{"content": "x"}]}, 400, "messages", "RequestError"),
        ({**FIVE, "schema": {"refused": 1}}, 422, "schema", "SchemaRefused"),
        ({**FIVE, "max_tokens": 1}, 422, "max_tokens", "BudgetTooSmall"),
        ([], 400, None, "Malformed"),
        (None, 400, None, "Malformed"),
        ("text", 400, None, "Malformed"),
    ],
)
def test_what_is_wrong_is_told_by_name(server, body, code, param, kind):
    # json.dumps writes lone surrogates as escapes, which is how they reach a server
    response = server.post("/generate", None) if body is None else _raw(server, json.dumps(body))
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (code, param, kind)
    assert set(error) == {"message", "type", "param", "code", "pointer"}
    assert error["message"]


def _raw(server, content, path="/generate"):
    return server.client.post(path, content=content, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    "content",
    ["{", "", "{'a': 1}", b"\xff\xfe", '{"prompt": "x"} trailing', "[" * 100_000, '{"prompt": ' + "1" * 10_000 + "}"],
)
def test_malformed_json_is_400(server, content):
    response = _raw(server, content)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_a_refused_schema_carries_the_pointer(server):
    error = server.post("/generate", {**FIVE, "schema": {"refused": 1}}).json()["error"]
    assert (error["pointer"], error["code"]) == ("/refused", "schema_refused")


@pytest.mark.parametrize(
    ("status", "finish", "code"),
    [
        ("closed", "length", 200),
        ("length", "length", 200),
        ("invalid", None, 422),
        ("dead_end", None, 422),
        ("timeout", None, 504),
        ("cancelled", None, 503),
        ("error", None, 500),
    ],
)
def test_every_status_has_its_code(serving, status, finish, code):
    engine = FakeEngine(lambda request: document(request, status=status, valid=finish is not None))
    response = serving(engine).post("/generate", FIVE)
    assert response.status_code == code
    body = response.json()
    if finish:
        assert (body["finish_reason"], body["status"]) == (finish, status)
        assert "error" not in body
    else:
        assert body["error"]["message"]
        assert set(body) == {"error"}
    assert (response.headers.get("x-should-retry") == "false") == (code in (500, 504))


def test_a_time_out_in_the_queue_may_be_retried(serving):
    engine = FakeEngine(lambda request: document(request, status="timeout", usage=Usage(prompt_tokens=7)))
    response = serving(engine).post("/generate", FIVE)
    assert response.status_code == 504
    assert "x-should-retry" not in response.headers


def test_n_samples_are_listed(serving):
    def script(request):
        one = document(request)
        return document(request, samples=(one, one))

    body = serving(FakeEngine(script)).post("/generate", {**FIVE, "n": 2}).json()
    assert [sample["ir_json"] for sample in body["samples"]] == [DOCUMENT, DOCUMENT]


def test_an_engine_that_breaks_is_a_typed_500_without_its_message(serving, capfd):
    def script(request):
        raise KeyError("SECRET-PROMPT")

    response = serving(FakeEngine(script)).post("/generate", FIVE)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "EngineFailure"
    assert "SECRET-PROMPT" not in response.text + capfd.readouterr().err


def test_check_answers_the_verdict_object(server):
    body = server.post("/check", {"schema": SCHEMA, "conformance": "spec"}).json()
    assert (body["supported"], body["conformance"]) == (True, "spec")
    assert server.post("/check", {}).status_code == 400


def test_unknown_routes_and_methods_are_typed(server):
    assert server.post("/nope", {}).json()["error"]["type"] == "NotFound"
    response = server.get("/generate")
    assert (response.status_code, response.json()["error"]["type"]) == (405, "MethodNotAllowed")
    assert response.headers["allow"] == "POST"


def test_the_draft_of_a_schema_is_a_field(server, fake):
    tuple_of_one = {"type": "array", "items": [{"type": "integer"}]}
    assert server.post("/generate", {**FIVE, "schema": tuple_of_one, "draft": 7}).status_code == 200
    assert "draft-07" in fake.requests[-1].constraint.source
    response = server.post("/generate", {**FIVE, "schema": tuple_of_one, "draft": 5})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "draft")
    assert server.post("/check", {"schema": tuple_of_one, "draft": 7}).status_code == 200


def test_whether_contents_are_held_is_a_field(server, fake):
    encoded = {"type": "string", "contentEncoding": "base64"}
    for contents, kept in ((None, True), (True, True), (False, False)):
        given = {} if contents is None else {"contents": contents}
        server.post("/generate", {**FIVE, "schema": encoded, **given})
        assert ("contentEncoding" in fake.requests[-1].constraint.source) is kept
        assert server.post("/check", {"schema": encoded, **given}).status_code == 200
    response = server.post("/generate", {"prompt": "x", "regex": "a", "contents": False})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "contents")


@pytest.mark.parametrize("asked", [
    {"regex": "a+"}, {"ebnf": 'root ::= "a"'}, {"lark": 'start: "a"'}, {"choice": ["a"]}, {"json_object": True},
    {"structural_tag": {"format": {"type": "any_text"}}}, {"lark": 'start: "a"', "whitespace": "flexible"},
], ids=str)  # fmt: skip
def test_check_takes_every_kind(server, asked):
    response = server.post("/check", asked)
    assert response.status_code == 200
    assert response.json()["kind"] in asked


@pytest.mark.parametrize(("asked", "param"), [
    ({"regex": "a", "choice": ["a"]}, "choice"),
    ({"regex": "a", "draft": 7}, "draft"),
    ({"regex": ""}, "regex"),
    ({"schema": None}, "schema"),
    ({"grammar": "a"}, "grammar"),
])  # fmt: skip
def test_check_refuses_what_contradicts_itself(server, asked, param):
    response = server.post("/check", asked)
    assert response.status_code in (400, 422)
    assert response.json()["error"]["param"] == param
