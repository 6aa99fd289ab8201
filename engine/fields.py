"""Checks of fields, from their annotations: each refuses a value by name, with what would do. Types only, no engine.

A frozen dataclass calls `check_fields(self)` when it is made. `Annotated[int, Range(1)]` says what values a number may
have; a path may be given as text, a tuple as a list.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from engine.errors import RequestError

_REFUSED = object()


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high` (None: without an end). `open_low` leaves `low` itself out."""

    low: float
    high: float | None = None
    open_low: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low or (value == self.low and not self.open_low)
        return above and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"{'more than' if self.open_low else 'at least'} {self.low}"
        return f"in {'(' if self.open_low else '['}{self.low}, {self.high}]"


def check_fields(instance: Any, called: Callable[[str], str] = str) -> None:
    """Every field of a dataclass has the type and range of its annotation; what may be given otherwise is converted.

    Raises RequestError that names the field (as `called` says people call it), what it must be, and what was given.
    """
    for name, annotation in _annotations(instance.__class__).items():
        given = getattr(instance, name)
        value = _accepted(given, annotation, name, called(name))
        if value is _REFUSED:
            raise RequestError(f"{called(name)} must be {_wanted(annotation)}, got {_shown(given)}", param=name)
        if value is not given:
            object.__setattr__(instance, name, value)


def read_fields(kind: type, environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a dataclass out of an environment, as their annotations say; `variables` names each field's variable.

    What is absent or empty is left out. RequestError names the variable of a number that is none.
    """
    found: dict[str, Any] = {}
    for name, variable in variables.items():
        text = environ.get(variable, "").strip()
        annotation = _annotations(kind)[name]
        kinds = {get_args(part)[0] if get_origin(part) is Annotated else part for part in _options(annotation)}
        if text and int in kinds and not text.removeprefix("-").isdecimal():
            raise RequestError(f"{variable} must be a whole number, got {_shown(text)}", param=name)
        if text:
            found[name] = int(text) if int in kinds else Path(text) if Path in kinds else text
    return found


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def one_of(param: str, value: Any, allowed: Sequence[str]) -> None:
    """One of a few words."""
    if not isinstance(value, str) or value not in allowed:
        raise RequestError(f"{param} must be one of {', '.join(allowed)}, got {_shown(value)}", param=param)


@cache
def _annotations(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _accepted(value: Any, annotation: Any, name: str, called: str) -> Any:
    """The value, converted if need be, or `_REFUSED`. A number out of its range raises: its message names the range."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        accepted = _accepted(value, arguments[0], name, called)
        if accepted is not _REFUSED and not arguments[1].holds(accepted):
            raise RequestError(f"{called} must be {arguments[1]}, got {_shown(value)}", param=name)
        return accepted
    if origin in (Union, types.UnionType):
        found = (_accepted(value, option, name, called) for option in arguments)
        return next((accepted for accepted in found if accepted is not _REFUSED), _REFUSED)
    if origin is Literal:
        return value if isinstance(value, str) and value in arguments else _REFUSED
    if origin is Sequence:
        if not isinstance(value, list | tuple):
            return _REFUSED
        items = tuple(_accepted(item, arguments[0], name, called) for item in value)
        return _REFUSED if any(item is _REFUSED for item in items) else items
    return _plain(value, annotation if origin is None else origin)


def _plain(value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and _finite(value) else _REFUSED
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _REFUSED
    if kind is Callable:
        return value if callable(value) else _REFUSED
    return value if isinstance(value, kind) else _REFUSED


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _wanted(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _wanted(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_wanted(option) for option in arguments if option is not types.NoneType)
    if origin is Literal:
        return "one of " + ", ".join(arguments)
    if origin is Sequence:
        return f"a list of {_PLURAL[get_origin(arguments[0]) or arguments[0]]}"
    kind = annotation if origin is None else origin
    return _WORDS.get(kind) or f"a {kind.__name__}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
    str: "a string",
    Path: "a path",
    Mapping: "an object",
    Callable: "a function",
}
_PLURAL = {str: "strings", Mapping: "objects"}
