"""The judge of finished texts: strict JSON, then the caller's original schema, formats asserted in every draft.

Knows JSON text and jsonschema-rs (chosen over jsonschema: 50 to 100 times faster, drafts 4 to 2020-12, exact paths of
failures). Never fetches anything. Does not know grammars, so that it can judge what they let through.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urldefrag, urljoin

import jsonschema_rs

from engine.constraint import DRAFT_URIS
from engine.errors import ConstraintError, JudgingLimit, LimitExceeded, RequestError, SchemaInvalid, SchemaRefused
from engine.patterns.in_schemas import PatternError, Written
from engine.pointer import json_pointer, steps
from engine.schema.reading.contents import (
    SYNTAX,
    ContentEncoding,
    ContentSchema,
    WrittenIn,
    is_json_document,
    is_written,
)
from engine.schema.reading.dialect import Draft, draft_of
from engine.schema.reading.idn import is_idn_hostname

_VALIDATORS: dict[Draft, Any] = {
    Draft.D4: jsonschema_rs.Draft4Validator,
    Draft.D6: jsonschema_rs.Draft6Validator,
    Draft.D7: jsonschema_rs.Draft7Validator,
    Draft.D2019: jsonschema_rs.Draft201909Validator,
    Draft.D2020: jsonschema_rs.Draft202012Validator,
}
_PATTERNS = jsonschema_rs.FancyRegexOptions(size_limit=32 << 20, backtrack_limit=1 << 62)
"""Bytes of one compiled pattern: three times what is usual, since sets that are written out take more room. Steps
without end: who judges for others ends it by the clock, where the engine would say that the text does not match."""
_WHOLE = "maskloop:///whole"
"""What a schema without a name is called where another refers to it."""
_CONTENTS = ("contentEncoding", "contentSchema")
_COUNTED = re.compile("/(?:min|max)Contains(?=/)")
"""The validator's place of `contains` where it counts."""
_LONG = 1_000
"""Characters from which the engine's stack (a million places) may be too small for a pattern that goes back."""
_OVERFLOW = "Max stack size exceeded"


class JsonInvalid(ValueError):
    """The text is not strict JSON; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the judge says of one text. On failure: `pointer` into the document, `keyword` and where it stands."""

    value: Any
    ok: bool
    message: str | None = None
    pointer: str | None = None
    keyword: str | None = None
    schema_pointer: str | None = None
    """Pointer of the failing keyword along the path the validator took, `$ref` steps included."""


