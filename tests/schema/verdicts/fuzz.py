"""Generated schemas of all keywords beside the judge: `python -m tests.schema.verdicts.fuzz [--schemas N] [--seed S]`.

What the judge takes and the grammar does not must be named `narrowed`, what the grammar takes and the judge does not
`checked` where the judge says it fails. Prints counts and every lie; exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal

from bench.conformance.failures import failures, named, validator
from engine.errors import ConstraintError, LimitExceeded
from engine.schema import Lowered, Validator, lower
from tests.schema.matching import Language, Sampler, compact

Conformance = Literal["tight", "spec"]

DRAFTS = {
    2020: "https://json-schema.org/draft/2020-12/schema", 2019: "https://json-schema.org/draft/2019-09/schema",
    7: "http://json-schema.org/draft-07/schema#", 6: "http://json-schema.org/draft-06/schema#",
    4: "http://json-schema.org/draft-04/schema#",
}  # fmt: skip
DYNAMIC: dict[int, tuple[Any, Any, Any]] = {
    2020: ({"$dynamicRef": "#n"}, {"$dynamicAnchor": "n"}, {"$anchor": "n"}),
    2019: ({"$recursiveRef": "#"}, {"$recursiveAnchor": True}, {}),
}
"""A reference that looks at the way to it, what a resource says to be found by it, and what one that is not says."""
DOCUMENTS: list[Any] = [
    None, True, False, 0, 1, 2, 2.5, -3, "", "a", "ab", "b", "1", "{", '"a"', "[1]", "[1,1]", [], [1], ["a"], [1, "a"],
    ["a", "a"], [1, 1], [None, 2], {}, {"a": 1}, {"a": "a"}, {"b": 1}, {"a": 1, "b": 2}, {"b": "b", "a": 1},
    {"c": None}, {"a": {"a": 1}}, {"a": [1]}, {"a": 1, "b": 2, "c": 3}, {"a": "1"}, {"a": "{"}, {"1": 1}, '{"a":1}',
    ["1"], ["1", "{"], [["1"]], [[1], 1],
]  # fmt: skip
UNSEEN = {("multipleOf", "narrowed"), ("format", "narrowed")}
"""What these leave out in spec is not among the documents."""
SCALARS = (None, True, 0, 1, 2.5, "", "a", "ab", "1", "{")


class Schemas:
    """Random schemas over few keys and values, so that keywords meet."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.contents = self.dynamic = False
        self.draft = 2020

    def root(self) -> dict[str, Any]:
        """One schema of one draft, about half of them with documents in strings."""
        self.draft = self.draw.choice([2020, 2020, 2020, 2019, 7, 6, 4])
        self.contents = self.draft >= 2019 and self.draw.random() < 0.3
        self.dynamic = self.draft >= 2019 and self.draw.random() < 0.3
        inner = self.schema(self.draw.randint(1, 3))
        defs = {name: self.resource(name, {"allOf": [self.schema(1)]}) for name in "uv"}
        whole = {"$schema": DRAFTS[self.draft], "allOf": [inner], "definitions": defs}
        return self.resource("http://x.test/", whole)

    def resource(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema with a name of its own, where references look at the way to them."""
        if not self.dynamic:
            return schema
        _, found, hidden = DYNAMIC[self.draft]
        return {"$id": name, **self.draw.choice([found, found, hidden]), **schema}

    def leaf(self) -> Any:
        place = "" if self.dynamic else "#/definitions/"
        if self.dynamic and self.draw.random() < 0.25:
            return DYNAMIC[self.draft][0]
        return self.draw.choice([
            *([True, False] if self.draft >= 6 else [{}, {"not": {}}]),
            {"type": "string"}, {"type": "integer"}, {"enum": [1]}, {"enum": ["a", 2, [1], None]},
            {"enum": [{"a": 1}, {}, "", "1", True]}, {"type": ["null", "array"]}, {"$ref": f"{place}u"},
            {"$ref": f"{place}v"}, {"minimum": 1}, {"type": "object", "required": ["a"]},
        ])  # fmt: skip

    def schema(self, depth: int) -> Any:
        """A leaf, or one to four keywords together."""
        if depth <= 0 or self.draw.random() < 0.1:
            return self.leaf()
        if self.contents and self.draw.random() < 0.3:
            return self.text(depth)
        parts = {**self._scalars(), **self._arrays(depth), **self._objects(depth), **self._applied(depth)}
        chosen = self.draw.sample(sorted(parts), self.draw.randint(1, 4))
        if self.draft < 6 and "exclusiveMaximum" in chosen:
            chosen = ["maximum", *chosen]  # which it only describes
        return {name: parts[name]() for name in chosen}

    def text(self, depth: int) -> Any:
        """A document in a string."""
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": self.schema(depth - 1)}

    def _scalars(self) -> dict[str, Callable[[], Any]]:
        draw = self.draw
        return {
            "type": lambda: draw.choice(["object", "array", "string", ["integer", "null"], "number", "boolean"]),
            "const": lambda: draw.choice([*SCALARS, [], [1], {}, {"a": 1}]),
            "enum": lambda: [*draw.sample(SCALARS, 2), draw.choice([[], [1], {}, {"a": 1}])],
            "minimum": lambda: draw.choice([0, 1.5]),
            "maximum": lambda: draw.choice([1, 2.5]),
            "exclusiveMaximum": lambda: 2 if self.draft >= 6 else True,
            "multipleOf": lambda: draw.choice([2, 0.5]),
            "minLength": lambda: draw.randint(0, 2),
            "maxLength": lambda: draw.randint(0, 2),
            "pattern": lambda: draw.choice(["a", "^b", "^[^b]$", "^(ab?)*$"]),
            "format": lambda: draw.choice(["date", "email", "regex"]),
        }

    def _arrays(self, depth: int) -> dict[str, Callable[[], Any]]:
        draw, inner = self.draw, lambda: self.schema(depth - 1)
        parts: dict[str, Callable[[], Any]] = {
            "minItems": lambda: draw.randint(1, 2),
            "maxItems": lambda: draw.randint(0, 2),
            "uniqueItems": lambda: True,
            "contains": inner,
            "items": inner,
        }
        if self.draft >= 2019:
            parts |= {"minContains": lambda: draw.randint(0, 2), "maxContains": lambda: draw.randint(0, 2)}
            parts["unevaluatedItems"] = inner
        if self.draft >= 2020:
            return {**parts, "prefixItems": lambda: [inner()]}
        return {**parts, "items": lambda: inner() if draw.random() < 0.5 else [inner()], "additionalItems": inner}

    def _objects(self, depth: int) -> dict[str, Callable[[], Any]]:
        draw, inner = self.draw, lambda: self.schema(depth - 1)
        parts: dict[str, Callable[[], Any]] = {
            "properties": lambda: {key: inner() for key in draw.sample("abc", draw.randint(1, 2))},
            "required": lambda: draw.sample("abc", draw.randint(1, 2)),
            "additionalProperties": inner,
            "patternProperties": lambda: {draw.choice(["^a", "b$", "[bc]"]): inner()},
            "propertyNames": lambda: draw.choice([{"pattern": "^[ab]"}, {"minLength": 1}, {"enum": ["a", "c"]}]),
            "maxProperties": lambda: draw.randint(0, 2),
            "minProperties": lambda: draw.randint(1, 3),
        }
        if self.draft < 2019:
            return {**parts, "dependencies": lambda: {"a": draw.choice([["b"], inner()])}}
        parts |= {"dependentRequired": lambda: {"a": ["b"]}, "dependentSchemas": lambda: {"b": inner()}}
        return {**parts, "unevaluatedProperties": inner}

    def _applied(self, depth: int) -> dict[str, Callable[[], Any]]:
        inner = lambda: self.schema(depth - 1)  # noqa: E731
        two = lambda: [inner(), inner()]  # noqa: E731
        return {"allOf": two, "anyOf": two, "oneOf": two, "not": inner, "if": inner, "then": inner, "else": inner}


def lies(schema: Any, conformance: Conformance, seed: int, tally: Counter[str]) -> Iterator[str]:
    """What no verdict names."""
    try:
        judge = Validator(schema)
    except ConstraintError:
        return
    try:
        lowered = lower(schema, conformance=conformance)
    except LimitExceeded:
        tally["over a limit"] += 1
        return
    except ConstraintError as error:
        tally["refused"] += 1
        if "unsatisfiable" in error.message:
            yield from (f"{compact(v)} is valid, but {error.message}" for v in DOCUMENTS if judge.check_value(v).ok)
        return
    unseen = UNSEEN if conformance == "spec" else set[tuple[str, str]]()
    words = {verdict.verdict for verdict in lowered.verdicts if (verdict.keyword, verdict.verdict) not in unseen}
    every = {verdict.verdict for verdict in lowered.verdicts}
    tally["checked" if "checked" in words else "held"] += 1
    if words >= {"checked", "narrowed"}:
        return
    language, places = Language(lowered.grammar), validator(schema)
    verdicts = [verdict.to_dict() for verdict in lowered.verdicts]
    for value in _values(lowered, seed):
        ok, taken = judge.check_value(value).ok, language.accepts(value)
        tally[f"{'valid' if ok else 'invalid'}, {'taken' if taken else 'refused'}"] += 1
        if ok and not taken and "narrowed" not in (words if value in DOCUMENTS else every):
            yield f"{compact(value)} is valid and refused, none says narrowed: {words}"
        if not taken or ok:
            continue
        if "checked" not in words:
            yield f"{compact(value)} is invalid and taken, none says checked: {words}"
        elif (failed := failures(schema, places, value)) and not named(failed, verdicts):
            yield f"{compact(value)} is invalid and taken, none of {failed[0].location} and above says checked"


def _values(lowered: Lowered, seed: int) -> Iterator[Any]:
    """Documents, random texts of the grammar, and both with a part changed."""
    draw, sampler = random.Random(seed), Sampler(lowered.grammar, seed)
    yield from DOCUMENTS
    for _ in range(4):
        with suppress(ValueError):  # no number that Python reads
            value = json.loads(sampler.text(30))
            yield value
            yield _changed(draw, value)


def _changed(draw: random.Random, value: Any) -> Any:
    if isinstance(value, list) and (value or draw.random() < 0.5):
        at = draw.randint(0, len(value))
        return draw.choice([value[:at], [*value, draw.choice(SCALARS)], [_changed(draw, part) for part in value]])
    if isinstance(value, dict):
        changed = dict(value)
        key = draw.choice([*value, *"abc"])
        if key in changed and draw.random() < 0.5:
            del changed[key]
        else:
            changed[key] = _changed(draw, value[key]) if key in value else draw.choice(SCALARS)
        return changed
    return draw.choice([*SCALARS, [value], {"a": value}])


def run(first: int, schemas: int, conformance: Conformance, tally: Counter[str]) -> Iterator[str]:
    """The lies of so many schemas."""
    for seed in range(first, first + schemas):
        schema = Schemas(seed).root()
        yield from (f"{seed} {conformance}: {compact(schema)}: {lie}" for lie in lies(schema, conformance, seed, tally))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemas", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conformance", choices=("spec", "tight"), default="spec")
    options = parser.parse_args()
    tally, found = Counter[str](), 0
    for lie in run(options.seed, options.schemas, options.conformance, tally):
        print(lie, flush=True)
        found += 1
    print(json.dumps({"seed": options.seed, "schemas": options.schemas, "lies": found, **tally}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
