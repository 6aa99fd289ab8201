"""Lark grammars as documents: definitions, what is ignored, imports and options. Gives them no meaning yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from engine.judge.notations.ebnf_tokens import WrongGrammar
from engine.judge.notations.lark_tokens import Token, tokens
from engine.patterns.tree import Choice, Node, Repeat, Sequence, Undecidable

DEPTH = 200
_REPEATS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ENDS = ("newline", "|", ")", "]", "}", "end", "->", "&", "%if")
_IGNORED = ("capture", "stop_capture", "lazy")
_SIGNS = {"::": "parameters", "{": "templates", ".": "priorities"}


@dataclass(frozen=True, slots=True)
class Leaf(Node):
    """A string, regular expression, range, name, `%json`, `%regex` or `%lark`, as its token."""

    token: Token
    last: Token | None = None
    """The end of a range."""
    nested: Document | None = None

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True, slots=True)
class Definition:
    """A rule or a terminal. `marker` ends a rule with `suffix` or `stop`."""

    name: str
    body: Node
    is_terminal: bool
    lazy: bool = False
    marker: Leaf | None = None


@dataclass(slots=True)
class Document:
    """A grammar; `imports` are pairs of the path and the name it gets here."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    ignores: list[Node] = field(default_factory=list)
    imports: list[tuple[str, str]] = field(default_factory=list)
    initial_skip: bool = False


