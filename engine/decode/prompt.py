"""From a request to prompt ids: the chat template, the raw text, or the schema sentence. Adds nothing else, ever."""

from __future__ import annotations

from typing import Any

from engine.errors import PromptTooLong, RequestError
from engine.interfaces import Tokenizer
from engine.request import Request

SCHEMA_SENTENCE = "Answer with one JSON document that satisfies this JSON Schema:\n{schema}"
"""The one sentence of `schema_in_prompt=True`; it ends the system message."""


def conversation(request: Request) -> list[dict[str, Any]]:
    """The messages the chat template sees: an optional system message, then the user's."""
    if request.messages is not None:
        messages = [dict(message) for message in request.messages]
    else:
        messages = [{"role": "user", "content": request.prompt}]
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
    if request.schema_in_prompt and request.constraint is not None:
        _append_to_system(messages, SCHEMA_SENTENCE.format(schema=request.constraint.source))
    return messages


def _append_to_system(messages: list[dict[str, Any]], sentence: str) -> None:
    if messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": sentence})
    elif isinstance(messages[0].get("content"), str):
        messages[0]["content"] = messages[0]["content"] + "\n\n" + sentence
    else:
        raise RequestError("schema_in_prompt needs a system message that is plain text", param="schema_in_prompt")


def encode_prompt(request: Request, tokenizer: Tokenizer, *, max_sequence: int, max_bytes: int) -> list[int]:
    """Prompt ids. PromptTooLong when they leave no room for a token; RequestError when there is nothing to say."""
    size = _text_bytes(request)
    if size > max_bytes:
        raise PromptTooLong(f"the prompt has {size} bytes, over the limit of {max_bytes}", param="prompt")
    if request.template == "raw":
        ids = tokenizer.encode(request.prompt or "")
    else:
        tools = [dict(tool) for tool in request.tools] if request.tools else None
        ids = tokenizer.chat(conversation(request), tools=tools)
    if not ids:
        raise RequestError("the prompt has no tokens", param="prompt")
    if len(ids) >= max_sequence:
        raise PromptTooLong(
            f"the prompt has {len(ids)} tokens and the context holds {max_sequence}; shorten the prompt or load the "
            "model with a larger max_sequence",
            param="prompt",
        )
    return ids


def _text_bytes(request: Request) -> int:
    if request.prompt is not None:
        return len(request.prompt.encode())
    return sum(len(str(message.get("content") or "").encode("utf-8", "replace")) for message in request.messages or ())
