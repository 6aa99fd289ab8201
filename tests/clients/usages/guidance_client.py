"""guidance against an OpenAI-compatible server."""

from __future__ import annotations

import json

import guidance
from harness import BASE_URL, KEY, MODEL, main, usage

SCHEMA = {"type": "object", "properties": {"size": {"enum": ["small", "large"]}}, "required": ["size"]}


def model() -> guidance.models.OpenAI:
    return guidance.models.OpenAI(MODEL, base_url=BASE_URL, api_key=KEY, echo=False)


@usage("gen")
def gen() -> None:
    lm = model()
    with guidance.user():
        lm += "Name a city"
    with guidance.assistant():
        lm += guidance.gen("city", max_tokens=10)
    assert lm["city"]


@usage("json")
def json_grammar() -> None:
    lm = model()
    with guidance.user():
        lm += "How large is Rome? As JSON"
    with guidance.assistant():
        lm += guidance.json("answer", schema=SCHEMA)
    assert json.loads(lm["answer"])["size"] in ("small", "large")


main()
