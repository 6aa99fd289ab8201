"""The regular expressions of a JSON Schema, written for the validator's engine (`engine`).

Knows where schemas hold patterns: `pattern` and the keys of `patternProperties`, wherever a schema can stand, but not
in values (`const`, `enum`, `default`, `examples`). References through a renamed key are renamed with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from engine.patterns.engine import backtracks, for_engine
from engine.patterns.tree import NotARegex, Undecidable
from engine.pointer import escape, unescape

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_SCHEMAS = (
    "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "items", "prefixItems", "additionalItems", "contains",
    "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "contentSchema",
)  # fmt: skip
_VALUES = ("const", "enum", "default", "examples")
_REFERENCES = ("$ref", "$dynamicRef")
_NOTHING = "(?:)"


class PatternError(ValueError):
    """A pattern that the engine cannot be given. `pointer` is the place, `legal` whether ECMA-262 takes it."""

    def __init__(self, message: str, pointer: str, *, legal: bool) -> None:
        super().__init__(message)
        self.pointer = pointer
        self.legal = legal


class Written:
    """A schema for the engine. `schema` is the same object where nothing had to be changed."""

    def __init__(self, schema: Any) -> None:
        """Raises PatternError. Linear in the schema."""
        self._originals: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self.backtracking: set[str] = set()
        """Patterns for which the engine goes back over the text."""
        written = self._schema(schema, "")
        self.schema = self._renamed(written) if self._keys else written if self._originals else schema

    def original(self, message: str) -> str:
        """A message of the engine with the patterns as the caller wrote them."""
        for written, pattern in self._originals.items():
            message = message.replace(written, pattern)
        return message

    def original_steps(self, path: Sequence[str | int]) -> list[str | int]:
        """The steps of a path in the written schema, as they are in the caller's."""
        return [self._originals.get(step, step) if isinstance(step, str) else step for step in path]

    def _pattern(self, pattern: str, pointer: str) -> str:
        try:
            written = for_engine(pattern)
        except NotARegex as error:
            raise PatternError(f"{pattern[:80]!r} is not a regular expression: {error}", pointer, legal=False) from None
        except Undecidable as error:
            raise PatternError(f"{pattern[:80]!r} cannot be judged: {error}", pointer, legal=True) from None
        if written != pattern:
            self._originals[written] = pattern
        if backtracks(written):
            self.backtracking.add(written)
        return written

    def _schema(self, part: Any, at: str) -> Any:
        if isinstance(part, list):
            return [self._schema(item, f"{at}/{index}") for index, item in enumerate(part)]
        if not isinstance(part, Mapping):
            return part
        return {keyword: self._keyword(keyword, value, f"{at}/{escape(keyword)}") for keyword, value in part.items()}

    def _keyword(self, keyword: str, value: Any, at: str) -> Any:
        if keyword in _VALUES:
            return value
        if keyword == "pattern" and isinstance(value, str):
            return self._pattern(value, at)
        if keyword == "patternProperties" and isinstance(value, Mapping):
            return self._patterns(value, at)
        if keyword in _MAPS and isinstance(value, Mapping):
            return {name: self._schema(inner, f"{at}/{escape(name)}") for name, inner in value.items()}
        try:
            return self._schema(value, at)
        except PatternError:
            if keyword in _SCHEMAS:
                raise
            return value  # no schema at all, as far as anybody knows

    def _patterns(self, given: Mapping[str, Any], at: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pattern, inner in given.items():
            place = f"{at}/{escape(pattern)}"
            written = self._pattern(pattern, place)
            while written in found:
                written += _NOTHING
            if written != pattern:
                self._originals[written] = pattern
                self._keys[pattern] = written
            found[written] = self._schema(inner, place)
        return found

    def _renamed(self, part: Any) -> Any:
        """The schema with its references changed where they lead through a renamed key."""
        if isinstance(part, list):
            return [self._renamed(item) for item in part]
        if not isinstance(part, Mapping):
            return part
        return {
            keyword: self._reference(value)
            if keyword in _REFERENCES and isinstance(value, str)
            else self._renamed(value)
            for keyword, value in part.items()
        }

    def _reference(self, reference: str) -> str:
        base, sign, fragment = reference.partition("#")
        steps = unquote(fragment).split("/")
        for index, step in enumerate(steps[:-1]):
            key = unescape(steps[index + 1])
            if step == "patternProperties" and key in self._keys:
                steps[index + 1] = escape(self._keys[key])
        path = "/".join(steps)
        return reference if path == unquote(fragment) else f"{base}{sign}{quote(path, safe='/~')}"
