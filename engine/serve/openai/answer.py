"""OpenAI's response objects from Results: chat completions, completions, logprobs, usage.

Knows the official client's response types. What OpenAI has no field for stands under `maskloop`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.request import Result
from engine.serve.openai.request import Asked
from engine.serve.openai.tool_call import Tool, ToolCall, read_calls
from engine.serve.wire.failure import Failure

LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one sample says."""

    content: str | None
    calls: tuple[ToolCall, ...] = ()


def read_message(sample: Result, tools: Sequence[Tool]) -> Message:
    """A sample's text as content and tool calls."""
    if not tools:
        return Message(sample.text)
    content, calls = read_calls(sample.text, sample.arguments)
    return Message(content or None if calls else content, tuple(calls))


def failure_of(result: Result) -> Failure | None:
    """Why this Result is no answer: any sample that failed fails the request."""
    for sample in samples_of(result):
        if not sample.ok:
            return Failure.from_result(sample)
    return None


def samples_of(result: Result) -> tuple[Result, ...]:
    """The samples of a Result, itself when n was 1."""
    return result.samples or (result,)


def finish_reason(sample: Result, has_calls: bool = False) -> str:
    """`tool_calls`, `length` for cut free text, else `stop`: a closed document is whole."""
    if has_calls:
        return "tool_calls"
    return "length" if sample.status == "length" else "stop"


def chat_completion(asked: Asked, result: Result, model: str) -> dict[str, Any]:
    """The body of `POST /v1/chat/completions`."""
    choices = [_choice(index, sample, asked) for index, sample in enumerate(samples_of(result))]
    return {**_head("chat.completion", result, model), "choices": choices, "usage": usage([result])}


def _choice(index: int, sample: Result, asked: Asked) -> dict[str, Any]:
    said = read_message(sample, asked.tools)
    message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": None}
    if said.calls:
        message["tool_calls"] = [call.to_dict() for call in said.calls]
    return {
        "index": index,
        "message": message,
        "finish_reason": finish_reason(sample, bool(said.calls)),
        "logprobs": chat_logprobs(sample.logprobs),
        "maskloop": sample_facts(sample),
    }


def text_completion(asked: Sequence[Asked], results: Sequence[Result], model: str) -> dict[str, Any]:
    """The body of `POST /v1/completions`: choices of the first prompt, then of the second, and so on."""
    samples = [sample for result in results for sample in samples_of(result)]
    with_logprobs = asked[0].request.sampling.logprobs is not None
    choices = [
        {
            "index": index,
            "text": sample.text,
            "finish_reason": finish_reason(sample),
            "logprobs": text_logprobs(sample.logprobs) if with_logprobs else None,
            "maskloop": sample_facts(sample),
        }
        for index, sample in enumerate(samples)
    ]
    return {**_head("text_completion", results[0], model), "choices": choices, "usage": usage(results)}


def _head(kind: str, result: Result, model: str) -> dict[str, Any]:
    return {
        "id": result.id,
        "object": kind,
        "created": int(result.created),
        "model": model,
        "system_fingerprint": fingerprint(result),
        "maskloop": facts(result),
    }


def fingerprint(result: Result) -> str:
    """What the answer depends on besides the request."""
    return f"maskloop-{result.engine_version}-{result.quantization}"


def sample_facts(sample: Result) -> dict[str, Any]:
    """Per choice: `status` tells a closed document from a complete one."""
    plain = plain_facts(sample)
    names = ("status", "valid", "seed", "mean_logprob", "log_mass", "log_weight")
    return {name: plain[name] for name in names if name in plain}


def facts(result: Result) -> dict[str, Any]:
    """Per request."""
    plain = plain_facts(result)
    names = ("schema_hash", "grammar_source", "verdicts", "timings_ms", "gpu_seconds", "device", "quantization")
    told = ("log_evidence", "effective_samples", "resamplings", "warnings")
    return {name: plain[name] for name in names} | {name: plain[name] for name in told if name in plain}


def plain_facts(result: Result) -> dict[str, Any]:
    """A Result in plain JSON types, without what there may be much of."""
    return replace(result, logprobs=None, token_ids=(), samples=()).to_dict()


def usage(results: Sequence[Result]) -> dict[str, Any]:
    """Token counts; forced tokens are the engine's accepted predictions."""
    prompt = sum(result.usage.prompt_tokens for result in results)
    completion = sum(result.usage.completion_tokens for result in results)
    forced = sum(result.usage.forced_tokens for result in results)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {"accepted_prediction_tokens": forced},
    }


def chat_logprobs(entries: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """`logprob` is of the constrained distribution the token was drawn from; `raw_logprob` of the free model."""
    if entries is None:
        return None
    return {"content": [{**_token(entry), "top_logprobs": [_token(top) for top in entry["top"]]} for entry in entries],
            "refusal": None}  # fmt: skip


def _token(entry: Mapping[str, Any]) -> dict[str, Any]:
    token = str(entry["token"])
    return {
        "token": token,
        "logprob": finite(entry["constrained"]),
        "bytes": list(token.encode("utf-8", "replace")),
        "raw_logprob": finite(entry["raw"]),
    }


def text_logprobs(entries: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """The older form of /v1/completions."""
    told = entries or ()
    offsets, position = [], 0
    for entry in told:
        offsets.append(position)
        position += len(str(entry["token"]))
    return {
        "tokens": [str(entry["token"]) for entry in told],
        "token_logprobs": [finite(entry["constrained"]) for entry in told],
        "top_logprobs": [{str(top["token"]): finite(top["constrained"]) for top in entry["top"]} for entry in told],
        "text_offset": offsets,
    }


def finite(value: float | None) -> float:
    """A log-probability that JSON can carry."""
    return LOWEST_LOGPROB if value is None or not value > LOWEST_LOGPROB else float(value)
