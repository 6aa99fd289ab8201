"""litellm, with the hosted_vllm and openai routes."""

from __future__ import annotations

import json
from typing import Any, Literal

import litellm
from harness import BASE_URL, KEY, MODEL, main, usage
from pydantic import BaseModel, Field

litellm.num_retries = 0
SAY = [{"role": "user", "content": "Name a city"}]


class City(BaseModel):
    name: str = Field(max_length=20)
    size: Literal["small", "large"]


def ask(route: str = "openai", **more: Any) -> Any:
    return litellm.completion(
        model=f"{route}/{MODEL}", api_base=BASE_URL, api_key=KEY, messages=SAY, **{"max_tokens": 200, **more}
    )


@usage("completion")
def completion() -> None:
    assert ask(max_tokens=10).choices[0].message.content


@usage("completion, stream")
def stream() -> None:
    assert "".join(chunk.choices[0].delta.content or "" for chunk in ask(max_tokens=10, stream=True))


@usage("response_format, pydantic")
def pydantic_format() -> None:
    City.model_validate_json(ask(response_format=City).choices[0].message.content)


@usage("response_format, hosted_vllm")
def hosted_vllm() -> None:
    City.model_validate_json(ask("hosted_vllm", response_format=City).choices[0].message.content)


@usage("response_format, json_object with a schema")
def json_object() -> None:
    form = {"type": "json_object", "schema": City.model_json_schema()}
    City.model_validate_json(ask(response_format=form).choices[0].message.content)


@usage("tools")
def tools() -> None:
    given = [{"type": "function", "function": {"name": "city", "parameters": City.model_json_schema()}}]
    call = ask(tools=given, tool_choice="required").choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments)["size"] in ("small", "large")


@usage("responses")
def responses() -> None:
    made = litellm.responses(
        model=f"openai/{MODEL}", api_base=BASE_URL, api_key=KEY, input="Name a city", max_output_tokens=20
    )
    assert made.output


main()
