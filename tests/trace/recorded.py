"""A made-up recording that behaves like a real one: a JSON document, forced runs, flat stretches and one slow mask."""

from __future__ import annotations

import json
import math
import random

from engine.interfaces import StepRecord

DOCUMENT = {
    "name": "merge_intervals",
    "doc": 'Merge overlapping "intervals".\nSorts first, then sweeps once.',
    "parameters": [
        {"name": "intervals", "type": "list[tuple[int, int]]", "default": None},
        {"name": "closed", "type": "bool", "default": True},
    ],
    "returns": "list[tuple[int, int]]",
    "tags": ["sorting", "sweep-line", "intervals </script>"],
}
VERDICTS = [
    {"pointer": "", "keyword": "type", "verdict": "enforced", "reason": "an object"},
    {"pointer": "", "keyword": "additionalProperties", "verdict": "enforced", "reason": "closed"},
    {"pointer": "/properties", "keyword": "name", "verdict": "narrowed", "reason": "keys stand in schema order"},
    {
        "pointer": "/properties/tags",
        "keyword": "uniqueItems",
        "verdict": "checked",
        "reason": "items have no finite set of values",
        "rewrite": "give the items an enum of at most 12 values",
    },
]


def pieces(text: str) -> list[str]:
    """The text cut into token-like parts of one to six characters at word borders."""
    parts, rng = [], random.Random(7)
    while text:
        size = next((n for n, c in enumerate(text[1:], 1) if not c.isalnum()), len(text))
        size = min(size, rng.randint(2, 6))
        parts.append(text[:size])
        text = text[size:]
    return parts


def records(count: int | None = None, *, request_id: str = "req-1", stats: bool = True) -> list[StepRecord]:
    """Steps of the document, repeated up to `count` tokens."""
    texts = pieces(json.dumps(DOCUMENT, ensure_ascii=False, separators=(",", ":")))
    if count is not None:
        texts = (texts * (count // len(texts) + 1))[:count]
    rng, inside = random.Random(3), False
    made = []
    for position, text in enumerate(texts):
        inside ^= text.count('"') % 2 == 1
        made.append(_record(position, text, inside, rng, request_id, stats, last=position == len(texts) - 1))
    return made


def _record(position, text, inside, rng, request_id, stats, last) -> StepRecord:
    forced = not inside and rng.random() < 0.55
    legal = rng.randint(60_000, 150_000) if inside else rng.choice([1, 2, 5, 40, 900])
    fill = rng.lognormvariate(2.0, 0.7) if position % 61 else 900.0
    copy, apply = rng.uniform(4, 7), rng.uniform(2, 4)
    forward, exposed = rng.gauss(4600, 90), apply + max(0.0, rng.gauss(0, 1.5))
    mass = (
        min(1.0, math.exp(-rng.expovariate(0.2 if inside else 1.5) / 40))
        if rng.random() < 0.9
        else 10 ** rng.uniform(-4, -1)
    )
    entropy = rng.expovariate(1.1)
    return StepRecord(
        step=position,
        request_id=request_id,
        row=0,
        position=position,
        token_id=1000 + position % 5000,
        text=text,
        forced=forced,
        rows=1,
        fill_us=fill,
        accept_us=rng.uniform(1, 3),
        copy_us=copy,
        apply_us=apply,
        forward_us=forward,
        sample_us=rng.uniform(20, 30),
        hidden_us=fill + copy + apply - exposed,
        exposed_us=exposed,
        legal_tokens=legal,
        mass=mass if stats else None,
        entropy_free=entropy if stats else None,
        entropy=entropy * mass if stats else None,
        argmax_illegal=(mass < 0.3) if stats else None,
        event="closed" if last else None,
    )
