"""What an output must be. Knows the kinds and their canonical text; compiles nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from engine.errors import RequestError, SchemaInvalid, UnknownOption
from engine.fields import check_fields
from engine.plain_json import check_text
from engine.schema_source import SchemaSource, json_schema_of
from engine.syntax import Syntax

ConstraintKind = Literal["json_schema", "regex", "ebnf", "lark", "choice", "structural_tag", "json_object"]
Whitespace = Literal["compact", "flexible"]
Conformance = Literal["tight", "spec"]
Draft = Literal[4, 6, 7, "2019-09", "2020-12"]
DRAFT_URIS: dict[Draft, str] = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
}
CONSTRAINT_FIELDS = ("schema", "regex", "ebnf", "lark", "choice", "structural_tag", "json_object")
"""What a constraint is called where a request is written as plain values."""
Check = str | Callable[[Any, Any], str | None] | Syntax | Mapping[str, Any]
"""A check of the caller's own: a registered name, a function of (value, document so far) that gives a message when the
value is wrong, or the language that the value must be written in, which may be a plain object."""
MOST_CHECKS, LONGEST_POINTER = 64, 1_000
"""Of one request; characters."""
SCHEMA_OPTIONS = ("whitespace", "conformance", "require_enforced", "draft", "contents", "checks")
_EMBEDDED_OPTIONS = ("whitespace", "conformance", "require_enforced")
_OPTIONS = {
    "schema": SCHEMA_OPTIONS,
    "json_object": ("whitespace",),
    "lark": _EMBEDDED_OPTIONS,
    "structural_tag": _EMBEDDED_OPTIONS,
}
"""The options of each constraint that has some."""
_CONTENTS = ("contentEncoding", "contentMediaType")
_VALUES = ("const", "enum", "default", "examples")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")


def constraints_in(given: Mapping[str, Any]) -> list[str]:
    """Names of the constraints among plain values: None is none, and so is False, which only a schema can be."""
    values = ((name, given.get(name)) for name in CONSTRAINT_FIELDS)
    return [name for name, value in values if value is not None and (value is not False or name == "schema")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """What the output must be. Build with the class methods; `source` is the canonical text that is hashed."""

    kind: ConstraintKind
    source: str
    whitespace: Whitespace = "compact"
    conformance: Conformance = "tight"
    require_enforced: bool = False
    checks: Sequence[tuple[str, Check]] = ()
    """By JSON pointer into the document (`*` is any key or index). No part of the grammar."""

    def __post_init__(self) -> None:
        if self.checks:
            object.__setattr__(self, "checks", _read_checks(self.checks))
        check_fields(self)
        if self.checks and self.kind != "json_schema":
            raise RequestError(f"checks does not apply to {self.kind}", param="checks")
        if self.checks and self.require_enforced:
            raise RequestError("checks are not enforced by the grammar: require_enforced excludes them", param="checks")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Constraint | None:
        """At most one of `schema`, `regex`, ..., with the options that belong to it; None where there is none.

        Other names are left alone. Raises RequestError for two constraints, or an option that does not apply.
        """
        named = constraints_in(given)
        if len(named) > 1:
            raise RequestError(f"{' and '.join(named)} exclude each other; give one constraint", param=named[1])
        allowed = _OPTIONS.get(named[0] if named else "", ())
        options = {name: given[name] for name in SCHEMA_OPTIONS if given.get(name) is not None}
        for name in options:
            if name not in allowed:
                raise RequestError(f"{name} does not apply to {named[0] if named else 'free text'}", param=name)
        if not named:
            return None
        if named[0] == "json_object":
            return cls.json_object(**options)
        make = getattr(cls, "json_schema" if named[0] == "schema" else named[0])
        made: Constraint = make(given[named[0]], **options)
        return made

    @classmethod
    def demanded(cls, given: Mapping[str, Any]) -> Constraint:
        """The same where there must be one, and no other name."""
        unknown = [name for name in given if name not in (*CONSTRAINT_FIELDS, *SCHEMA_OPTIONS)]
        if unknown:
            raise UnknownOption(f"unknown option {unknown[0]!r}", param=unknown[0])
        found = cls.from_mapping(given)
        if found is None:
            raise RequestError(f"give one of {', '.join(CONSTRAINT_FIELDS)}", param="schema")
        return found

    @classmethod
    def json_schema(
        cls,
        schema: SchemaSource,
        *,
        whitespace: Whitespace = "compact",
        conformance: Conformance = "tight",
        require_enforced: bool = False,
        draft: Draft | None = None,
        contents: bool = True,
        checks: Mapping[str, Check | Sequence[Check]] | None = None,
    ) -> Constraint:
        """A JSON Schema: see `SchemaSource`. Key order is kept: it decides the order of the output.

        `draft` says what a schema without `$schema` is (2020-12 if nobody says): it becomes its `$schema`. Without
        `contents`, strings need not hold what `contentEncoding` and `contentMediaType` say: these are left out.
        `checks`: by JSON pointer into the document (`*` is any key or index), what values there must pass: see `Check`.
        Several at one place stand in a list.
        """
        written = in_draft(json_schema_of(schema), draft)
        return cls(
            kind="json_schema",
            source=_canonical_json(with_contents(written, contents), "schema"),
            whitespace=whitespace,
            conformance=conformance,
            require_enforced=require_enforced,
            checks=_in_pairs(checks),
        )

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """The whole text matches this ECMA-262 pattern (as if anchored on both sides)."""
        return cls(kind="regex", source=_text("regex", pattern))

    @classmethod
    def ebnf(cls, grammar: str) -> Constraint:
        """XGrammar's EBNF dialect; the rule `root` derives the text."""
        return cls(kind="ebnf", source=_text("ebnf", grammar))

    @classmethod
    def lark(
        cls,
        grammar: str,
        *,
        whitespace: Whitespace = "compact",
        conformance: Conformance = "tight",
        require_enforced: bool = False,
    ) -> Constraint:
        """A Lark grammar; the rule `start` derives the text. The options are for its `%json` parts."""
        return cls(
            kind="lark",
            source=_text("lark", grammar),
            whitespace=whitespace,
            conformance=conformance,
            require_enforced=require_enforced,
        )

    @classmethod
    def choice(cls, options: Sequence[str]) -> Constraint:
        """Exactly one of these texts."""
        if isinstance(options, str) or not options or not all(isinstance(o, str) and o for o in options):
            raise RequestError("choice needs a list of at least one non-empty string", param="choice")
        return cls(kind="choice", source=json.dumps(list(dict.fromkeys(options)), ensure_ascii=False))

    @classmethod
    def structural_tag(
        cls,
        tag: Mapping[str, Any] | str,
        *,
        whitespace: Whitespace = "compact",
        conformance: Conformance = "tight",
        require_enforced: bool = False,
    ) -> Constraint:
        """An XGrammar structural tag (free text with constrained parts). The options are for its JSON Schemas."""
        return cls(
            kind="structural_tag",
            source=_canonical_json(tag, "structural_tag"),
            whitespace=whitespace,
            conformance=conformance,
            require_enforced=require_enforced,
        )

    @classmethod
    def json_object(cls, *, whitespace: Whitespace = "compact") -> Constraint:
        """Any JSON object."""
        return cls(kind="json_object", source='{"type":"object"}', whitespace=whitespace, conformance="spec")

    @property
    def is_json(self) -> bool:
        """Whether the whole text is one JSON document."""
        return self.kind in ("json_schema", "json_object")

    @property
    def unchecked(self) -> Self:
        """The same without the caller's own checks: what is compiled, and what the judge of the schema reads."""
        return replace(self, checks=()) if self.checks else self

    @property
    def key(self) -> str:
        """sha256 over kind, source and options; equal keys compile to the same grammar."""
        parts = [self.kind, self.source, self.whitespace, self.conformance]
        return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def schema_hash(self) -> str:
        """sha256 of the source alone, for people: the schema as minified JSON with its key order kept."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()


def _in_pairs(checks: Mapping[str, Check | Sequence[Check]] | None) -> tuple[tuple[str, Check], ...]:
    if checks is not None and not isinstance(checks, Mapping):
        kind = type(checks).__name__
        raise RequestError(f"checks must be an object of checks by JSON pointer, got {kind}", param="checks")
    several = {at: found if isinstance(found, list | tuple) else (found,) for at, found in (checks or {}).items()}
    return tuple((at, check) for at, found in several.items() for check in found)


def _read_checks(checks: Sequence[Any]) -> tuple[tuple[str, Check], ...]:
    """RequestError, with the pointer, for what is no pointer or no check."""
    if isinstance(checks, Mapping) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in checks):
        raise RequestError("checks must be pairs of a pointer and a check; json_schema() makes them", param="checks")
    if len(checks) > MOST_CHECKS:
        raise RequestError(f"checks has {len(checks)} pointers, over the limit of {MOST_CHECKS}", param="checks")
    for pointer, _ in checks:
        if not isinstance(pointer, str) or not _POINTER.fullmatch(pointer):
            raise RequestError(
                f"checks: {pointer!r} is no JSON pointer; it is empty or begins with '/' (* is any key or index)",
                param="checks",
            )
        check_text("checks", pointer, longest=LONGEST_POINTER)
    return tuple((pointer, _read_check(pointer, check)) for pointer, check in checks)


def _read_check(pointer: str, check: Any) -> str | Callable[[Any, Any], str | None] | Syntax:
    if isinstance(check, Mapping):
        try:
            return Syntax.of(check)
        except RequestError as error:
            message = f"checks: at {pointer!r}: {error.message}"
            raise type(error)(message, param="checks", pointer=pointer) from None
    if callable(check) or (isinstance(check, Syntax | str) and check):
        return check  # type: ignore[no-any-return]  # a function of any kind
    raise RequestError(
        f"checks.{pointer} must be a function, a registered name or a syntax, got {type(check).__name__}",
        param="checks",
        pointer=pointer,
    )


_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*", re.DOTALL)


def in_draft(schema: Any, draft: Draft | None) -> Any:
    """The schema with the `$schema` of this draft, unless it has one. RequestError for a draft that nobody knows."""
    if draft is None:
        return schema
    if isinstance(draft, bool) or not isinstance(draft, int | str) or draft not in DRAFT_URIS:
        raise RequestError(f"draft must be 4, 6, 7, '2019-09' or '2020-12', got {draft!r}", param="draft")
    if isinstance(schema, str | bytes):
        schema = _read_json(schema, "schema")
    if not isinstance(schema, Mapping) or "$schema" in schema:
        return schema
    return {"$schema": DRAFT_URIS[draft], **schema}


def with_contents(schema: Any, contents: bool) -> Any:
    """The schema, without the keywords that say what strings hold unless `contents`."""
    if not isinstance(contents, bool):
        raise RequestError(f"contents must be true or false, got {contents!r}", param="contents")
    if contents:
        return schema
    return _without_contents(_read_json(schema, "schema") if isinstance(schema, str | bytes) else schema)


def _without_contents(part: Any, *, is_map: bool = False) -> Any:
    """`is_map`: the keys are names, not keywords."""
    if isinstance(part, list):
        return [_without_contents(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    if is_map:
        return {name: _without_contents(value) for name, value in part.items()}
    kept = {keyword: value for keyword, value in part.items() if keyword not in _CONTENTS}
    return {
        keyword: value if keyword in _VALUES else _without_contents(value, is_map=keyword in _MAPS)
        for keyword, value in kept.items()
    }


def _canonical_json(value: Any, param: str) -> str:
    """Minified JSON with key order kept; text is parsed first (the last of duplicate keys wins, NaN is refused)."""
    if isinstance(value, str | bytes):
        value = _read_json(value, param)
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise SchemaInvalid(f"{param} is nested too deeply to read", param=param) from None
    except (ValueError, TypeError) as error:
        raise SchemaInvalid(f"{param} is not JSON: {error}", param=param) from None
    if not isinstance(value, Mapping | bool):
        raise SchemaInvalid(f"{param} must be a JSON object or a boolean, got {type(value).__name__}", param=param)
    return text


def _read_json(text: str | bytes, param: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise SchemaInvalid(f"{param} is nested too deeply to read", param=param) from None
    except ValueError as error:
        raise SchemaInvalid(f"{param} is not JSON: {error}", param=param) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _text(param: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise SchemaInvalid(f"{param} must be a non-empty string", param=param)
    return value
