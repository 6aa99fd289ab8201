"""The object that `POST /v1/responses` answers with, whole or while it is still being written.

What OpenAI has no field for stands under `maskloop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.request import Result
from engine.serve.openai.answer import chat_logprobs, facts, read_message, sample_facts
from engine.serve.openai.request import Asked
from engine.serve.openai.responses_body import ResponsesBody
from engine.serve.openai.tool_call import ToolCall

Item = dict[str, Any]


def response_object(body: ResponsesBody, asked: Asked, model: str, created: float) -> dict[str, Any]:
    """What is known before anything has been decoded: `in_progress`, without output."""
    return {
        "id": asked.request.id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": asked.request.sampling.temperature,
        "text": {"format": (body.text or {}).get("format") or {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_p": asked.request.sampling.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def finished(begun: dict[str, Any], asked: Asked, result: Result) -> dict[str, Any]:
    """The whole response. `incomplete` is cut free text: a document that was closed is whole."""
    cut = result.status == "length"
    return {
        **begun,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "completed_at": result.created,
        "output": output_items(asked, result),
        "usage": _usage(result),
        "maskloop": {**facts(result), **sample_facts(result)},
    }


def output_items(asked: Asked, result: Result) -> list[Item]:
    """The message, unless there are calls alone, and the calls."""
    said = read_message(result, asked.tools)
    items = [call_item(call) for call in said.calls]
    if said.content is None and items:
        return items
    status = "incomplete" if result.status == "length" else "completed"
    return [message_item(result.id, [text_part(said.content or "", result)], status), *items]


def message_item(response_id: str, parts: Sequence[Item], status: str) -> Item:
    """One assistant message."""
    return {"id": f"msg-{response_id}", "type": "message", "role": "assistant", "status": status, "content": [*parts]}


def text_part(text: str, result: Result | None = None) -> Item:
    """A message's text; with the finished `result` its log-probabilities too, where they were asked for."""
    told = chat_logprobs(result.logprobs) if result is not None else None
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": told["content"] if told else []}


def call_item(call: ToolCall) -> Item:
    """One function call; its `call_id` is what the caller answers to."""
    plain = call.to_dict()
    function = plain["function"]
    return {"id": f"fc-{call.id}", "type": "function_call", "call_id": call.id, "status": "completed", **function}


def _usage(result: Result) -> dict[str, Any]:
    used = result.usage
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }
