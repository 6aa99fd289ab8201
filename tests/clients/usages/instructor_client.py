"""instructor, in each of its modes for servers that speak OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import instructor
from harness import BASE_URL, KEY, MODEL, main, usage
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

SAY: list[Any] = [{"role": "user", "content": "Name a city and how many people live there"}]
MODES = ("TOOLS", "TOOLS_STRICT", "JSON", "JSON_SCHEMA", "MD_JSON", "PARALLEL_TOOLS")


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    size: Literal["small", "large"]


def client(mode: instructor.Mode) -> Any:
    return instructor.from_openai(OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0), mode=mode)


def ask(mode: str) -> None:
    kind: Any = Iterable[City] if mode == "PARALLEL_TOOLS" else City
    made = client(instructor.Mode[mode]).chat.completions.create(
        model=MODEL, messages=SAY, response_model=kind, max_retries=0, max_tokens=200
    )
    cities = list(made) if mode == "PARALLEL_TOOLS" else [made]
    assert cities
    assert all(isinstance(city, City) for city in cities)


for name in MODES:
    if hasattr(instructor.Mode, name):
        usage(f"Mode.{name}")(lambda name=name: ask(name))  # type: ignore[misc]


@usage("create_partial")
def partial() -> None:
    parts = list(
        client(instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
            model=MODEL, messages=SAY, response_model=City, max_tokens=100, max_retries=0
        )
    )
    assert parts[-1].size in ("small", "large")


@usage("async")
async def asynchronous() -> None:
    other = instructor.from_openai(
        AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0), mode=instructor.Mode.TOOLS
    )
    made = await other.chat.completions.create(
        model=MODEL, messages=SAY, response_model=City, max_retries=0, max_tokens=200
    )
    assert isinstance(made, City)


main()
