"""XGrammar's errors in words a caller can use. Knows the shape of its messages; raises nothing itself."""

from __future__ import annotations

import re

from engine.errors import SchemaInvalid

_SOURCE = re.compile(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: ")
_CHECK = re.compile(r"^Check failed: \(.*?\) is (?:false|true): ")


def clean(error: BaseException) -> str:
    """One line without time stamp, C++ file and the text of the failed check."""
    text = _CHECK.sub("", _SOURCE.sub("", str(error).strip()))
    return " ".join(text.split())[:500] or type(error).__name__


def invalid(kind: str, error: BaseException) -> SchemaInvalid:
    """The typed error for a constraint that the compiler refused."""
    return SchemaInvalid(f"{kind} cannot be compiled: {clean(error)}", param=kind)
