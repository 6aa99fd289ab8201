"""Values of plain JSON types, as callers hand them in: checked whole, and their text counted. Types only, no engine.

Nothing here is recursive: what is nested too deeply must still be refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import RequestError
from engine.pointer import json_pointer

DEEPEST = 256
"""Containers inside one another; schemas end earlier (`limits.schema_depth`)."""


def check_text(param: str, value: Any, *, longest: int | None = None) -> None:
    """A string that UTF-8 can hold."""
    if not isinstance(value, str):
        raise RequestError(f"{param} must be a string, got {type(value).__name__}", param=param)
    if longest is not None and len(value) > longest:
        raise RequestError(f"{param} has {len(value)} characters, over the limit of {longest}", param=param)
    if (at := _lone_surrogate(value)) is not None:
        raise RequestError(f"{param} holds a lone surrogate at character {at}", param=param)


class TooManyValues(RequestError):
    """More values than anybody needs."""


def check_json(param: str | None, value: Any, *, most: int | None = None) -> None:
    """What JSON can hold: no lone surrogate in a key or string, no NaN, not too deep. The error says where.

    Where `param` is None the value is a whole request, and the field at fault is the pointer's first part.
    TooManyValues beyond `most`.
    """
    for number, (part, place) in enumerate(_parts(value)):
        if number == most:
            raise TooManyValues(f"{param or 'the request'} has over {most} values", param=param)
        problem = _problem(part, place)
        if problem is not None:
            keys = _keys(place)
            name = (keys.pop(0) if keys else None) if param is None else param
            pointer = json_pointer(keys)
            place_shown = _shown((name or "the request") + pointer)
            raise RequestError(f"{place_shown} {problem}", param=_shown(name), pointer=_shown(pointer))


def texts(value: Any) -> Iterator[str]:
    """All strings in a value of plain JSON types, keys included."""
    for part, _ in _parts(value):
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            yield from map(str, part)


def text_bytes(value: Any) -> int:
    """UTF-8 bytes of all strings in a value of plain JSON types, keys included."""
    return sum(len(each.encode("utf-8", "surrogatepass")) for each in texts(value))


_Place = tuple[Any, Any, int] | None
"""The place around it, the key or index in there, and how deep it is; None is the root."""


def _parts(value: Any) -> Iterator[tuple[Any, _Place]]:
    """Every value inside a value, itself first. Not recursive: what is too deep must still be refused."""
    open_parts: list[tuple[Any, _Place]] = [(value, None)]
    while open_parts:
        part, place = open_parts.pop()
        yield part, place
        depth = place[2] + 1 if place else 1
        if isinstance(part, Mapping):
            open_parts.extend((inner, (place, key, depth)) for key, inner in part.items())
        elif isinstance(part, list | tuple):
            open_parts.extend((inner, (place, index, depth)) for index, inner in enumerate(part))


def _problem(part: Any, place: _Place) -> str | None:
    if isinstance(part, str):
        return None if _lone_surrogate(part) is None else "holds a lone surrogate"
    if isinstance(part, Mapping | list | tuple):
        if place is not None and place[2] >= DEEPEST:
            return f"is nested over {DEEPEST} deep"
        for key in part if isinstance(part, Mapping) else ():
            if not isinstance(key, str):
                return f"has a key that is no string: {key!r}"
            if _lone_surrogate(key) is not None:
                return "has a key that holds a lone surrogate"
        return None
    if part is None or isinstance(part, int) or (isinstance(part, float) and math.isfinite(part)):
        return None
    return f"is {part!r}, which JSON does not have" if isinstance(part, float) else f"is a {type(part).__name__}"


def _keys(place: _Place) -> list[str]:
    keys: list[str] = []
    while place is not None:
        keys.append(str(place[1]))
        place = place[0]
    return keys[::-1]


def _lone_surrogate(text: str) -> int | None:
    """Where UTF-8 cannot hold the text; a fast path for nearly all texts."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def _shown(text: str | None) -> str | None:
    """For a message or an answer: what UTF-8 cannot hold becomes a question mark."""
    return None if text is None else text[:200].encode("utf-8", "replace").decode()
