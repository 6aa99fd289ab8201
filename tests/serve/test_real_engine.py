"""The whole path with the embedded model's tokens: HTTP in, valid documents out, through every contract."""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Iterator
from typing import Literal

import openai
import pydantic
import pytest

from engine.bundled import bundled_schema
from engine.client import ModalProvider
from engine.client.providers.fallback import judge
from engine.serve.settings import ServeSettings
from tests.serve.fakes import Server

pytest.importorskip("torch", reason="the real engine needs the extra 'local'")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("embedded-model")]
MODEL = "embedded"
CITY = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "people": {"type": "integer", "minimum": 1}},
    "required": ["name", "people"],
}


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    people: int


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    from tests.decode.noise import noise_engine

    with Server(noise_engine(), ServeSettings(served_model_name=MODEL)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0, timeout=300) as made:
        yield made


def post(server, path, body):
    return server.client.post(path, json=body, timeout=300)


def test_lifts_five_fields_give_a_valid_ir_under_both_keys(server):
    schema = bundled_schema("lift_ir")
    body = {"prompt": "Add two integers", "schema": schema, "max_tokens": 64, "temperature": 0.3, "top_p": 0.95}
    answer = post(server, "/generate", body).json()
    assert answer["ir_json"] == answer["text"] == json.loads(answer["raw_text"])
    assert answer["status"] in ("complete", "closed")
    assert judge(schema, answer["ir_json"]) is None
    assert 0 < answer["tokens_used"] <= 64
    assert "error" not in answer


def test_the_provider_and_the_function_calls_reach_the_same_engine(server):
    async def ask():
        provider = ModalProvider(server.url + "/generate", {})
        await provider.initialize({})
        try:
            return await provider.generate_structured("Name a city", CITY, max_tokens=40), await provider.check_health()
        finally:
            await provider.aclose()

    document, healthy = asyncio.run(ask())
    assert judge(CITY, document) is None
    assert healthy


def test_a_budget_under_the_shortest_document_is_422_not_half_a_document(server):
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 100}}, "required": ["a"]}
    response = post(server, "/generate", {"prompt": "x", "schema": schema, "max_tokens": 3})
    assert response.status_code == 422
    assert response.json()["error"]["type"] == "BudgetTooSmall"


@pytest.mark.parametrize("schema", [{"type": "object", "properties": 3}, {"$ref": "http://example.org/x"}, {"not": {}}])
def test_a_schema_that_cannot_be_used_is_422_with_a_reason(server, schema):
    response = post(server, "/generate", {"prompt": "x", "schema": schema})
    assert response.status_code == 422
    assert response.json()["error"]["message"]


def test_check_tells_verdicts(server):
    answer = post(server, "/check", {"schema": CITY}).json()
    assert answer["supported"] is True
    assert {verdict["keyword"] for verdict in answer["verdicts"]} >= {"maxLength", "minimum", "required"}
    assert answer["min_tokens"] > 0


def test_parse_gives_the_model_even_when_the_document_had_to_be_closed(client):
    for budget in (60, 16):
        answer = client.chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": "A city"}], response_format=City, max_tokens=budget
        )
        assert isinstance(answer.choices[0].message.parsed, City)


def test_a_stream_is_the_same_text_as_the_whole(client):
    named = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    kwargs = {
        "messages": [{"role": "user", "content": "A city"}],
        "response_format": named,
        "seed": 7,
        "max_tokens": 40,
    }
    whole = client.chat.completions.create(model=MODEL, **kwargs).choices[0].message.content
    chunks = list(client.chat.completions.create(model=MODEL, stream=True, **kwargs))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_tool_call_satisfies_its_schema(client, stream):
    tools = [{"type": "function", "function": {"name": "population", "parameters": CITY}}]
    kwargs = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 60, "seed": 3}
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "How many people live in Oslo?"}], stream=stream, **kwargs
    )
    if stream:
        chunks = list(answer)
        calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
        reason = chunks[-1].choices[0].finish_reason
    else:
        calls, reason = answer.choices[0].message.tool_calls, answer.choices[0].finish_reason
    assert reason == "tool_calls"
    assert [call.function.name for call in calls] == ["population"]
    assert judge(CITY, json.loads(calls[0].function.arguments)) is None


def test_logprobs_n_and_seed(client):
    def ask():
        return client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, n=2, seed=5, logprobs=True,
            top_logprobs=2, temperature=0.9,
        )  # fmt: skip

    first, second = ask(), ask()
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(first.choices) == 2
    for choice in first.choices:
        assert len(choice.logprobs.content) == 5
        assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in choice.logprobs.content)


