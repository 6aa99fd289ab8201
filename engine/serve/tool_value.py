"""How one parameter of a tool call may be written: strings as they are, everything else as JSON.

Knows JSON Schema's outermost shape, and our own lowering for what is inside. In doubt a value may be any text, since
every call is judged by the tool's whole schema in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from engine.errors import ConstraintError
from engine.schema import lower
from engine.schema.automaton import Automaton
from engine.schema.formats import from_format
from engine.schema.grammar import Grammar, Rule
from engine.schema.pattern import from_pattern
from engine.schema.pattern_tree import PatternInvalid, PatternUnsupported
from engine.schema.states import AutomatonTooLarge
from engine.schema.text import TextRules

Schema = Mapping[str, Any]
Format = dict[str, Any]
END = "</parameter>"
ANY_TEXT: Format = {"type": "any_text", "excludes": [END]}
LONGEST = 1_000
"""Longer bounds on a text's length are left to the judge: each character would be a state."""
DEEPEST = 8


def value_format(place: str, schema: Any, root: Schema) -> Format:
    """The structural-tag format of a value. ConstraintError, told with `place`, when none can satisfy the schema."""
    words = _words(schema)
    if words:
        return {"type": "or", "elements": [{"type": "const_string", "value": word} for word in words]}
    try:
        if is_string(schema):
            return _text(schema)
        if _may_be_string(schema, root):
            return ANY_TEXT
        return {"type": "grammar", "grammar": lower(schema).grammar.to_ebnf()}
    except ConstraintError as error:
        raise type(error)(f"{place}: {error.message}", param="tools", pointer=error.pointer) from None


def is_string(schema: Any) -> bool:
    """Whether nothing but a string satisfies it, told by its outermost keywords."""
    return isinstance(schema, Mapping) and (schema.get("type") == "string" or bool(_words(schema)))


def _text(schema: Schema) -> Format:
    """Raw text under length, pattern and format; any text where those are no small regular language."""
    try:
        automaton = _constrained(schema)
        if automaton is None:
            return ANY_TEXT
        rules: dict[str, Rule] = {}
        automaton &= _without_end()
        if automaton.is_empty:
            return ANY_TEXT
        grammar = Grammar(rules, TextRules(rules).scalar(automaton, None).name)
        return {"type": "grammar", "grammar": grammar.to_ebnf()}
    except (AutomatonTooLarge, PatternInvalid, PatternUnsupported):
        return ANY_TEXT


def _constrained(schema: Schema) -> Automaton | None:
    """What the string keywords say together; None when that is nothing. Raises what `_text` catches."""
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    parts = [from_pattern(schema["pattern"])] if isinstance(schema.get("pattern"), str) else []
    if isinstance(schema.get("format"), str) and (named := from_format(schema["format"])) is not None:
        parts.append(named)
    if 0 < low <= LONGEST or (high is not None and high <= LONGEST):
        parts.append(Automaton.length(int(low), None if high is None or high > LONGEST else int(high)))
    whole = parts[0] if parts else None
    for part in parts[1:]:
        whole = part if whole is None else whole & part
    return whole


@cache
def _without_end() -> Automaton:
    anything = Automaton.anything()
    return ~(anything + Automaton.literal(END) + anything)


def _words(schema: Any) -> list[str]:
    """The texts of an enum or const of non-empty strings on one line each."""
    if not isinstance(schema, Mapping):
        return []
    words = [schema["const"]] if "const" in schema else schema.get("enum") or []
    plain = all(isinstance(word, str) and word and "\n" not in word and "<" not in word for word in words)
    return list(words) if plain else []


def _may_be_string(schema: Any, root: Schema, depth: int = 0) -> bool:
    """Whether a string could satisfy it, told by types alone; in doubt yes."""
    if not isinstance(schema, Mapping):
        return schema is not False
    kind = schema.get("type")
    if kind is not None:
        return "string" in ([kind] if isinstance(kind, str) else kind)
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return any(isinstance(value, str) for value in values)
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), Sequence) and depth < DEEPEST:
            return any(_may_be_string(part, root, depth + 1) for part in schema[name])
    target = _pointed(schema.get("$ref"), root)
    return True if target is None or depth >= DEEPEST else _may_be_string(target, root, depth + 1)


def _pointed(ref: Any, root: Schema) -> Any:
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return None
    found: Any = root
    for part in ref[2:].split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
