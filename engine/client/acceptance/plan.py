"""What the acceptance run sends and what it requires. Data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.serve.prices import LISTED, Prices

WARM_LATENCY_S = 3.0
DOCUMENT_USD = 0.002
INFERENCE_PROMPT = "Write a function add(a, b) that returns the sum of two numbers."
INFERENCE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z_][a-z0-9_]{0,30}$"},
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 30},
                    "type": {"type": "string", "maxLength": 30},
                },
                "required": ["name", "type"],
                "additionalProperties": False,
            },
            "maxItems": 4,
        },
        "returns": {"type": "string", "maxLength": 30},
        "body": {"type": "string", "maxLength": 200},
    },
    "required": ["name", "parameters", "returns", "body"],
    "additionalProperties": False,
}
TASKS = (
    "reverse a string",
    "check whether a number is prime",
    "compute the factorial of n",
    "find the largest element of a list",
    "count the vowels of a text",
    "merge two sorted lists",
    "test whether a word is a palindrome",
    "convert celsius to fahrenheit",
    "compute the greatest common divisor of two integers",
    "remove duplicates from a list and keep the order",
    "split a list into chunks of a given size",
    "parse a date of the form YYYY-MM-DD",
    "count how often each word occurs",
    "clamp a number between two bounds",
    "flatten a nested list",
    "compute the median of a list of numbers",
    "validate an e-mail address",
    "transpose a matrix",
    "find the first repeated character",
    "round a number to a given number of digits",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to send. The defaults are the full run."""

    schema: Mapping[str, Any] = field(default_factory=lambda: INFERENCE_SCHEMA)
    tasks: Sequence[str] = TASKS
    at_once: int = 10
    max_tokens: int = 1024
    prices: Prices = LISTED
    """By the device that the answers name; one without a price is judged neither by speed nor by cost."""
    beside_gpu_usd_per_s: float = 0.0
    """What stands beside the GPU and is paid for with it."""
    scaledown_s: float = 120.0
    load_s: float | None = None
    fallback: tuple[str, dict[str, Any]] | None = None
    """Model and options of the FallbackProvider; None: not judged."""

    @staticmethod
    def fallback_to(model: str | None) -> tuple[str, dict[str, Any]] | None:
        """The fallback of a command line, where an empty name is none."""
        return (model, {}) if model else None


def inference_request() -> dict[str, Any]:
    """The one request of `test_inference`: greedy, so that a deployment shows the same document every time."""
    return {"prompt": INFERENCE_PROMPT, "schema": INFERENCE_SCHEMA, "max_tokens": 512, "temperature": 0.0}
