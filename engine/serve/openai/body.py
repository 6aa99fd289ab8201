"""OpenAI's request bodies: every field of the official client's types, read, ignored on purpose, or refused by name.

Knows names, types and defaults of /v1/chat/completions and /v1/completions, and the extra fields of `extra_body`. What
the fields come to is in `openai_request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from engine.constraint import Draft
from engine.request import Method
from engine.serve.wire.body import Body, Checks, Objects, Texts

NEUTRAL: dict[str, tuple[Any, ...]] = {
    # the official client's, where a value says what is so anyhow
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "top_k": (-1,),
    # vLLM's and SGLang's
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "guided_json_object": (False,),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "no_stop_trim": (False,),
    "priority": (0,),
    "separate_reasoning": (False, True),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "use_beam_search": (False,),
}
"""Fields of no effect here, with the values that ask for none; so does null. Any other value is refused by name."""


class StreamOptions(Body):
    """`include_usage` adds a last chunk with the token counts."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class StructuredOutputs(Body):
    """vLLM's constraint field; at most one of them. `grammar` is EBNF."""

    json_: dict[str, Any] | bool | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: Texts | None = None
    grammar: str | None = None
    structural_tag: dict[str, Any] | str | None = None
    json_object: bool | None = None


class Shared(Body):
    """Fields of both routes."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if not _is_neutral(name, value)}

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=128)
    seed: int | None = Field(None, ge=-(2**63), le=2**64 - 1)
    stop: Texts | str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # refused by name unless they change nothing
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    # extra_body
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    method: Method | None = None
    particles: int | None = Field(None, ge=1, le=1024)
    ess: float | None = Field(None, ge=0, le=1)
    structured_outputs: StructuredOutputs | None = None
    lark: str | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: Texts | None = None
    guided_grammar: str | None = None
    guided_json_object: bool | None = None
    guided_decoding_backend: str | None = Field(None, description="Accepted; there is one backend.")
    json_schema: dict[str, Any] | bool | str | None = None
    regex: str | None = None
    ebnf: str | None = None
    require_enforced: bool = False
    conformance: Literal["tight", "spec"] = "tight"
    whitespace: Literal["compact", "flexible"] = "compact"
    draft: Draft | None = None
    contents: bool | None = None
    checks: Checks | None = Field(
        None, description="By JSON pointer (`*`: any), a check registered here, or the syntax of the text there."
    )
    deadline_s: float | None = Field(None, gt=0, le=86_400)
    cache_salt: str | None = None


class ChatBody(Shared):
    """What `POST /v1/chat/completions` reads."""

    messages: Objects = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: dict[str, Any] | None = None
    tools: Objects | None = None
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
    modalities: Texts | None = None
    audio: dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None
    functions: Objects | None = None
    moderation: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None


class CompletionBody(Shared):
    """What `POST /v1/completions` reads. The prompt is sent untouched: no chat template."""

    prompt: str | list[Any]
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)
    # refused by name unless they change nothing
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


def _is_neutral(name: str, value: Any) -> bool:
    if name not in NEUTRAL:
        return False
    return value is None or any(
        value == one and isinstance(value, bool) == isinstance(one, bool) for one in NEUTRAL[name]
    )


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