class Validator:
    """One schema, compiled once; `check` may be called from any thread."""

    def __init__(self, schema: Any, whole: Any = None) -> None:
        """`schema` is a dict or a bool; `whole` is given where it is a part of that.

        Raises SchemaInvalid (not a schema) or SchemaRefused (needs a remote part).
        """
        self.schema = schema
        self.draft = draft_of(schema)
        self._written = _for_engine(schema)
        try:
            self._validators = [_compiled(self._written.schema, self.draft)]
        except SchemaInvalid as error:
            raise SchemaInvalid(
                error.message + _older_drafts(schema), param=error.param, pointer=error.pointer
            ) from None
        self._whole = schema if whole is None else whole
        self._inner: dict[str, Validator] = {}
        self._unfollowed: SchemaRefused | None = None
        if _says_contents(schema, self.draft):
            # a second one, since what the specification only annotates decides no `not` and no `oneOf`
            places = list[str]()
            try:
                self._validators.append(_compiled(self._written.schema, self.draft, self._keywords(places)))
            except SchemaInvalid as error:
                raise (self._unfollowed or error) from None
            if whole is None and self.draft >= Draft.D2019:
                self._refuse_contents(places)

    def check(self, text: str | bytes) -> Checked:
        """Parse and judge a whole text. Cost: about 10 microseconds a kilobyte."""
        try:
            value = parse_json(text)
        except JsonInvalid as error:
            return Checked(None, False, str(error), "", "json", "")
        return self.check_value(value)

    def check_value(self, value: Any) -> Checked:
        """Judge a parsed value. A number too large for a double has been refused by `parse_json` before. Raises
        JudgingLimit for a text too long for a pattern of the schema; such patterns may also take any time."""
        if self._written.backtracking and any(len(text) >= _LONG for text in _texts(value)):
            self._refuse_overflow(value)
        failed = next((one for one in self._validators if not one.is_valid(value)), None)
        if failed is None:
            return Checked(value, True)
        error = next(failed.iter_errors(value))
        path = self._written.original_steps(error.schema_path)
        keyword = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
        pointer, message = json_pointer(error.instance_path), self._written.original(error.message)
        return Checked(value, False, message, pointer, keyword, json_pointer(path))

    def _refuse_contents(self, places: list[str]) -> None:
        """Raises what is wrong with what strings hold at these places, and in it: nobody else looks there before a
        document is judged."""
        named = _named_contents(self.schema)
        if named is not None:
            message = f"contentSchema under an $id of its own is not judged: {named}"
            raise SchemaRefused(message, param="schema")
        known = set[str]()
        while fresh := [place for place in dict.fromkeys(places) if place not in known]:
            for place in fresh:
                if not _is_place(self._whole, place):
                    raise SchemaRefused("contentSchema is not judged here", param="schema", pointer=place)
            known.update(fresh)
            written = _for_engine(_subschema(self._whole, fresh))
            _compiled(written.schema, self.draft, self._keywords(places := list[str](), written))

    def _keywords(self, places: list[str], written: Written | None = None) -> dict[str, Any]:
        def content_schema(parent: dict[str, Any], _: Any, path: list[str | int]) -> ContentSchema:
            pointer = json_pointer((written or self._written).original_steps(path))
            if not _is_place(self._whole, pointer):
                pointer = _COUNTED.sub("/contains", pointer)
            if is_json_document(parent):
                places.append(pointer)
            return ContentSchema(parent, partial(self._judge_inner, pointer))

        def written_in(parent: dict[str, Any], value: Any, path: list[str | int]) -> WrittenIn:
            try:
                return WrittenIn(parent, value, path)
            except RequestError as error:  # the validator would tell of its own insides
                self._unfollowed = SchemaRefused(error.message, param="schema", pointer=json_pointer(path))
                raise

        syntax: dict[str, Any] = dict.fromkeys(SYNTAX[: 1 if self.draft < Draft.D6 else None], written_in)
        if self.draft < Draft.D2019:
            return syntax
        return {**syntax, "contentEncoding": ContentEncoding, "contentSchema": content_schema}

    def _judge_inner(self, pointer: str, text: str | bytes) -> str | None:
        """What is wrong with the document that a string holds, by the subschema at this place."""
        if pointer not in self._inner:
            self._inner[pointer] = Validator(_subschema(self._whole, [pointer]), self._whole)
        found = self._inner[pointer].check(text)
        return None if found.ok else f"{found.message} at {found.pointer or '(root)'}"

    def _refuse_overflow(self, value: Any) -> None:
        """Where the engine gives a pattern up it answers one thing or the other. Only what it tells of all keywords
        shows it, and of keys not even that: these are tried with every such pattern."""
        keys = [key for part in _parts(value) if isinstance(part, dict) for key in part if len(key) >= _LONG]
        each = [_compiled({"pattern": pattern}, self.draft) for pattern in self._written.backtracking] if keys else []
        judged = [
            *(one.evaluate(value) for one in self._validators),
            *(one.evaluate(key) for one in each for key in keys),
        ]
        if any(_OVERFLOW in str(evaluation.list()) for evaluation in judged):
            raise JudgingLimit("a text is too long for a pattern of the schema to be judged", param="schema")


def _for_engine(schema: Any) -> Written:
    try:
        return Written(schema)
    except PatternError as error:
        kind = SchemaRefused if error.legal else SchemaInvalid
        message = str(error) if error.legal else f"not a valid JSON Schema: {error}"
        raise kind(message, param="schema", pointer=error.pointer) from None
    except RecursionError:
        raise LimitExceeded("the schema is nested too deeply to be judged", param="schema") from None


def parse_json(text: str | bytes) -> Any:
    """Strict JSON: no NaN or Infinity, no number beyond a double, no duplicate key, no lone surrogate, valid UTF-8.

    Raises JsonInvalid. Integers keep every digit.
    """
    try:
        source = text.decode("utf-8") if isinstance(text, bytes) else text
        if not source.isascii():
            source.encode("utf-8")
        value = _DECODER.decode(source)
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise JsonInvalid(f"not valid UTF-8: {error.reason}") from None
    except RecursionError:
        raise JsonInvalid("nested too deeply") from None
    except ValueError as error:
        raise JsonInvalid(str(error)) from None
    if "\\u" in source:
        for part in _texts(value):
            _refuse_surrogate(part)
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise JsonInvalid(f"number out of range: {digits[:40]}")
    return value


