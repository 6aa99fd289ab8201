"""Keywords that say what strings hold, as the validator asserts them. Knows RFC 4648 and names of languages; not
grammars, which it judges."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from engine.errors import RequestError
from engine.schema.reading.dialect import Draft
from engine.schema.reading.reference import Location
from engine.syntax import Syntax
from engine.syntax.asked.reference import problem

SYNTAX = ("x-syntax", "contentMediaType")
"""Keywords that may say in which language a string is written."""
LANGUAGE_OF = {
    "text/x-python": "python",
    "text/x-typescript": "typescript",
    "text/x-go": "go",
    "text/x-rust": "rust",
    "text/x-java": "java",
    "application/sql": "sql",
    "application/x-regex": "regex",
}
"""By media type."""


def syntax_of(schema: dict[str, Any]) -> Syntax | None:
    """In which language this says that strings are written. RequestError for an `x-syntax` that is not followed;
    media types that are not say nothing."""
    if "x-syntax" in schema:
        given = schema["x-syntax"]
        if not isinstance(given, dict):
            raise RequestError(f"x-syntax must be an object, got {type(given).__name__}", param="x-syntax")
        return Syntax.of(given)
    named = schema.get("contentMediaType")
    language = LANGUAGE_OF.get(named) if isinstance(named, str) and "contentEncoding" not in schema else None
    return None if language is None else Syntax(language)


def syntax_at(at: Location) -> Syntax | None:
    """The same of a place in a schema, where a `$ref` may hide what stands beside it."""
    hidden = not isinstance(at.schema, dict) or ("$ref" in at.schema and at.draft.ref_hides_siblings)
    return None if hidden else syntax_of(at.schema)


def is_written(schema: dict[str, Any], judged: Draft) -> bool:
    """Whether the judge, whose schema is of this draft, asks of strings here that they are texts of a language."""
    return ("x-syntax" in schema or judged >= Draft.D6) and syntax_of(schema) is not None


class WrittenIn:
    """`x-syntax`, or a `contentMediaType` of a language: the string is such a text."""

    def __init__(self, parent: dict[str, Any], value: Any, path: list[str | int]) -> None:  # noqa: ARG002 - its kind
        self._syntax = syntax_of(parent)

    def validate(self, instance: Any) -> None:
        """ValueError where it is not."""
        found = problem(self._syntax, instance) if self._syntax and isinstance(instance, str) else None
        if found is not None:
            raise ValueError(found)


class ContentEncoding:
    """`contentEncoding`: the string is what an encoder writes. Encodings that nobody knows assert nothing."""

    def __init__(self, parent: dict[str, Any], value: Any, path: list[str | int]) -> None:  # noqa: ARG002 - its kind
        self._encoding = value

    def validate(self, instance: Any) -> None:
        """ValueError where it is not."""
        if isinstance(instance, str) and isinstance(self._encoding, str):
            decoded(instance, self._encoding)


def decoded(text: str, encoding: str) -> bytes | None:
    """The bytes that a text stands for; None: nobody knows the encoding. ValueError where it stands for none.

    Both are padded, and bits that mean nothing are 0.
    """
    if encoding not in ("base64", "base64url"):
        return None
    altchars = b"+/" if encoding == "base64" else b"-_"
    try:
        found = base64.b64decode(text.encode("ascii"), altchars, validate=True)
    except (binascii.Error, UnicodeEncodeError):
        found = None
    if found is None or base64.b64encode(found, altchars).decode() != text:
        raise ValueError(f"{text[:40]!r} is not {encoding}")
    return found


def is_json_document(schema: dict[str, Any]) -> bool:
    """Whether strings that this describes hold JSON documents."""
    return "contentSchema" in schema and schema.get("contentMediaType") == "application/json"


class ContentSchema:
    """`contentSchema`: the string is a JSON document, perhaps encoded, with which `judge` finds nothing wrong."""

    def __init__(self, parent: dict[str, Any], judge: Callable[[str | bytes], str | None]) -> None:
        self._is_json = is_json_document(parent)
        self._encoding = parent.get("contentEncoding")
        self._judge = judge

    def validate(self, instance: Any) -> None:
        """ValueError where it is not."""
        if not (self._is_json and isinstance(instance, str)):
            return
        text: str | bytes | None = instance
        if isinstance(self._encoding, str):
            text = decoded(instance, self._encoding)  # None: nobody knows what it stands for
        failed = None if text is None else self._judge(text)
        if failed is not None:
            raise ValueError(f"in the string: {failed}")
