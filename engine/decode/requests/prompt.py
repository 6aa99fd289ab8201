"""From a request to prompt ids: the chat template, the raw text, or the schema sentence. Adds nothing else, ever."""

from __future__ import annotations

from typing import Any

from engine.errors import PromptTooLong, RequestError
from engine.interfaces import Tokenizer
from engine.plain_json import text_bytes, texts
from engine.request import Request

SCHEMA_SENTENCE = "Answer with one JSON document that satisfies this JSON Schema:\n{schema}"
"""The one sentence of `schema_in_prompt=True`; it ends the system message."""
BLOCK = 8_192
"""Characters that are tokenised in one piece to learn whether a long prompt can fit: 10 ms of processor."""
SEAM = 32
"""Tokens that cutting a text in two may add."""


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
    """Prompt ids. PromptTooLong when they leave no room for a token; RequestError when there is nothing to say.

    Nothing is tokenised of what is over `max_bytes`, and of what cannot fit no more than shows it.
    """
    if len(request.messages or ()) >= max_sequence:
        raise PromptTooLong(
            f"there are {len(request.messages or ())} messages, and the context holds {max_sequence} tokens",
            param="messages",
        )
    if refuse_oversized(request, max_bytes=max_bytes) > BLOCK:
        _refuse_hopeless(_said(request), tokenizer, max_sequence)
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


def refuse_oversized(request: Request, *, max_bytes: int) -> int:
    """The bytes of everything that becomes prompt; PromptTooLong where they are over the limit. Needs no model."""
    said = _said(request)
    sizes = {param: text_bytes(part) for param, part in said.items()}
    for param, size in sizes.items():
        if size > max_bytes:
            raise PromptTooLong(f"{param} has {size} bytes, over the limit of {max_bytes}", param=param)
    total = sum(sizes.values())
    if total > max_bytes:
        raise PromptTooLong(f"the prompt has {total} bytes in all, over the limit of {max_bytes}", param="prompt")
    return total


def _said(request: Request) -> dict[str, Any]:
    """Everything that becomes prompt, by the field it comes from."""
    parts = {name: getattr(request, name) for name in ("prompt", "messages", "system", "tools")}
    if request.schema_in_prompt and request.constraint is not None:
        parts["schema"] = request.constraint.source
    return {name: part for name, part in parts.items() if part is not None}


def _refuse_hopeless(said: dict[str, Any], tokenizer: Tokenizer, max_sequence: int) -> None:
    """Tokenise block by block, each for itself, until the context is full; tokenising whole is super-linear."""
    tokens = 0
    for param, part in said.items():
        for text in texts(part):
            for start in range(0, len(text), BLOCK):
                tokens += max(0, len(tokenizer.encode(text[start : start + BLOCK])) - SEAM)
                if tokens >= max_sequence:
                    raise PromptTooLong(
                        f"the prompt has more tokens than the context holds ({max_sequence}), {param} alone or with "
                        "what stands before it; shorten it or load the model with a larger max_sequence",
                        param=param,
                    )
