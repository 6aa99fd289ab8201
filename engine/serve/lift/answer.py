"""LIFT's answer: the parsed value under both names its two servers used, and everything else we know.

A success never has an `error` key: LIFT's client takes any for a failure.
"""

from __future__ import annotations

from typing import Any

from engine.request import Constraint, Result
from engine.result import CONDITIONAL_FIELDS

FINISH_REASONS = {"complete": "stop", "closed": "length", "length": "length"}
SHARED = (
    "status",
    "valid",
    "created",
    "schema_hash",
    "grammar_source",
    "verdicts",
    "seed",
    "timings_ms",
    "usage",
    "mean_logprob",
    "gpu_seconds",
    "device",
    "model",
    "quantization",
    "engine_version",
    "prompt_sha256",
)


def lift_answer(result: Result, constraint: Constraint | None) -> dict[str, Any]:
    """The body for a Result whose status is complete, closed or length. Plain JSON types."""
    plain = result.to_dict()
    answer = {**_document(result, constraint), **{name: plain[name] for name in SHARED}}
    answer["request_id"] = result.id
    answer["tokens_used"] = result.usage.completion_tokens
    answer["prompt_tokens"] = result.usage.prompt_tokens
    answer["generation_time_ms"] = float(plain["timings_ms"]["total"])
    answer |= {name: plain[name] for name in CONDITIONAL_FIELDS if name in plain}
    if plain["logprobs"] is not None:
        answer["logprobs"] = plain["logprobs"]
    if result.samples:
        answer["samples"] = [_sample(sample, constraint) for sample in result.samples]
    return answer


def _document(result: Result, constraint: Constraint | None) -> dict[str, Any]:
    value = result.value if constraint is not None and constraint.is_json else result.text
    return {
        "ir_json": value,
        "text": value,
        "raw_text": result.text,
        "finish_reason": FINISH_REASONS.get(result.status, result.status),
    }


def _sample(sample: Result, constraint: Constraint | None) -> dict[str, Any]:
    plain = sample.to_dict()
    named = {name: plain[name] for name in ("status", "valid", "seed", "mean_logprob", "usage")}
    named |= {name: plain[name] for name in ("log_mass", "log_weight") if name in plain}
    return {**_document(sample, constraint), **named, **({"error": plain["error"]} if "error" in plain else {})}
