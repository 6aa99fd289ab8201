"""The tokens of Lark grammars, as XGrammar and llguidance write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.judge.notations.ebnf_tokens import WrongGrammar

_TOKEN = re.compile(
    r"""(?P<space>[ \t\f]+ | (?:\#|//)[^\r\n]*)
    | (?P<newline>\r\n?|\n)
    | (?P<string>"(?:\\[^\r\n]|[^"\\\r\n])*"i?)
    | (?P<regex>/(?:\\.|[^/\\])+/[A-Za-z]*)
    | (?P<special><[^\s<>]*>)
    | (?P<reference>@[A-Za-z0-9_-]+)
    | (?P<directive>%[A-Za-z_]+)
    | (?P<name>[!?]?[A-Za-z_](?:[A-Za-z0-9_]|-(?!>))*)
    | (?P<number>[+-]?[0-9]+(?:\.(?!\.)[0-9]*)?(?:[eE][+-]?[0-9]+)?)
    | (?P<sign>::|->|\.\.|[:,.=()\[\]{}|&~?*+])""",
    re.VERBOSE | re.DOTALL,
)
_WITH_JSON = ("%json", "%regex", "%grammar_options")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is newline, string, regex, special, reference, name, number, end, the directive or the sign itself."""

    kind: str
    text: str
    line: int
    value: Any = None
    """What a directive with JSON behind it was given."""

    @property
    def is_terminal(self) -> bool:
        """Whether a name is one of a terminal: upper case behind `!`, `?` and one underscore."""
        return self.name.removeprefix("_")[:1].isupper()

    @property
    def name(self) -> str:
        """A name without the marks that shape trees."""
        return self.text.lstrip("!?")


def tokens(source: str) -> list[Token]:
    """All tokens, an `end` last. Raises WrongGrammar. Linear."""
    return [*_tokens(source), Token("end", "the end of the grammar", source.count("\n") + 1)]


def _tokens(source: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise WrongGrammar(f"unexpected {source[at : at + 20]!r} in line {line}")
        group, text, start, value = str(found.lastgroup), found[0], at, None
        at = found.end()
        if text in _WITH_JSON:
            value, at = _json(source, at, text, line)
        if group != "space":
            yield Token(text if group in ("sign", "directive") else group, text, line, value)
        line += source.count("\n", start, at)


def _json(source: str, at: int, directive: str, line: int) -> tuple[Any, int]:
    at += len(source[at:]) - len(source[at:].lstrip())
    try:
        return _DECODER.raw_decode(source, at)
    except (ValueError, RecursionError) as error:
        raise WrongGrammar(f"no JSON follows {directive} in line {line}: {error}") from None