def _int(digits: str) -> int:
    if len(digits) > 300 and math.isinf(float(digits)):
        raise JsonInvalid(f"number out of range: {digits[:40]}")
    return int(digits)


def _constant(name: str) -> None:
    raise JsonInvalid(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # None is meant
        raise JsonInvalid(f"duplicate key {twice[:40]!r}")
    return members


_DECODER = json.JSONDecoder(
    parse_float=_float, parse_int=_int, parse_constant=_constant, object_pairs_hook=_object, strict=True
)


def _says_contents(schema: Any, draft: Draft) -> bool:
    asserted = (*_CONTENTS, "x-syntax") if draft >= Draft.D2019 else ("x-syntax",)
    parts = [part for part in _parts(schema) if isinstance(part, dict)]
    return any(any(name in part for name in asserted) or is_written(part, draft) for part in parts)


def _named_contents(schema: Any) -> str | None:
    """The `$id` within the schema under which strings hold documents: places in it are told from there."""
    inner = (part for part in _parts(schema) if isinstance(part, dict) and part is not schema)
    named = (part for part in inner if isinstance(part.get("$id"), str))
    holds = (part["$id"] for part in named if any(isinstance(p, dict) and is_json_document(p) for p in _parts(part)))
    return next(holds, None)


def _is_place(schema: Any, pointer: str) -> bool:
    for step in steps(pointer):
        try:
            schema = schema[int(step)] if isinstance(schema, list) else schema[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return False
    return True


def _subschema(schema: dict[str, Any], pointers: list[str]) -> dict[str, Any]:
    """A schema of its own that says what the subschemas at these pointers say together."""
    draft = {"$schema": schema["$schema"]} if "$schema" in schema else {}
    base = urldefrag(urljoin(_WHOLE, schema.get("$id", "")))[0] or _WHOLE
    parts = [{"$ref": base + "#" + quote(pointer)} for pointer in pointers]
    return {**draft, "allOf": parts, "$defs": {"whole": {**schema, "$id": base}}}


def _texts(value: Any) -> Iterator[str]:
    """Strings and keys."""
    for part in _parts(value):
        if isinstance(part, dict):
            yield from part
        elif isinstance(part, str):
            yield part


def _parts(value: Any) -> Iterator[Any]:
    """The value and all values in it."""
    stack = [value]
    while stack:
        part = stack.pop()
        yield part
        if isinstance(part, dict):
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def _refuse_surrogate(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise JsonInvalid("a string holds a lone surrogate") from None


_FORMATS = {"idn-hostname": is_idn_hostname}
"""The validator's own takes every letter for one of a host name."""


def _compiled(schema: Any, draft: Draft, keywords: dict[str, Any] | None = None) -> Any:
    try:
        return _VALIDATORS[draft](
            schema,
            validate_formats=True,
            offline=True,
            pattern_options=_PATTERNS,
            formats=_FORMATS,
            keywords=keywords,
        )
    except jsonschema_rs.ReferencingError as error:
        raise SchemaRefused(_first_line(error), param="schema") from None
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise _rejected(error) from None


def _older_drafts(schema: Any) -> str:
    """The drafts that allow a schema which names none, and how to name one; empty where there are none."""
    if not isinstance(schema, dict) or "$schema" in schema:
        return ""
    allowed: list[Draft] = []
    for draft in sorted(_VALIDATORS, reverse=True):
        with suppress(ConstraintError):
            _compiled(schema, draft)
            allowed.append(draft)
    if not allowed:
        return ""
    uri = DRAFT_URIS[allowed[0].label]
    names = ", ".join(str(draft.label) for draft in allowed)
    return f'; it is one in draft {names}: say so with "$schema": "{uri}" or draft={allowed[0].label!r}'


def _rejected(error: Exception) -> SchemaInvalid | SchemaRefused | LimitExceeded:
    message = _first_line(error)
    if "Recursion limit" in message:
        return LimitExceeded("the schema is nested too deeply to be judged", param="schema")
    pointer = json_pointer(getattr(error, "instance_path", []))
    if message.endswith('is not a "regex"'):  # `Written` has read it: it is one
        return LimitExceeded("a pattern is too large to be judged", param="schema", pointer=pointer)
    if "is not present in a registry" in message or "offline" in message or "retriev" in message.lower():
        return SchemaRefused(f"remote references are never fetched: {message}", param="schema", pointer=pointer)
    return SchemaInvalid(f"not a valid JSON Schema: {message}", param="schema", pointer=pointer)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
