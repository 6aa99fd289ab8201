"""Generated schemas wherever a schema may stand: `python -m tests.schema.embedded_fuzz [--schemas N] [--seed S]`.

Each schema is compiled plain, as `%json` of a Lark grammar, as a part of a structural tag, and as a tool's parameters;
random documents are written under the real masks. What our judge calls valid, a second validator (the package
`jsonschema`) must find valid, and an embedded schema must have the verdicts that it has alone. Prints counts and every
lie; exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

from engine.config import EngineConfig, Limits
from engine.errors import EngineError
from engine.grammar import CompiledGrammar, GrammarService
from engine.judge import Judgement, judge
from engine.request import Constraint
from engine.schema.verdicts.verdict import REPEATED_KEYS
from engine.serve.openai.tool_call import Tool, read_calls, structural_tag
from tests.grammar.adversary import Adversary
from tests.grammar.adversary import Tally as Walk
from tests.grammar.fakes import byte_tokenizer

Verdicts = set[tuple[str, str, str]]
TAG_PLACE, LARK_PLACE = "/format/tags/0/content/json_schema", "/%json/0"
BUDGET = 120


class Schemas:
    """Random schemas over few keys and values, so that keywords meet. Patterns read the same to everybody."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def root(self) -> dict[str, Any]:
        """An object with definitions that anything below may refer to."""
        names = self.random.sample(["a", "b", "c", "d e", "é"], self.random.randint(1, 3))
        schema = {"type": "object", "properties": {name: self.any(3) for name in names}}
        schema |= {"required": self.random.sample(names, self.random.randint(0, len(names)))}
        if self.random.random() < 0.5:
            schema |= self.object(2) if self.random.random() < 0.5 else self.combined(2)
        schema["$defs"] = {"u": self.scalar(), "v": self.any(1), "w": {"$anchor": "w", **self.scalar()}}
        return schema

    def any(self, depth: int) -> Any:
        makers: list[Callable[[], Any]] = [self.scalar, self.scalar, self.reference, lambda: True]
        if depth:
            makers += [lambda: self.array(depth - 1), lambda: self.object(depth - 1), lambda: self.combined(depth - 1)]
        return self.random.choice(makers)()

    def reference(self) -> dict[str, Any]:
        return {"$ref": self.random.choice(["#/$defs/u", "#/%24defs/u", "#w", "#/$defs/w", "#/$defs/%75"])}

    def value(self) -> Any:
        scalars = [None, True, False, 0, 1, 2.5, "", "a", "null", "1", "x\ny", "<b>"]
        return self.random.choice([*scalars, [], [1], {}, {"a": 1}])

    def scalar(self) -> dict[str, Any]:
        low = self.random.randint(-3, 3)
        return self.random.choice([
            {"enum": [self.value() for _ in range(self.random.randint(1, 4))]},
            {"const": self.value()},
            {"type": self.random.choice(["null", "boolean", "integer", "number", "string"])},
            {"type": self.random.sample(["null", "integer", "string", "boolean"], 2)},
            {"type": "string", "minLength": self.random.randint(0, 2), "maxLength": self.random.randint(2, 4)},
            {"type": "string", "pattern": self.random.choice(["^a", "[0-9]", "^[a-c]+", "b", "(a|1)b?"])},
            {"pattern": "[0-9]", "maxLength": 3},
            {"type": "integer", "minimum": low, "maximum": low + self.random.randint(0, 9)},
            {"type": "number", "exclusiveMinimum": low, "multipleOf": self.random.choice([1, 2, 3, 0.5])},
            {"type": "string", "format": self.random.choice(["date", "ipv4", "uuid"])},
        ])  # fmt: skip

    def array(self, depth: int) -> dict[str, Any]:
        more = self.random.choice([
            {}, {"minItems": 1}, {"maxItems": 2}, {"contains": self.scalar()}, {"uniqueItems": True, "maxItems": 3},
            {"prefixItems": [self.any(depth)]}, {"prefixItems": [self.any(0)], "unevaluatedItems": False},
        ])  # fmt: skip
        items = {} if "unevaluatedItems" in more else {"type": "array", "items": self.any(depth), "maxItems": 4}
        return {**items, **more}

    def object(self, depth: int) -> dict[str, Any]:
        schema = {"properties": {"a": self.any(depth)}} if self.random.random() < 0.7 else {}
        more: list[dict[str, Any]] = [
            {"additionalProperties": self.any(0)},
            {"additionalProperties": False},
            {"patternProperties": {"^a": self.any(0)}},
            {"propertyNames": {"maxLength": 2}},
            {"required": ["a"]},
            {"dependentRequired": {"a": ["b"]}},
            {"minProperties": 1, "maxProperties": 3},
            {"dependentSchemas": {"a": {"required": ["c"]}}},
            {"unevaluatedProperties": self.any(0)},
        ]
        for part in self.random.sample(more, self.random.randint(1, 2)):
            schema |= part
        return {"type": "object", **schema} if self.random.random() < 0.8 else schema

    def combined(self, depth: int) -> dict[str, Any]:
        some = [self.any(depth) for _ in range(2)]
        return self.random.choice([
            {"anyOf": some}, {"oneOf": some}, {"allOf": some}, {"not": self.scalar()},
            {"if": some[0], "then": some[1]}, {"anyOf": [self.scalar(), {"type": "null"}]},
        ])  # fmt: skip


