"""DSPy: predictions with typed fields."""

from __future__ import annotations

from typing import Any, Literal

import dspy
from harness import BASE_URL, KEY, MODEL, main, usage

SETTINGS: Any = {"api_base": BASE_URL, "api_key": KEY, "max_tokens": 300, "cache": False, "num_retries": 0}
LM = dspy.LM(f"openai/{MODEL}", **SETTINGS)
SCHEMA_LM = dspy.LM(f"lm_studio/{MODEL}", **SETTINGS)
"""Under this name DSPy takes it for granted that a server honours a schema; the other it looks up in a list."""


class Choose(dspy.Signature):  # type: ignore[misc]
    """Say how large the city is."""

    city: str = dspy.InputField()
    size: Literal["small", "large"] = dspy.OutputField()


def predict(adapter: Any, lm: Any = LM) -> Any:
    with dspy.context(lm=lm, adapter=adapter):
        return dspy.Predict(Choose)(city="Rome")


@usage("LM call")
def call() -> None:
    assert LM("Name a city", max_tokens=10)


@usage("Predict, JSONAdapter")
def json_adapter() -> None:
    assert predict(dspy.JSONAdapter()).size in ("small", "large")


@usage("Predict, JSONAdapter, the model named lm_studio/NAME")
def with_schema() -> None:
    assert predict(dspy.JSONAdapter(), SCHEMA_LM).size in ("small", "large")


@usage("Predict, ChatAdapter with JSON as its way out")
def chat_adapter() -> None:
    assert predict(dspy.ChatAdapter()).size in ("small", "large")


main()
