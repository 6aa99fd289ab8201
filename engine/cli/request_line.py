"""One line of a batch file as a request. Unknown fields are refused by name.

Knows field names. Ranges and contradictions are the engine types' own business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import RequestError, UnknownOption
from engine.request import SAMPLING_FIELDS, Constraint, Request, SamplingParams

CONSTRAINTS = ("schema", "regex", "ebnf", "lark", "choice", "structural_tag", "json_object")
SCHEMA_OPTIONS = ("whitespace", "conformance", "require_enforced")
PLAIN = ("id", "prompt", "messages", "system", "template", "schema_in_prompt", "deadline_s", "cache_salt", "tools")
FIELDS = frozenset((*PLAIN, *CONSTRAINTS, *SCHEMA_OPTIONS, *SAMPLING_FIELDS))


def request_from(values: Mapping[str, Any]) -> Request:
    """The request that these plain values describe; a null field counts as absent. RequestError names the field."""
    for name in values:
        if name not in FIELDS:
            raise UnknownOption(f"unknown field {name!r}; known: {', '.join(sorted(FIELDS))}", param=name)
    given = {name: value for name, value in values.items() if value is not None}
    plain = {name: given[name] for name in PLAIN if name in given}
    for name in ("messages", "tools"):
        if name in plain:
            plain[name] = _list(name, plain[name])
    sampling = {name: given[name] for name in SAMPLING_FIELDS if name in given}
    return Request(**plain, constraint=constraint_from(given), sampling=SamplingParams.from_mapping(sampling))


def constraint_from(given: Mapping[str, Any]) -> Constraint | None:
    """At most one of `schema`, `regex`, ..., with the options that belong to it."""
    named = [
        name for name in CONSTRAINTS if given.get(name) not in (None, False) or (name == "schema" and name in given)
    ]
    if len(named) > 1:
        raise RequestError(f"{' and '.join(named)} exclude each other; give one constraint", param=named[1])
    allowed = {"schema": SCHEMA_OPTIONS, "json_object": ("whitespace",)}.get(named[0] if named else "", ())
    options = {name: given[name] for name in SCHEMA_OPTIONS if name in given}
    for name in options:
        if name not in allowed:
            raise RequestError(f"{name} does not apply to {named[0] if named else 'free text'}", param=name)
    if not named:
        return None
    if named[0] == "schema":
        return Constraint.json_schema(given["schema"], **options)
    if named[0] == "json_object":
        return Constraint.json_object(**options)
    made: Constraint = getattr(Constraint, named[0])(given[named[0]])
    return made


def _list(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise RequestError(f"{name} must be a list", param=name)
    return tuple(value)