@dataclass
class Tally:
    """What came of it; `lies` is what must stay empty."""

    outcomes: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)


def plain(schema: Any) -> Constraint:
    return Constraint.json_schema(schema)


def lark(schema: Any) -> Constraint:
    return Constraint.lark(f'start: "<" inner ">"\ninner: %json {json.dumps(schema)}')


def tag(schema: Any) -> Constraint:
    call = {"type": "tag", "begin": "<", "content": {"type": "json_schema", "json_schema": schema}, "end": ">"}
    return Constraint.structural_tag({"format": {"type": "triggered_tags", "triggers": ["<"], "tags": [call],
                                                 "at_least_one": True, "stop_after_first": True}})  # fmt: skip


def tool(schema: Any) -> Constraint:
    return Constraint.structural_tag(structural_tag([Tool("f", schema)], required=True, parallel=False))


def value_of(form: str, text: str, judgement: Judgement) -> Any:
    """What a text of a form stands for."""
    if form == "tool":
        return dict(read_calls(text, dict(judgement.arguments))[1][0].arguments)
    return json.loads(text if form == "plain" else text[1:-1])


FORMS: dict[str, Callable[[Any], Constraint]] = {"plain": plain, "lark": lark, "tag": tag, "tool": tool}
PLACES = {"plain": "", "lark": LARK_PLACE, "tag": TAG_PLACE, "tool": TAG_PLACE}


def run(schemas: int, documents: int, seed: int, folder: Path) -> Tally:
    """`documents` documents of each form of each schema."""
    tally = Tally()
    service = GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=folder, limits=Limits(compile_s=5)))
    try:
        for number in range(seed, seed + schemas):
            _one(service, Schemas(number).root(), number, documents, tally)
    finally:
        service.close()
    return tally


def _one(service: GrammarService, schema: dict[str, Any], number: int, documents: int, tally: Tally) -> None:
    second = jsonschema.Draft202012Validator(schema, format_checker=_formats())
    alone: Verdicts | None = None
    for form, make in FORMS.items():
        constraint = make(schema)
        try:
            grammar = service.compile(constraint)
        except EngineError as error:
            tally.outcomes[f"{form}: {error.type}"] += 1
            if form in ("lark", "tag") and alone is not None:
                tally.lies.append(f"{number} {form}: {error.message}, though not alone")
            continue
        found = {(v.pointer.removeprefix(PLACES[form]), v.keyword, v.verdict) for v in grammar.verdicts}
        found = {verdict for verdict in found if verdict[1] != REPEATED_KEYS}
        if form == "plain":
            alone = found
        elif form != "tool" and found != alone:
            tally.lies.append(f"{number} {form}: verdicts differ from those alone: {(alone or set()) ^ found}")
        for index in range(documents):
            tally.outcomes[f"{form}: {_document(service, grammar, second, form, schema, number + index, tally)}"] += 1


def _formats() -> jsonschema.FormatChecker:
    """RFC 3339 has a year 0000, a leap year; Python's dates begin a year later."""
    checker = jsonschema.FormatChecker()

    @checker.checks("date", raises=ValueError)
    def _is_date(value: object) -> bool:
        if isinstance(value, str):
            datetime.date.fromisoformat("2000" + value[4:] if value.startswith("0000-") else value)
        return True

    return checker


def _document(
    service: GrammarService, grammar: CompiledGrammar, second: Any, form: str, schema: Any, seed: int, tally: Tally
) -> str:
    matcher, status = Adversary(service, seed)._write(grammar, max(BUDGET, grammar.min_tokens), Walk())
    if status == "dead_end":
        return status
    data = b"".join(service.vocabulary.texts[token] or b"" for token in matcher.token_ids)
    judgement = judge(grammar.constraint, data)
    if not judgement.valid:
        checked = any(verdict.verdict == "checked" for verdict in grammar.verdicts)
        if not checked:
            tally.lies.append(f"{seed} {form}: invalid though nothing is checked: {data!r}: {judgement.message}")
        return "invalid"
    value = value_of(form, data.decode(), judgement)
    if not second.is_valid(value):
        tally.lies.append(f"{seed} {form}: valid, but not to jsonschema: {data!r} under {json.dumps(schema)}")
    return "valid"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--documents", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(options.schemas, options.documents, options.seed, Path(folder))
    for outcome, count in sorted(tally.outcomes.items()):
        print(f"{count:7} {outcome}")
    for lie in tally.lies:
        print(lie)
    print(json.dumps({"seed": options.seed, "schemas": options.schemas, "lies": len(tally.lies)}))
    return 1 if tally.lies else 0


if __name__ == "__main__":
    sys.exit(main())
