"""OpenAI's messages as the chat template takes them: plain text, known roles, tool arguments as objects.

Refuses what a text model cannot read, by position and name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import EngineError, RequestError, UnknownOption
from engine.serve.wire.json_body import read_json

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
KNOWN = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call"})
RETURNED = frozenset({"parsed", "annotations", "reasoning", "reasoning_content"})
"""What a client has from an answer and sends back with it; the content says it all."""
TEXT_PARTS = ("text", "refusal")

Message = dict[str, Any]


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """One dict a message with `role`, `content` (text) and, where given, `name`, `tool_calls`, `tool_call_id`."""
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(messages))


def _message(message: Mapping[str, Any], place: str) -> Message:
    for name in message:
        if name not in KNOWN and name not in RETURNED and message[name] is not None:
            raise UnknownOption(f"unknown field {place}.{name}", param="messages")
    for name in ("audio", "function_call"):
        if message.get(name) is not None:
            raise RequestError(f"{place}.{name} is not supported", param="messages")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise _wrong(f"{place}.role must be one of {', '.join(ROLES)}, got {role!r}", f"{place}.role")
    made: Message = {"role": ROLES[role], "content": _text(message, place)}
    for name in ("name", "tool_call_id"):
        if message.get(name) is not None:
            if not isinstance(message[name], str):
                raise _wrong(f"{place}.{name} must be a string", f"{place}.{name}")
            made[name] = message[name]
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise _wrong(f"{place}.tool_calls must be a list", f"{place}.tool_calls")
    if calls:
        made["tool_calls"] = [_tool_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(calls)]
    return made


def _text(message: Mapping[str, Any], place: str) -> str:
    content, refusal = message.get("content"), message.get("refusal")
    if refusal is not None and not isinstance(refusal, str):
        raise _wrong(f"{place}.refusal must be a string", f"{place}.refusal")
    if content is None and (message.get("tool_calls") or refusal is not None):
        return refusal or ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise _wrong(f"{place}.content must be text or a list of text parts", f"{place}.content")
    return "".join(_part(part, f"{place}.content[{index}]") for index, part in enumerate(content))


def _part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in TEXT_PARTS or not isinstance(part.get(kind), str):
        raise _wrong(f"{place} is not a text part; this model reads text only", place)
    text: str = part[kind]
    return text


def _tool_call(call: Any, place: str) -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise _wrong(f"{place} needs a function with a name", place)
    if not isinstance(call.get("id"), str | None):
        raise _wrong(f"{place}.id must be a string", f"{place}.id")
    text = function.get("arguments")
    if not isinstance(text, str | None):
        raise _wrong(f"{place}.function.arguments must be JSON text", f"{place}.function.arguments")
    try:
        arguments = read_json((text or "{}").encode())
    except EngineError as error:
        reason = error.message.replace("the body", "the text")
        raise _wrong(f"{place}.function.arguments: {reason}", f"{place}.function.arguments") from None
    named = {"name": function["name"], "arguments": arguments}
    return {"id": call.get("id"), "type": "function", "function": named, **named}


def _wrong(message: str, place: str) -> RequestError:
    """`place` is as people read it: messages[3].tool_calls[0]; the pointer begins inside `messages`."""
    return RequestError(
        message, param="messages", pointer=re.sub(r"[.\[]", "/", place.removeprefix("messages")).replace("]", "")
    )
