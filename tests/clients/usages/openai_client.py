"""The official OpenAI client."""

from __future__ import annotations

import json
from typing import Any

from harness import BASE_URL, KEY, MODEL, main, usage
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)
SAY: list[Any] = [{"role": "user", "content": "Name a city and how many people live there"}]
SMALL = {"max_completion_tokens": 60, "temperature": 0}


class City(BaseModel):
    name: str
    inhabitants: int


SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Paris", "Rome"]}, "unit": {"enum": ["c", "f"]}},
            "required": ["place", "unit"],
            "additionalProperties": False,
        },
    },
}


@usage("models.list")
def models() -> None:
    assert MODEL in [model.id for model in client.models.list()]


@usage("chat")
def chat() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=SAY, max_completion_tokens=12)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 12


@usage("chat, stream with usage")
def stream() -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=SAY, stream=True, stream_options=options, **SMALL)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage is not None


@usage("chat, json_schema")
def json_schema() -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA, "strict": True}}
    answer = client.chat.completions.create(model=MODEL, messages=SAY, response_format=form, **SMALL)
    assert json.loads(answer.choices[0].message.content or "")["colour"] in ("red", "green", "blue")


@usage("chat, json_object")
def json_object() -> None:
    form: Any = {"type": "json_object"}
    answer = client.chat.completions.create(model=MODEL, messages=SAY, response_format=form, **SMALL)
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


@usage("chat.parse with pydantic")
def parse() -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=SAY, response_format=City, **SMALL)
    assert isinstance(answer.choices[0].message.parsed, City)


@usage("chat.parse, the parsed message sent back")
def send_back() -> None:
    first = client.chat.completions.parse(model=MODEL, messages=SAY, response_format=City, **SMALL)
    again: Any = [*SAY, first.choices[0].message, {"role": "user", "content": "Another one"}]
    assert client.chat.completions.parse(model=MODEL, messages=again, response_format=City, **SMALL)


@usage("chat.stream with pydantic")
def parse_stream() -> None:
    with client.chat.completions.stream(model=MODEL, messages=SAY, response_format=City, **SMALL) as events:
        final = events.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, City)


@usage("tools, required, and the result sent back")
def tools() -> None:
    given: Any = [WEATHER]
    answer = client.chat.completions.create(
        model=MODEL, messages=SAY, tools=given, tool_choice="required", max_completion_tokens=100
    )
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    call: Any = (message.tool_calls or [])[0]
    assert json.loads(call.function.arguments)["place"] in ("Paris", "Rome")
    again: Any = [*SAY, message, {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}]
    assert client.chat.completions.create(model=MODEL, messages=again, tools=given, max_completion_tokens=20)


@usage("tools, streamed, a named one")
def tools_stream() -> None:
    given: Any = [WEATHER]
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    text = ""
    for chunk in client.chat.completions.create(
        model=MODEL, messages=SAY, tools=given, tool_choice=choice, stream=True, max_completion_tokens=100
    ):
        for call in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
            text += (call.function and call.function.arguments) or ""
    assert json.loads(text)["unit"] in ("c", "f")


@usage("tools beside response_format")
def tools_and_format() -> None:
    given: Any = [WEATHER]
    form: Any = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA, "strict": True}}
    answer = client.chat.completions.create(
        model=MODEL, messages=SAY, tools=given, response_format=form, max_completion_tokens=100
    )
    message = answer.choices[0].message
    assert message.tool_calls or json.loads(message.content or "")["colour"]


@usage("logprobs, seed, n")
def logprobs() -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=SAY, logprobs=True, top_logprobs=2, seed=3, n=2, max_completion_tokens=5
    )
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content


@usage("completions")
def completions() -> None:
    assert client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8).choices[0].text


@usage("responses.create")
def responses() -> None:
    answer = client.responses.create(model=MODEL, input="Name a city", max_output_tokens=20)
    assert answer.output_text


@usage("responses.create, json_schema")
def responses_schema() -> None:
    text: Any = {"format": {"type": "json_schema", "name": "colour", "schema": SCHEMA, "strict": True}}
    answer = client.responses.create(model=MODEL, input="A colour", text=text, max_output_tokens=40)
    assert json.loads(answer.output_text)["colour"]


@usage("responses.parse with pydantic")
def responses_parse() -> None:
    answer = client.responses.parse(model=MODEL, input=SAY, text_format=City, max_output_tokens=60)
    assert isinstance(answer.output_parsed, City)


@usage("responses, function tool")
def responses_tool() -> None:
    tool: Any = [{"type": "function", "strict": True, **WEATHER["function"]}]  # type: ignore[dict-item]
    answer = client.responses.create(
        model=MODEL, input="Weather in Rome?", tools=tool, tool_choice="required", max_output_tokens=100
    )
    call: Any = next(item for item in answer.output if item.type == "function_call")
    assert json.loads(call.arguments)["place"]
    back: Any = [
        {"role": "user", "content": "Weather in Rome?"},
        *answer.output,
        {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"},
    ]
    assert client.responses.create(model=MODEL, input=back, tools=tool, tool_choice="none", max_output_tokens=20)


@usage("responses.stream")
def responses_stream() -> None:
    with client.responses.stream(model=MODEL, input=SAY, text_format=City, max_output_tokens=60) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert "response.output_text.delta" in kinds
    assert isinstance(final.output_parsed, City)


@usage("async chat.parse")
async def asynchronous() -> None:
    async with AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0) as other:
        answer = await other.chat.completions.parse(model=MODEL, messages=SAY, response_format=City, **SMALL)
    assert isinstance(answer.choices[0].message.parsed, City)


@usage("extra_body: vLLM's structured_outputs and guided_*")
def vllm_fields() -> None:
    for body in (
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"guided_choice": ["yes", "no"]},
        {"guided_regex": "yes|no"},
        {"guided_json": {"enum": ["yes", "no"]}},
    ):
        answer = client.chat.completions.create(model=MODEL, messages=SAY, extra_body=body, **SMALL)
        assert (answer.choices[0].message.content or "").strip('"') in ("yes", "no"), body


@usage("extra_body: SGLang's regex, ebnf and json_schema")
def sglang_fields() -> None:
    for body in (
        {"regex": "yes|no"},
        {"ebnf": 'root ::= "yes" | "no"'},
        {"json_schema": json.dumps({"enum": ["yes", "no"]})},
    ):
        answer = client.chat.completions.create(model=MODEL, messages=SAY, extra_body=body, **SMALL)
        assert (answer.choices[0].message.content or "").strip('"') in ("yes", "no"), body


main()
