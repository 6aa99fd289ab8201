"""Whether a finished text is what a `Syntax` says: by a parser other than the one that steered, where there is one.

As a check, `target` names it for the process that runs checks. Imports no tables before a language needs them.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Callable, Iterator
from dataclasses import astuple
from hashlib import blake2b
from typing import Any

from engine.syntax.asked.regex import wrong
from engine.syntax.asked.syntax import Syntax

_BLANK = re.compile(r"(?:[ \t\f]*(?:#[^\r\n]*)?(?:\r\n?|\n|\Z))*")
"""Lines without a token."""
_SPACES = " \t\f\r\n"
_SPACE = re.compile(r"(?:\A|(?<=[\r\n]))[ \t]*")
_TRY = re.compile(r"(?:\A|(?<=[\r\n]))([ \t]*)try\b")
_NO_TOKEN = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)


_MOST_KNOWN = 4_096
_LONGEST = 300
"""Characters of what is told."""
_known: dict[tuple[Syntax, bytes], str | None] = {}


def problem(syntax: Syntax, text: str) -> str | None:
    """What is wrong with it. Remembered: a document is judged again whenever a value in it has closed, and our parsers
    take ten milliseconds a kilobyte."""
    key = syntax, blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if key in _known:
        return _known[key]
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    found = _problem(syntax, text)
    _known[key] = found = found and found[:_LONGEST]
    return found


def _problem(syntax: Syntax, text: str) -> str | None:
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
    for whole in _completed(text) if syntax.partial else (text,):
        try:
            return None if _is_python(syntax.unit, whole) else f"no {_called(syntax)}"
        except (SyntaxError, ValueError) as found:
            error = error or found
    line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"no {_called(syntax)}: {getattr(error, 'msg', error)}{line}"


def _completed(text: str) -> Iterator[str]:
    """The text, and with a block for the header that it may end with."""
    yield text
    head = text.rstrip(_SPACES)
    deeper = max(_SPACE.findall(head), key=len) + " "
    for block in (" pass", f"\n{deeper}pass", f"\n{deeper}case _: pass"):
        yield head + block
    if tries := _TRY.findall(head):
        yield f"{head}\n{deeper}pass\n{tries[-1]}finally: pass"


def _is_python(unit: str, text: str) -> bool:
    """Raises SyntaxError or ValueError for what is none. All but a module may be indented, as its first line is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if unit in ("expression", "type"):
            text = text[_first_token(text) :].rstrip(" \t\f")
            ast.parse(text, mode="eval")
            return unit == "expression" or _is_type(text)
        found = _statements(_function(text) if unit == "signature" else text, loose=unit != "module")
    if unit == "signature":
        return len(found) == 1 and isinstance(found[0], ast.FunctionDef | ast.AsyncFunctionDef)
    return len(found) == 1 if unit == "statement" else bool(found) or unit != "body"


def _is_type(text: str) -> bool:
    """Whether a variable can be annotated with this expression."""
    found = ast.parse(f"a: {text}").body
    return len(found) == 1 and isinstance(found[0], ast.AnnAssign)


def _first_token(text: str) -> int:
    """Where the first token begins, if there is one."""
    at = _BLANK.match(text).end()  # type: ignore[union-attr]  # it may be empty
    return len(text) - len(text[at:].lstrip(_SPACES))


def _function(header: str) -> str:
    """The function that a header is of; `def` may be left out. ValueError where it cannot be read."""
    header = header[_first_token(header) :]
    try:
        read = [
            token for token in tokenize.generate_tokens(io.StringIO(header).readline) if token.type not in _NO_TOKEN
        ]
    except tokenize.TokenError as error:
        raise ValueError(error.args[0]) from None
    row, column = read[-1].start if read and read[-1].string == ":" else read[-1].end if read else (1, 0)
    lines = list(io.StringIO(header))
    header = "".join([*lines[: row - 1], lines[row - 1][:column] if lines else ""])
    return f"{header}: pass" if re.match(r"(async\s+)?def\b", header) else f"def {header}: pass"


def _statements(text: str, *, loose: bool) -> list[ast.stmt]:
    first = _first_token(text)
    if not loose or first == len(text) or text[first - 1 : first] not in (" ", "\t"):
        return ast.parse(text).body
    try:
        block = ast.parse(f"if 1:\n{text}").body
    except SyntaxError as error:
        error.lineno = error.lineno and error.lineno - 1
        raise
    if len(block) != 1 or not isinstance(block[0], ast.If) or block[0].orelse:
        raise SyntaxError("a line is further out than the first")
    return block[0].body
