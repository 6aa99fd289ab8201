"""OpenAI's request bodies: every field of the official client's types, read, ignored on purpose, or refused by name.

Knows names, types and defaults of /v1/chat/completions and /v1/completions, and the extra fields of `extra_body`. What
the fields come to is in `openai_request`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.constraint import Draft

STRICT = ConfigDict(extra="forbid", strict=True)
Stop = list[str] | str | None


class StreamOptions(BaseModel):
    """`include_usage` adds a last chunk with the token counts."""

    model_config = STRICT

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class StructuredOutputs(BaseModel):
    """vLLM's constraint field; at most one of them. `grammar` is EBNF."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=False)

    json_: dict[str, Any] | bool | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    structural_tag: dict[str, Any] | str | None = None


class Shared(BaseModel):
    """Fields of both routes."""

    model_config = STRICT

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=128)
    seed: int | None = Field(None, ge=-(2**63), le=2**64 - 1)
    stop: Stop = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # refused by name unless they change nothing
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    # extra_body
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    structured_outputs: StructuredOutputs | None = None
    lark: str | None = None
    require_enforced: bool = False
    conformance: Literal["tight", "spec"] = "tight"
    whitespace: Literal["compact", "flexible"] = "compact"
    draft: Draft | None = None
    deadline_s: float | None = Field(None, gt=0, le=86_400)
    cache_salt: str | None = None


class ChatBody(Shared):
    """What `POST /v1/chat/completions` reads."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    schema_in_prompt: bool = False
    # accepted, without effect here
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    # refused by name unless they change nothing
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    moderation: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None


class CompletionBody(Shared):
    """What `POST /v1/completions` reads. The prompt is sent untouched: no chat template."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)
    # refused by name unless they change nothing
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


UNSUPPORTED_CHAT = (
    "audio",
    "function_call",
    "functions",
    "moderation",
    "prediction",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
)
