"""Whether a finished text is what a `Syntax` says: by a parser other than the one that steered, where there is one.

As a check, `target` names it for the process that runs checks. Imports no tables before a language needs them.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

from engine.syntax.asked.regex import wrong
from engine.syntax.asked.syntax import Syntax

_HEADERS = ("", " pass", " pass\nfinally: pass")
"""What completes the header of a block, the last for a `try`."""


def problem(syntax: Syntax, text: str) -> str | None:
    """What is wrong with it."""
    try:
        if syntax.language == "python":
            return _not_python(syntax, text)
        whole = syntax.start().feed(text).whole
        found = "" if not whole else wrong(text, syntax.dialect) if syntax.language == "regex" else None
        return None if found is None else f"no {_called(syntax)}" + (f": {found}" if found else "")
    except (RecursionError, MemoryError):
        return f"no {_called(syntax)}: nested too deeply"


def target(syntax: Syntax) -> str:
    """`module:function` of a check that asks for this syntax."""
    return f"{__name__}:{'/'.join(str(part or '') for part in astuple(syntax))}"


def __getattr__(name: str) -> Callable[[Any, Any], str | None]:
    """The check that `target` names."""
    if name.count("/") != 3:
        raise AttributeError(name)
    language, unit, partial, dialect = name.split("/")
    syntax = Syntax(language, unit, partial=bool(partial), dialect=dialect or None)
    return lambda value, _: problem(syntax, value) if isinstance(value, str) else None


def _called(syntax: Syntax) -> str:
    return f"{syntax.language} {syntax.unit}"


def _not_python(syntax: Syntax, text: str) -> str | None:
    error: Exception | None = None
    for end in _HEADERS if syntax.partial else _HEADERS[:1]:
        try:
            return None if _is_python(syntax.unit, text.rstrip() + end if end else text) else f"no {_called(syntax)}"
        except (SyntaxError, ValueError) as found:
            error = error or found
    line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"no {_called(syntax)}: {getattr(error, 'msg', error)}{line}"


def _is_python(unit: str, text: str) -> bool:
    """Raises SyntaxError or ValueError for what is none. All but a module may be indented, as its first line is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if unit in ("expression", "type"):
            ast.parse(text.lstrip(), mode="eval")
            return True
        found = _statements(_function(text) if unit == "signature" else text, loose=unit != "module")
    if unit == "signature":
        return len(found) == 1 and isinstance(found[0], ast.FunctionDef | ast.AsyncFunctionDef)
    return len(found) == 1 if unit == "statement" else bool(found) or unit != "body"


def _function(header: str) -> str:
    """The function that a header is of; `def` may be left out."""
    header = header.strip().removesuffix(":").rstrip()
    return f"{header}: pass" if re.match(r"(async\s+)?def\b", header) else f"def {header}: pass"


def _statements(text: str, *, loose: bool) -> list[ast.stmt]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not (loose and first[:1].isspace()):
        return ast.parse(text).body
    block = ast.parse(f"if 1:\n{text}").body
    return block[0].body if len(block) == 1 and isinstance(block[0], ast.If) and not block[0].orelse else []