def test_a_stop_text_ends_free_text(client):
    asked = {"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6, 7, 8,", "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    answer = client.completions.create(**asked, stop=[whole[5:8]])
    assert answer.choices[0].text == whole[: whole.index(whole[5:8])]
    assert answer.choices[0].finish_reason == "stop"


def test_regex_and_choice(client):
    for given, good in (({"regex": "[0-9]{3}"}, str.isdigit), ({"choice": ["yes", "no"]}, {"yes", "no"}.__contains__)):
        answer = client.completions.create(model=MODEL, prompt="x", extra_body={"structured_outputs": given})
        assert good(answer.choices[0].text)


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Weather(pydantic.BaseModel):
    """Arguments as pydantic writes them: an enum behind $ref, anyOf with null, a const, a model inside."""

    unit: Unit
    style: Literal["short", "long"] | None
    kind: Literal["now"]
    where: City | None
    code: str = pydantic.Field(pattern="^[A-Z]{3}$")
    days: int = pydantic.Field(ge=1, le=7)


@pytest.mark.parametrize(("seed", "stream"), [(1, False), (2, True)])
def test_every_argument_of_a_tool_call_obeys_its_schema_whatever_its_spelling(client, seed, stream):
    function = {"name": "weather", "parameters": Weather.model_json_schema()}
    asked = {
        "model": MODEL, "messages": [{"role": "user", "content": "Weather?"}], "max_tokens": 130, "temperature": 1.0,
        "tools": [{"type": "function", "function": function}], "tool_choice": "required", "seed": seed,
    }  # fmt: skip
    if stream:
        with client.chat.completions.stream(**asked) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**asked).choices[0].message
    for call in message.tool_calls:
        Weather.model_validate_json(call.function.arguments)


@pytest.mark.parametrize("said", [{}, {"content": None}, {"content": ""}])
def test_a_message_of_tool_calls_alone_is_the_same_prompt_on_both_routes(server, said):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"messages": [{"role": "assistant", **said, "tool_calls": [call]}], "max_tokens": 1}
    here = post(server, "/generate", asked)
    there = post(server, "/v1/chat/completions", {**asked, "model": MODEL})
    assert (here.status_code, there.status_code) == (200, 200)
    assert here.json()["prompt_tokens"] == there.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "object", "properties": {"a": {"type": 7}}}, "/0/function/parameters/properties/a/type"),
        ({"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]}, "/0/function/parameters"),
        ({"type": "object", "properties": {"a": {"$ref": "http://x.test/y"}}}, "/0/function/parameters"),
        ({"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}, "/0/function/parameters/properties/a"),
    ],
)
def test_a_tool_that_cannot_be_called_is_422_with_its_place(server, schema, place):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "tool_choice": "required",
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}  # fmt: skip
    response = post(server, "/v1/chat/completions", body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (422, "tools")
    assert error["pointer"].startswith(place)


EVEN = {"type": "object", "properties": {"n": {"multipleOf": 2, "minimum": 1}}, "required": ["n"]}
TAG = {"type": "triggered_tags", "triggers": ["<n>"], "at_least_one": True, "stop_after_first": True,
       "tags": [{"type": "tag", "begin": "<n>", "content": {"type": "json_schema", "json_schema": EVEN},
                 "end": "</n>"}]}  # fmt: skip


@pytest.mark.parametrize(
    "constraint", [{"lark": f'start: "<n>" %json {json.dumps(EVEN)} "</n>"'}, {"structural_tag": {"format": TAG}}]
)
@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_a_schema_inside_another_kind_is_held(server, constraint, conformance):
    for seed in range(2):
        body = {"prompt": "x", "max_tokens": 24, "temperature": 1.0, "seed": seed, "conformance": conformance}
        answer = post(server, "/generate", {**body, **constraint}).json()
        if answer.get("error"):
            assert (conformance, answer["error"]["type"]) == ("spec", "invalid")  # a key written twice
            continue
        assert answer["valid"]
        assert judge(EVEN, json.loads(answer["text"].removeprefix("<n>").removesuffix("</n>"))) is None


def test_an_embedded_schema_that_is_only_checked_is_refused_where_all_must_be_enforced(server):
    lark = 'start: %json {"type": "string", "pattern": "^(a+)\\\\1$"}'
    response = post(server, "/generate", {"prompt": "x", "lark": lark, "require_enforced": True})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["pointer"]) == (422, "SchemaRefused", "/%json/0")
