"""Keys that an object already has, noticed as soon as they are written. Knows JSON text; not grammars or tokens.

No grammar can say 'each key once' of keys it does not know, so the text itself is followed, byte by byte. A state is
never changed: one per token is kept, and taking tokens back is dropping states.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_QUOTE, _COMMA = 0x22, 0x2C
_IN_STRING = re.compile(rb'["\\]')
_OUTSIDE = re.compile(rb'["{}\[\],]')


class Container(NamedTuple):
    """An open object (its keys so far) or array (None), and what it stands in."""

    keys: frozenset[str] | None
    outside: Container | None


class KeyState(NamedTuple):
    """Where the text stands. `repeated` is the offset of the opening quote of a key that its object already had."""

    container: Container | None = None
    expects_key: bool = False
    in_string: bool = False
    is_key: bool = False
    escaped: bool = False
    key: bytes = b""
    start: int = 0
    offset: int = 0
    repeated: int | None = None

    @property
    def unsettled(self) -> bool:
        """A key is being written, or its object has had it: it may be taken back."""
        return (self.in_string and self.is_key) or self.repeated is not None

    def read(self, text: bytes) -> KeyState:
        """The state after more bytes; `repeated` speaks of these alone. 2 microseconds for a token within a string."""
        container, expects_key, in_string, is_key, escaped, key, start, offset, _ = self
        repeated, at = None, 0
        while at < len(text):
            if in_string:
                end, escaped = _string_end(text, at, escaped)
                if is_key:
                    key += text[at:end]
                if end == len(text):
                    break
                in_string = False
                if is_key and container is not None:
                    container, twice = _with_key(container, key)
                    expects_key, repeated = False, start if twice and repeated is None else repeated
                at = end + 1
                continue
            mark = _OUTSIDE.search(text, at)
            if mark is None:
                break
            at = mark.end()
            if text[at - 1] == _QUOTE:
                in_string, is_key, key, start = True, expects_key, b"", offset + at - 1
            else:
                container, expects_key = _punctuated(container, text[at - 1])
        offset += len(text)
        return KeyState(container, expects_key, in_string, is_key, escaped, key, start, offset, repeated)


def _string_end(text: bytes, at: int, escaped: bool) -> tuple[int, bool]:
    """Index of the closing quote, or the length where the string goes on, and whether behind an open backslash."""
    at += escaped
    while (mark := _IN_STRING.search(text, at)) is not None:
        if text[mark.start()] == _QUOTE:
            return mark.start(), False
        at = mark.start() + 2
    return len(text), at > len(text)


def _punctuated(container: Container | None, byte: int) -> tuple[Container | None, bool]:
    """The container and whether a key comes next, after a bracket or a comma."""
    if byte == _COMMA:
        return container, container is not None and container.keys is not None
    if byte == 0x7B:
        return Container(frozenset(), container), True
    if byte == 0x5B:
        return Container(None, container), False
    return (None if container is None else container.outside), False


def _with_key(container: Container, key: bytes) -> tuple[Container, bool]:
    """With one more key, and whether it was there already."""
    if container.keys is None:
        return container, False
    name = spelled(key)
    return Container(container.keys | {name}, container.outside), name in container.keys


def spelled(key: bytes) -> str:
    """The key that this text between quotes spells, whatever its escapes; broken ones stay as they are."""
    text = key.decode("utf-8", "replace")
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text
