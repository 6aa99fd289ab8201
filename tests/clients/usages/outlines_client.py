"""Outlines against an OpenAI-compatible server, and as a client of a vLLM server."""

from __future__ import annotations

from typing import Any, Literal

import openai
import outlines
from harness import BASE_URL, KEY, MODEL, main, usage
from pydantic import BaseModel, Field


class City(BaseModel):
    name: str = Field(max_length=20)
    size: Literal["small", "large"]


def client() -> Any:
    return openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)


@usage("from_openai, text")
def text() -> None:
    assert outlines.from_openai(client(), MODEL)("Name a city", max_tokens=10)


@usage("from_openai, pydantic")
def pydantic_type() -> None:
    City.model_validate_json(outlines.from_openai(client(), MODEL)("Name a city", City, max_tokens=100))


@usage("from_vllm, pydantic")
def vllm_pydantic() -> None:
    City.model_validate_json(outlines.from_vllm(client(), MODEL)("Name a city", City, max_tokens=100))


@usage("from_vllm, choice")
def vllm_choice() -> None:
    assert outlines.from_vllm(client(), MODEL)("Large?", Literal["yes", "no"]) in ("yes", "no")


@usage("from_vllm, regex")
def vllm_regex() -> None:
    assert outlines.from_vllm(client(), MODEL)("A number", outlines.types.Regex("[0-9]{3}")).isdigit()


@usage("from_sglang, pydantic")
def sglang_pydantic() -> None:
    City.model_validate_json(outlines.from_sglang(client(), MODEL)("Name a city", City, max_tokens=100))


main()
