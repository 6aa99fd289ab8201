"""pydantic-ai: tool, native and prompted output, tools, streaming."""

from __future__ import annotations

from typing import Any, Literal

from harness import BASE_URL, KEY, MODEL, main, usage
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

PROVIDER = OpenAIProvider(base_url=BASE_URL, api_key=KEY)
SETTINGS: Any = {"max_tokens": 200, "temperature": 0}


class City(BaseModel):
    name: str = Field(max_length=20)
    size: Literal["small", "large"]


def agent(output: Any, **more: Any) -> Any:
    return Agent(OpenAIChatModel(MODEL, provider=PROVIDER), output_type=output, model_settings=SETTINGS, **more)


@usage("text")
def text() -> None:
    assert agent(str).run_sync("Name a city", model_settings={"max_tokens": 10}).output


@usage("ToolOutput")
def tool() -> None:
    assert isinstance(agent(ToolOutput(City)).run_sync("Name a city").output, City)


@usage("NativeOutput")
def native() -> None:
    assert isinstance(agent(NativeOutput(City)).run_sync("Name a city").output, City)


@usage("PromptedOutput")
def prompted() -> None:
    assert isinstance(agent(PromptedOutput(City)).run_sync("Name a city").output, City)


@usage("NativeOutput beside a function tool")
def native_with_tool() -> None:
    def population(city: Literal["Rome", "Paris"]) -> int:
        """How many people live there."""
        return 3

    made = agent(NativeOutput(City), tools=[population])
    try:
        assert isinstance(made.run_sync("Name a city").output, City)
    except Exception as error:
        if type(error).__name__ != "UsageLimitExceeded":  # a tiny model may call the tool for ever
            raise


@usage("run_stream, native")
async def stream() -> None:
    async with agent(NativeOutput(City)).run_stream("Name a city") as run:
        assert isinstance(await run.get_output(), City)


@usage("Responses API")
def responses() -> None:
    made = Agent(
        OpenAIResponsesModel(MODEL, provider=PROVIDER), output_type=NativeOutput(City), model_settings=SETTINGS
    )
    assert isinstance(made.run_sync("Name a city").output, City)


main()
