"""The OpenAI Agents SDK, over chat completions and over responses."""

from __future__ import annotations

from typing import Any, Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from harness import BASE_URL, KEY, MODEL, main, usage
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

set_tracing_disabled(True)
SETTINGS = ModelSettings(max_tokens=200)


class City(BaseModel):
    name: str = Field(max_length=20)
    size: Literal["small", "large"]


@function_tool
def population(city: Literal["Rome", "Paris"]) -> int:
    """How many people live there."""
    return 3


def run(kind: Any, **more: Any) -> Any:
    model = kind(model=MODEL, openai_client=AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0))
    agent = Agent(name="city", instructions="Answer.", model=model, model_settings=SETTINGS, **more)
    return Runner.run_sync(agent, "Name a city").final_output


@usage("chat completions, text")
def text() -> None:
    assert run(OpenAIChatCompletionsModel)


@usage("chat completions, output_type")
def output_type() -> None:
    assert isinstance(run(OpenAIChatCompletionsModel, output_type=City), City)


@usage("chat completions, output_type beside a tool")
def output_type_with_tool() -> None:
    try:
        made = run(OpenAIChatCompletionsModel, output_type=City, tools=[population])
        assert isinstance(made, City)
    except Exception as error:
        if type(error).__name__ != "MaxTurnsExceeded":  # a tiny model may call the tool for ever
            raise


@usage("responses, output_type")
def responses() -> None:
    assert isinstance(run(OpenAIResponsesModel, output_type=City), City)


main()
