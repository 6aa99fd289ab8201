"""JSON pointers (RFC 6901): a path as text and back. The only home of their escapes."""

from __future__ import annotations

from collections.abc import Sequence


def json_pointer(parts: Sequence[str | int]) -> str:
    """The text of a path; empty for the whole document."""
    return "".join("/" + escape(str(part)) for part in parts)


def escape(part: str) -> str:
    """One step of a pointer."""
    return part.replace("~", "~0").replace("/", "~1")


def unescape(part: str) -> str:
    """A step as it is meant."""
    return part.replace("~1", "/").replace("~0", "~")


def steps(pointer: str) -> list[str]:
    """The steps of a pointer, unescaped; none for the whole document."""
    return [unescape(part) for part in pointer.split("/")[1:]]
