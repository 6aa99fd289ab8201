"""The `format` vocabulary as automata: what a string must look like to be a date-time, an email, a URI ...

Knows which standard stands behind each name and whether the automaton is all of it: `EXACT[name]` is False for a legal
subset, where the whole is not regular or would take too many states. Unknown names are annotations: None.
Automata are built on first use and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from engine.schema.automata.automaton import Automaton
from engine.schema.formats import host, uri
from engine.schema.formats import time as clock
from engine.schema.formats.regex import regex
from engine.schema.regex.pattern import full_match

_POINTER = "(?:/(?:[^~/]|~[01])*)*"


def _uuid() -> Automaton:
    """RFC 4122 section 3: any version and variant."""
    return full_match("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _json_pointer() -> Automaton:
    """RFC 6901 section 3."""
    return full_match(_POINTER)


def _relative_json_pointer() -> Automaton:
    """draft-bhutton-relative-json-pointer-00, without index manipulation, as validators have it."""
    return full_match(f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})")


_EXACT: dict[str, Callable[[], Automaton]] = {
    "date": clock.date,
    "duration": clock.duration,
    "iri": uri.iri,
    "iri-reference": uri.iri_reference,
    "ipv4": host.ipv4,
    "ipv6": host.ipv6,
    "json-pointer": _json_pointer,
    "relative-json-pointer": _relative_json_pointer,
    "uri": uri.uri,
    "uri-reference": uri.uri_reference,
    "uri-template": uri.uri_template,
    "uuid": _uuid,
}

_SUBSET: dict[str, Callable[[], Automaton]] = {
    "date-time": clock.date_time,
    "email": host.email,
    "hostname": host.hostname,
    "idn-email": host.idn_email,
    "idn-hostname": host.idn_hostname,
    "regex": regex,
    "time": clock.time,
}

EXACT: dict[str, bool] = {name: name in _EXACT for name in sorted(_EXACT | _SUBSET)}


@lru_cache(maxsize=32)
def from_format(name: str) -> Automaton | None:
    """The strings of format `name`, or a legal subset (see EXACT); None for an unknown name."""
    make = _EXACT.get(name) or _SUBSET.get(name)
    return make() if make else None
