"""OpenAI's Responses API through the official client: the real engine with the embedded model's tokens behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai.types.responses import response_create_params

from engine.serve.openai.responses_body import ResponsesBody
from engine.serve.settings import ServeSettings
from tests.serve.fakes import Server

pytest.importorskip("torch", reason="the real engine needs the extra 'local'")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("embedded-model")]
MODEL = "embedded"
USER: Any = [{"role": "user", "content": "How large is Rome?"}]


class City(pydantic.BaseModel):
    size: Literal["small", "large"]


SCHEMA = {**City.model_json_schema(), "additionalProperties": False}
TOOL: Any = {"type": "function", "name": "measure", "description": "d", "parameters": SCHEMA, "strict": True}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "measure", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    from tests.decode.noise import noise_engine

    with (
        Server(noise_engine(), ServeSettings(served_model_name=MODEL)) as server,
        openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0, timeout=300) as made,
    ):
        yield made


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.responses.create(**{"model": MODEL, "input": USER, "max_output_tokens": 60, **more})


def test_text_is_one_message(client: openai.OpenAI) -> None:
    made = ask(client, input="Say hi", instructions="Be short.", max_output_tokens=4, metadata={"a": "b"})
    assert made.output_text
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert made.usage.output_tokens <= 4
    assert made.metadata == {"a": "b"}


def test_a_format_is_honoured_and_parsed(client: openai.OpenAI) -> None:
    made = client.responses.parse(model=MODEL, input=USER, text_format=City, max_output_tokens=40)
    assert isinstance(made.output_parsed, City)
    assert made.status == "completed"


def test_a_stream_has_the_events_of_the_contract_in_order(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=USER, text_format=City, max_output_tokens=40) as events:
        seen = list(events)
        final = events.get_final_response()
    kinds = list(dict.fromkeys(event.type for event in seen))
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    raw = [event for event in seen if hasattr(event, "sequence_number")]
    assert [event.sequence_number for event in raw] == list(range(len(raw)))
    assert isinstance(final.output_parsed, City)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_comes_with_its_arguments_and_its_result_can_be_sent_back(client: openai.OpenAI, stream: bool) -> None:
    given: Any = {"tools": [TOOL], "tool_choice": "required", "max_output_tokens": 100}
    if stream:
        made = next(e.response for e in ask(client, stream=True, **given) if e.type == "response.completed")
    else:
        made = ask(client, **given)
    call = made.output[0]
    assert (call.type, call.name) == ("function_call", "measure")
    assert json.loads(call.arguments)["size"] in ("small", "large")
    back = [*USER, *made.output, {"type": "function_call_output", "call_id": call.call_id, "output": "large"}]
    again = ask(client, input=back, tools=[TOOL], tool_choice="none", max_output_tokens=5)
    assert again.output[0].type == "message"


def test_log_probabilities_stand_beside_the_text(client: openai.OpenAI) -> None:
    made = ask(client, input="Hi", include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=3)
    tokens = made.output[0].content[0].logprobs
    assert "".join(token.token for token in tokens).startswith(made.output_text)
    assert len(tokens[0].top_logprobs) == 2


@pytest.mark.parametrize("route", ["chat", "responses"])
def test_with_tools_and_a_format_the_answer_is_a_call_or_a_document(client: openai.OpenAI, route: str) -> None:
    for seed in range(3):
        if route == "chat":
            chat = client.chat.completions.create(
                model=MODEL, messages=USER, tools=[CHAT_TOOL], response_format=FORMAT, seed=seed, max_tokens=100
            )
            message = chat.choices[0].message
            texts = [call.function.arguments for call in message.tool_calls or []] or [message.content]
        else:
            form: Any = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}}
            made = ask(client, tools=[TOOL], text=form, max_output_tokens=100, extra_body={"seed": seed})
            texts = [item.arguments for item in made.output if item.type == "function_call"] or [made.output_text]
        for text in texts:
            City.model_validate_json(text or "")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"role": 7, "content": "x"}]}, "messages"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": 3, "arguments": "{}"}]}, "messages"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"text": {"format": 3}}, "text"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "response_format"),
        ({"tool_choice": {"type": "function", "name": "nobody"}, "tools": [TOOL]}, "tool_choice"),
        ({"extra_body": {"n": 2}}, "n"),
        ({"extra_body": {"nonsense": 2}}, "nonsense"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(client: openai.OpenAI, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **given)
    assert caught.value.param == param


def test_a_refused_format_beside_tools_is_told_as_the_formats(client: openai.OpenAI) -> None:
    never: Any = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"allOf": [{"const": 1}, {"const": 2}]}},
    }
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model=MODEL, messages=USER, tools=[CHAT_TOOL], response_format=never)
    assert caught.value.param == "response_format"


def test_every_field_of_the_official_type_is_known() -> None:
    fields = set(response_create_params.ResponseCreateParamsBase.__annotations__)
    assert len(fields) > 20
    assert fields <= set(ResponsesBody.model_fields)