def parse_lark(source: str) -> Document:
    """The document. Raises WrongGrammar, or Undecidable for what is not judged. Linear."""
    return _Parser(tokens(source)).document("end")


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.at = 0
        self.depth = 0

    def peek(self) -> Token:
        return self.tokens[self.at]

    def skip(self, kind: str) -> bool:
        found = self.peek().kind == kind
        self.at += found
        return found

    def take(self, *kinds: str) -> Token:
        token = self.peek()
        if token.kind not in kinds:
            raise WrongGrammar(f"expected {' or '.join(kinds)} but found {token.text!r} in line {token.line}")
        self.at += 1
        return token

    def newlines(self) -> None:
        while self.skip("newline"):
            pass

    def document(self, end: str) -> Document:
        found = Document()
        self.newlines()
        while self.peek().kind != end:
            self.statement(found)
            if self.peek().kind != end:
                self.take("newline")
            self.newlines()
        return found

    def statement(self, found: Document) -> None:
        if self.skip("%ignore"):
            found.ignores.append(self.choice())
        elif self.skip("%import"):
            found.imports += self.imports()
        elif self.peek().kind == "%grammar_options":
            self.options(found, self.take("%grammar_options"))
        else:
            definition = self.definition()
            if definition.name in found.definitions:
                raise WrongGrammar(f"{definition.name!r} is defined twice")
            found.definitions[definition.name] = definition

    def imports(self) -> list[tuple[str, str]]:
        path = self.take("name").text
        while self.skip("."):
            path += "." + self.take("name").text
        if not self.skip("("):
            name = self.take("name").text if self.skip("->") else path.rpartition(".")[2]
            return [(path, name)]
        names = [self.take("name").text]
        while self.skip(","):
            names.append(self.take("name").text)
        self.take(")")
        return [(f"{path}.{name}", name) for name in names]

    def options(self, found: Document, token: Token) -> None:
        if not isinstance(token.value, dict):
            raise WrongGrammar(f"%grammar_options in line {token.line} needs an object")
        for name, value in token.value.items():
            if name != "allow_initial_skip" or not isinstance(value, bool):
                raise Undecidable(f"the option {name!r} of %grammar_options")
            found.initial_skip |= value

    def definition(self) -> Definition:
        token = self.take("name")
        given = self.attributes(token) if self.peek().kind == "[" else {}
        sign = self.peek()
        if sign.kind in _SIGNS:
            raise Undecidable(f"{_SIGNS[sign.kind]} in line {sign.line}")
        self.take(":")
        return Definition(token.name, self.choice(), token.is_terminal, "lazy" in given, given.get("marker"))

    def attributes(self, rule: Token) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.take("[")
        while self.peek().kind != "]":
            name = self.take("name")
            value = self.take("string", "regex", "name", "number") if self.skip("=") else None
            if name.text in ("suffix", "stop") and value is not None and "marker" not in found:
                found["marker"] = Leaf(value)
            elif name.text in _IGNORED:
                found[name.text] = True
            else:
                raise Undecidable(f"the attribute {name.text!r} of the rule {rule.name!r}")
            if not self.skip(","):
                break
        self.take("]")
        return found

    def choice(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise Undecidable(f"groups nested deeper than {DEPTH}")
        ways = [self.sequence()]
        while self.another():
            ways.append(self.sequence())
        self.depth -= 1
        return ways[0] if len(ways) == 1 else Choice(tuple(ways))

    def another(self) -> bool:
        """Whether an alternative follows, perhaps on the next line."""
        start = self.at
        self.newlines()
        if self.skip("|"):
            return True
        if self.peek().kind not in (")", "]", "}"):
            self.at = start
        return False

    def sequence(self) -> Node:
        parts = []
        while self.peek().kind not in _ENDS:
            parts.append(self.repeated())
        if self.skip("->"):
            self.take("name")
        if self.peek().kind in ("&", "%if"):
            raise Undecidable(f"{self.peek().text!r} in line {self.peek().line}")
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self) -> Node:
        if self.peek().kind == "~":
            raise Undecidable(f"a complement ~ in line {self.peek().line}")
        part = self.atom()
        for sign, (few, many) in _REPEATS.items():
            if self.skip(sign):
                return Repeat(part, few, many)
        if self.skip("~"):
            least = self.integer()
            most: int | None = self.integer() if self.skip("..") else least
        elif self.skip("{"):
            least = 0 if self.peek().kind == "," else self.integer()
            most = least
            if self.skip(","):
                most = None if self.peek().kind == "}" else self.integer()
            self.take("}")
        else:
            return part
        if most is not None and most < least:
            raise WrongGrammar(f"a repeat of {least} to {most}")
        return Repeat(part, least, most)

    def integer(self) -> int:
        token = self.take("number")
        if not token.text.isdigit():
            raise WrongGrammar(f"{token.text!r} in line {token.line} is no count")
        return int(token.text[:20])

    def atom(self) -> Node:
        token = self.take("(", "[", "string", "regex", "name", "%json", "%regex", "%lark", "special", "reference")
        if token.kind in ("special", "reference"):
            what = "a token of the vocabulary" if token.kind == "special" else "another grammar"
            raise Undecidable(f"{token.text} in line {token.line}: {what} does not show in a text")
        if token.kind in "([":
            body = self.choice()
            self.take(")" if token.kind == "(" else "]")
            return body if token.kind == "(" else Repeat(body, 0, 1)
        if token.kind == "%lark":
            self.take("{")
            nested = self.document("}")
            self.take("}")
            return Leaf(token, nested=nested)
        if token.kind == "string" and self.skip(".."):
            return Leaf(token, last=self.take("string"))
        follows = [found.kind for found in self.tokens[self.at : self.at + 2]]
        if token.kind == "name" and (follows[0] == "::" or (follows[0] == "{" and follows[1] not in ("number", ","))):
            raise Undecidable(f"{_SIGNS[follows[0]]} in line {token.line}")
        return Leaf(token)


def text_of(token: Token) -> tuple[str, bool]:
    """What a string stands for, and whether its case counts not."""
    fold = token.text.endswith("i")
    try:
        value = json.loads(token.text[:-1] if fold else token.text)
        value.encode()
    except ValueError:
        raise WrongGrammar(f"{token.text} in line {token.line} is no string") from None
    if fold and not value.isascii():
        raise Undecidable(f"{token.text} in line {token.line}: the case of letters outside ASCII")
    return value, fold
