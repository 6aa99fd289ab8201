"""Requests that are made to stop a server, by name, and the statuses that each may get. Knows bodies; sends nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Asked = tuple[str, Any]
"""Path, and a body as plain values or bytes."""


@dataclass(frozen=True)
class Attack:
    """`ask(rng)` makes one more request; `clients` at once ask it, and leave after `leave_s` where that is given."""

    codes: frozenset[int]
    ask: Callable[[random.Random], Asked]
    clients: int = 2
    leave_s: float | None = None


def percent_reference(n: int) -> dict[str, Any]:
    """References that only unescaping finds, each read twice: 2^n paths."""
    defs: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/%24defs/d{i + 1}"}] * 2} for i in range(n)}
    return {"$defs": {**defs, f"d{n}": {"type": "string", "maxLength": 5}}, "$ref": "#/%24defs/d0"}


def nested_choice(n: int) -> dict[str, Any]:
    """Cheap to compile, forced to write; a validator that tries both branches at every level takes 2^n steps."""
    defs: dict[str, Any] = {f"d{n}": {"type": "null"}}
    for i in range(n):
        below = {"$ref": f"#/$defs/d{i + 1}"}
        kinds = [
            {"type": "object", "properties": {"x": below, "k": k}, "required": ["x", "k"]}
            for k in (False, {"const": 2})
        ]
        defs[f"d{i}"] = {"anyOf": kinds}
    return {"$defs": defs, "$ref": "#/$defs/d0"}


def contains(rng: random.Random) -> dict[str, Any]:
    """Six counts over ten values at once."""
    values = rng.sample(range(10_000), 10)
    counted = [{"contains": {"const": value}, "minContains": 1, "maxContains": 3} for value in values[:6]]
    return {"type": "array", "items": {"enum": values}, "allOf": counted}


def multiple(rng: random.Random) -> dict[str, Any]:
    return {"type": "number", "multipleOf": rng.randrange(1001, 9999, 2) / 1e7}


def keys(rng: random.Random) -> dict[str, Any]:
    a, b = rng.sample("abcdefgh", 2)
    patterns = (f"({a}|{b})*{a}({a}|{b}){{14}}", f"({a}|{b})*{b}({a}|{b}){{13}}c")
    return {"type": "object", "patternProperties": {pattern: {} for pattern in patterns}}


def many_keys(rng: random.Random) -> dict[str, Any]:
    triples = ["".join(rng.sample("abcdefghij", 3)) for _ in range(8)]
    return {"type": "object", "patternProperties": {f"{a}.*{b}.*{c}": {} for a, b, c in triples}}


def after_rollback(rng: random.Random) -> dict[str, Any]:
    low = rng.randrange(1000)
    inner = {"k": {"type": "integer", "minimum": low, "maximum": low + 1}}
    item = {"type": "object", "properties": inner, "required": ["k"], "additionalProperties": False}
    return {"type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": True, "items": item}


def generate(**body: Any) -> Asked:
    return "/generate", {"prompt": "x", "max_tokens": 200, **body}


def schema(make: Callable[[random.Random], dict[str, Any]], **body: Any) -> Callable[[random.Random], Asked]:
    return lambda rng: generate(schema={**make(rng), "$comment": str(rng.random())}, **body)


def excludes(rng: random.Random) -> Asked:
    inner = {"type": "any_text", "excludes": ["a" * 4000 + str(rng.random())]}
    return generate(structural_tag={"type": "structural_tag", "format": inner})


def mistakes(rng: random.Random) -> Asked:
    chat = {"model": "sleeping", "messages": [{"role": "user", "content": "x"}]}
    parameter = rng.choice([{"enum": 7}, {"type": 7}, {"minLength": "x"}, {"anyOf": [1]}, {"pattern": "("}])
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"a": parameter}}}
    return rng.choice([
        ("/generate", {"prompt": "x", "system": "\ud800"}),
        ("/generate", {"messages": [{"role": "\ud800", "content": "x"}]}),
        ("/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": "x", "tool_calls": 7}]}),
        ("/v1/chat/completions", {**chat, "tools": [{"type": "function", "function": tool}]}),
        ("/generate", b'{"prompt":"x","stop":[' + b"1," * 90_000 + b"1]}"),
    ])  # fmt: skip


def always(path: str, body: Any) -> Callable[[random.Random], Asked]:
    return lambda _: (path, body)


OK, REFUSED = 200, 422
ANSWERED = frozenset({OK, REFUSED})
FILLS = "a list of 100"
"""More than the queue holds, at once."""
LIST = {"model": "sleeping", "prompt": ["x"] * 100, "max_tokens": 2000}
ATTACKS: dict[str, Attack] = {
    "nested choice": Attack(ANSWERED, schema(lambda rng: nested_choice(rng.randint(24, 40)), deadline_s=10)),
    "escaped references": Attack(ANSWERED, schema(lambda rng: percent_reference(rng.randint(18, 40)), deadline_s=10)),
    "multipleOf": Attack(ANSWERED, schema(multiple)),
    "long excludes": Attack(ANSWERED, excludes),
    "products of keys": Attack(ANSWERED, schema(keys)),
    "many keys": Attack(ANSWERED, schema(many_keys)),
    FILLS: Attack(frozenset({OK, 429}), always("/v1/completions", LIST), leave_s=4),
    "128 samples": Attack(frozenset({OK}), always(*generate(n=128, max_tokens=400)), leave_s=4),
    "left while admitted": Attack(frozenset({OK, 400}), always(*generate(id="job-42", max_tokens=900)), 4, 0.02),
    "checks": Attack(ANSWERED, lambda rng: ("/check", {"schema": contains(rng)}), 40, 1.5),
    "a long system": Attack(frozenset({400}), always(*generate(system="x y " * 1_125_000))),
    "a long word": Attack(frozenset({400}), always(*generate(system="a" * 4_000_000))),
    "a million lists": Attack(frozenset({413}), always("/generate", b'{"messages":[' + b"[]," * 1_000_000 + b"[]]}")),
    "mistakes": Attack(frozenset({400, REFUSED}), mistakes),
    "deadlines": Attack(
        frozenset({OK, REFUSED, 504}),
        schema(after_rollback, conformance="spec", n=3, temperature=1.0, max_tokens=400, deadline_s=0.1), 4),
}  # fmt: skip
SPECIAL = ("silent sockets", "smuggling")
"""Attacks below HTTP."""
NAMES = (*ATTACKS, *SPECIAL)
