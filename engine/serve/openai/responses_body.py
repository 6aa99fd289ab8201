"""OpenAI's `POST /v1/responses` as a chat request: input items as messages, `text.format` as a response format.

Knows the official client's field and item types. Nothing is stored, so what refers to an earlier response is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from engine.errors import RequestError
from engine.serve.openai.body import ChatBody, Shared
from engine.serve.wire.body import Objects, Texts

LOGPROBS = "message.output_text.logprobs"
UNSUPPORTED = ("background", "context_management", "conversation", "max_tool_calls", "moderation",
               "previous_response_id", "prompt")  # fmt: skip
TEXT_TYPES = ("input_text", "output_text", "text")
Item = Mapping[str, Any]


class ResponsesBody(Shared):
    """What `POST /v1/responses` reads: the official client's fields, and the extra fields of the chat route."""

    input: str | Objects
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    text: dict[str, Any] | None = None
    tools: Objects | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: Texts | None = None
    reasoning: dict[str, Any] | None = None
    truncation: str | None = None
    # accepted, without effect here
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    # refused by name unless they change nothing
    background: bool | None = None
    context_management: Objects | None = None
    conversation: str | dict[str, Any] | None = None
    max_tool_calls: int | None = None
    moderation: dict[str, Any] | None = None
    previous_response_id: str | None = None
    prompt: dict[str, Any] | None = None

    def to_chat(self) -> ChatBody:
        """The chat request that means the same. RequestError names the item or field at fault."""
        self._refuse()
        shared = {name: getattr(self, name) for name in Shared.model_fields if name in self.model_fields_set}
        wants_logprobs = LOGPROBS in (self.include or ()) or bool(self.top_logprobs)
        return ChatBody.model_construct(
            **shared,
            messages=[*_instructions(self.instructions), *_messages(self.input)],
            max_completion_tokens=self.max_output_tokens,
            response_format=_response_format(self.text or {}),
            tools=None if self.tools is None else [_tool(tool, index) for index, tool in enumerate(self.tools)],
            tool_choice=_tool_choice(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls,
            logprobs=wants_logprobs or None,
            top_logprobs=self.top_logprobs,
        )

    def _refuse(self) -> None:
        for name in UNSUPPORTED:
            if getattr(self, name):
                raise RequestError(f"{name} is not supported: nothing is kept between requests", param=name)
        if any(value not in (None, "none") for value in (self.reasoning or {}).values()):
            raise RequestError("reasoning is not supported", param="reasoning")
        if self.truncation not in (None, "disabled"):
            raise RequestError("truncation must be 'disabled': input is never cut", param="truncation")
        for name in self.include or ():
            if name not in (LOGPROBS, "reasoning.encrypted_content"):
                raise RequestError(f"include: {name!r} is not supported", param="include")
        if self.n not in (None, 1):
            raise RequestError("n must be 1: a response is one answer", param="n")


def _instructions(text: str | None) -> list[dict[str, Any]]:
    return [{"role": "system", "content": text}] if text else []


def _messages(given: str | Sequence[Item]) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not given:
        raise RequestError("input needs at least one item", param="input")
    messages: list[dict[str, Any]] = []
    for index, item in enumerate(given):
        kind = item.get("type", "message")
        place = f"input[{index}]"
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _text(item.get("content"), f"{place}.content")})
        elif kind == "function_call":
            _add_call(messages, item)
        elif kind == "function_call_output":
            output = _text(item.get("output"), f"{place}.output")
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
        elif kind != "reasoning":  # of another model; there is nothing in it that this one could read
            raise RequestError(f"{place} is of type {kind!r}, which is not supported", param="input")
    return messages


def _add_call(messages: list[dict[str, Any]], item: Item) -> None:
    """Calls belong to the assistant's message before them."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    call = {"id": item.get("call_id"), "type": "function", "function": function}
    messages[-1].setdefault("tool_calls", []).append(call)


def _text(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") in TEXT_TYPES]
    if len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        raise RequestError(f"{place} must be text or a list of text parts; this model reads text only", param="input")
    return "".join(map(str, texts))


def _response_format(text: Mapping[str, Any]) -> dict[str, Any] | None:
    for name in text:
        if name not in ("format", "verbosity") or (name == "verbosity" and text[name] not in (None, "medium")):
            raise RequestError(f"text.{name} is not supported", param="text")
    given = text.get("format")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise RequestError("text.format must be an object", param="text")
    if given.get("type") != "json_schema":
        return dict(given)
    named = {name: value for name, value in given.items() if name != "type"}
    return {"type": "json_schema", "json_schema": named}


def _tool(tool: Item, index: int) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise RequestError(f"tools[{index}] must be of type 'function', got {tool.get('type')!r}", param="tools")
    function = {name: value for name, value in tool.items() if name in ("name", "description", "parameters")}
    return {"type": "function", "function": function}


def _tool_choice(choice: str | Mapping[str, Any] | None) -> str | dict[str, Any] | None:
    if choice is None or isinstance(choice, str):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        tools = [{"type": "function", "function": tool} for tool in choice["tools"]]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": tools}}
    return dict(choice)
