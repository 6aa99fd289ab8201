"""OpenAI's messages as the chat template takes them: plain text, known roles, tool arguments as objects.

Knows the message types of the official client. Refuses what a text model cannot read, by position and name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import RequestError, UnknownOption

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
KNOWN = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "audio", "function_call"})
TEXT_PARTS = ("text", "refusal")

Message = dict[str, Any]


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """One dict a message with `role`, `content` (text) and, where given, `name`, `tool_calls`, `tool_call_id`."""
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(messages))


def _message(message: Mapping[str, Any], place: str) -> Message:
    for name in message:
        if name not in KNOWN:
            raise UnknownOption(f"unknown field {place}.{name}", param="messages")
    for name in ("audio", "function_call"):
        if message.get(name) is not None:
            raise RequestError(f"{place}.{name} is not supported", param="messages")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise RequestError(f"{place}.role must be one of {', '.join(ROLES)}, got {role!r}", param="messages")
    made: Message = {"role": ROLES[role], "content": _text(message, place)}
    for name in ("name", "tool_call_id"):
        if isinstance(message.get(name), str):
            made[name] = message[name]
    if message.get("tool_calls"):
        made["tool_calls"] = [_tool_call(call, place) for call in message["tool_calls"]]
    return made


def _text(message: Mapping[str, Any], place: str) -> str:
    content = message.get("content")
    if content is None and (message.get("tool_calls") or message.get("refusal") is not None):
        return str(message.get("refusal") or "")
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise RequestError(f"{place}.content must be text or a list of text parts", param="messages")
    return "".join(_part(part, f"{place}.content[{index}]") for index, part in enumerate(content))


def _part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in TEXT_PARTS or not isinstance(part.get(kind), str):
        raise RequestError(f"{place} is not a text part; this model reads text only", param="messages")
    text: str = part[kind]
    return text


def _tool_call(call: Any, place: str) -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RequestError(f"{place}.tool_calls needs functions with a name", param="messages")
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, ValueError):
        raise RequestError(f"{place}.tool_calls has arguments that are not JSON", param="messages") from None
    named = {"name": function["name"], "arguments": arguments}
    return {"id": call.get("id"), "type": "function", "function": named, **named}
