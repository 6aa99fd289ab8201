"""The judge of Lark constraints: what a document of `lark_syntax` derives.

Behind every lexeme of a rule stands what is ignored; terminals take no such gaps. Lazy rules, and rules with a suffix
or a stop, end where they first can. A start rule of tools and a tail of any text is free text in which triggers must be
followed by their tools, as the dialect documents it.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.judge.notations.ebnf import dispatch
from engine.judge.notations.ebnf_tokens import WrongGrammar
from engine.judge.notations.lark_syntax import Definition, Document, Leaf, parse_lark, text_of
from engine.judge.notations.lark_terminals import ANY_TEXT, COMMON, chunks_of, parts_of, regex_of, string_of
from engine.judge.recogniser.productions import Call, Productions, Regular, regular_size
from engine.judge.recogniser.terminals import FreeText, JsonValue, UpTo
from engine.patterns.dialect import read_regex
from engine.patterns.tree import Choice, Class, Node, Repeat, Sequence, Undecidable
from engine.schema.reading.validator import Checked

JsonCheck = Callable[..., Callable[[str], Checked]]
"""Of a JSON Schema, what its judge says of a text."""

_INLINED = 50
"""Positions up to which a terminal is written where it is named."""


def lark_grammar(source: str, check: JsonCheck) -> Productions:
    """The grammar, ready to recognise texts. Raises WrongGrammar or Undecidable."""
    rules: dict[str, Node] = {}
    return Productions(rules, _Meaning(parse_lark(source), rules, "", check).start())


class _Meaning:
    """One document; its rules go into `rules`, each name behind `prefix`."""

    def __init__(self, document: Document, rules: dict[str, Node], prefix: str, check: JsonCheck) -> None:
        self.definitions = document.definitions
        self.document = document
        self.rules = rules
        self.prefix = prefix
        self.check = check
        self.terminals: dict[str, Node | None] = {}
        self.gap: Node = Call(f"{prefix}%ignore") if document.ignores else Sequence(())

    def start(self) -> str:
        start = self.definitions.get("start")
        if start is None or start.is_terminal:
            raise WrongGrammar("there is no rule 'start'")
        for path, name in self.document.imports:
            library, _, terminal = path.partition(".")
            if library != "common" or terminal not in COMMON:
                raise WrongGrammar(f"there is no {path!r} to import")
            if name in self.definitions or name in self.terminals:
                raise WrongGrammar(f"{name!r} is defined twice")
            self.terminals[name] = self.small(name, read_regex(COMMON[terminal]))
        ignored = tuple(self.terminal(part) for part in self.document.ignores)
        self.rules[f"{self.prefix}%ignore"] = Repeat(Choice(ignored), 0, None)
        bodies = {name: self.rule(part) for name, part in self.definitions.items() if not part.is_terminal}
        tools = self.tools(start)
        bodies["start"] = tools or bodies["start"]
        for name, body in bodies.items():
            self.rules[self.prefix + name] = body
        first = self.gap if self.document.initial_skip else Sequence(())
        self.rules[f"{self.prefix}%start"] = Sequence((first, Call(f"{self.prefix}start")))
        return f"{self.prefix}%start"

    def rule(self, part: Definition) -> Node:
        if not part.lazy and part.marker is None:
            return self.node(part.body)
        trigger = self.trigger(part)
        if trigger is not None:
            return Sequence((Choice((FreeText([trigger]), UpTo(trigger, frozenset()))), self.gap))
        marker = () if part.marker is None else (self.regular(part.marker, part.name),)
        return Regular(Sequence((self.regular(part.body, part.name), *marker)), lazy=True)

    def node(self, node: Node) -> Node:
        """What a part of a rule derives."""
        if isinstance(node, Sequence | Choice):
            return type(node)(tuple(self.node(part) for part in node.parts))
        if isinstance(node, Repeat):
            return Repeat(self.node(node.part), node.least, node.most)
        if not isinstance(node, Leaf):
            raise TypeError(f"unknown node {node!r}")
        token = node.token
        if token.kind == "name" and not token.is_terminal:
            named = self.definition(token.name)
            call = Call(self.prefix + token.name)
            return Sequence((call, self.gap)) if named.lazy or named.marker is not None else call
        if token.kind == "%json":
            if not isinstance(token.value, dict | bool):
                raise WrongGrammar(f"%json in line {token.line} needs an object or a boolean")
            return Sequence((JsonValue(self.check(token.value)), self.gap))
        if token.kind == "%lark" and node.nested is not None:
            prefix = f"{self.prefix}{len(self.rules)}/"
            self.rules[prefix] = Sequence(())
            return Sequence((Call(_Meaning(node.nested, self.rules, prefix, self.check).start()), self.gap))
        if token.kind == "string" and token.text in ('""', '""i'):
            return Sequence(())
        return Sequence((self.terminal(node), self.gap))

    def definition(self, name: str) -> Definition:
        if name not in self.definitions:
            raise WrongGrammar(f"{name!r} is not defined")
        return self.definitions[name]

    def terminal(self, node: Node) -> Node:
        """What a part of a terminal derives."""
        if isinstance(node, Sequence | Choice):
            return type(node)(tuple(self.terminal(part) for part in node.parts))
        if isinstance(node, Repeat):
            return Repeat(self.terminal(node.part), node.least, node.most)
        if not isinstance(node, Leaf):
            raise TypeError(f"unknown node {node!r}")
        token = node.token
        if token.kind == "string":
            return string_of(node)
        if token.kind == "regex":
            return regex_of(node)
        if token.kind == "%regex":
            return chunks_of(token.value, token.line)
        if token.kind == "name" and token.is_terminal:
            return self.named(token.name)
        raise WrongGrammar(f"{token.text!r} in line {token.line} cannot stand in a terminal")

    def named(self, name: str) -> Node:
        if name not in self.terminals:
            self.terminals[name] = None
            self.terminals[name] = self.small(name, self.terminal(self.definition(name).body))
        found = self.terminals[name]
        if found is None:
            raise WrongGrammar(f"the terminal {name!r} refers to itself")
        return found

    def small(self, name: str, node: Node) -> Node:
        """The node itself, or a call of it where it is large."""
        if regular_size(node) <= _INLINED:
            return node
        self.rules[self.prefix + name] = node
        return Call(self.prefix + name)

    def regular(self, node: Node, rule: str) -> Node:
        """The body of a lazy rule as one regular expression."""
        return self.plain(self.terminal(node), rule)

    def plain(self, node: Node, rule: str) -> Node:
        if isinstance(node, Call) and node.name in self.rules:
            return self.plain(self.rules[node.name], rule)
        if isinstance(node, Sequence | Choice):
            return type(node)(tuple(self.plain(part, rule) for part in node.parts))
        if isinstance(node, Repeat):
            return Repeat(self.plain(node.part, rule), node.least, node.most)
        if not isinstance(node, Class):
            raise Undecidable(f"the lazy rule {rule!r} over more than a regular expression")
        return node

    def trigger(self, part: Definition) -> str | None:
        """The string that ends a rule of any text, where it is of that form."""
        body, marker = part.body, part.marker
        if marker is None and part.lazy and isinstance(body, Sequence) and len(body.parts) == 2:
            body, last = body.parts
            marker = last if isinstance(last, Leaf) else None
        if marker is None or marker.token.kind != "string" or marker.last is not None or not self.any_text(body):
            return None
        value, fold = text_of(marker.token)
        return None if fold or not value else value

    def any_text(self, node: Node) -> bool:
        if not isinstance(node, Leaf):
            return False
        if node.token.kind == "regex":
            pattern, flags = parts_of(node)
            return pattern == ".*" if "s" in flags else pattern in ANY_TEXT
        named = self.definitions.get(node.token.name) if node.token.kind == "name" else None
        return named is not None and named.body is not node and self.any_text(named.body)

    def tools(self, start: Definition) -> Node | None:
        """Free text with tools in it, where the start rule has that form."""
        parts = start.body.parts if isinstance(start.body, Sequence) else ()
        if len(parts) != 2 or not isinstance(parts[0], Repeat) or (parts[0].least, parts[0].most) != (0, None):
            return None
        ways = parts[0].part.parts if isinstance(parts[0].part, Choice) else (parts[0].part,)
        if not all(isinstance(way, Leaf) and way.token.kind == "name" for way in (*ways, parts[1])):
            return None
        if not self.any_text(parts[1]):
            return None
        tools: dict[str, list[Node]] = {}
        for way in ways:
            split = self.tool(way) if isinstance(way, Leaf) else None
            if split is None:
                return None
            tools.setdefault(split[0], []).append(split[1])
        pairs = [(trigger, Choice(tuple(rest))) for trigger, rest in tools.items()]
        return dispatch(f"{self.prefix}start", pairs, (), loop=True)

    def tool(self, way: Leaf) -> tuple[str, Node] | None:
        """The trigger of a tool and what follows it."""
        part = self.definitions.get(way.token.name)
        if part is None or part.is_terminal:
            return None
        head, *rest = part.body.parts if isinstance(part.body, Sequence) else (part.body,)
        named = self.definitions.get(head.token.name) if isinstance(head, Leaf) and head.token.kind == "name" else None
        trigger = None if named is None else self.trigger(named) or self.regex_trigger(named)
        return None if trigger is None else (trigger, self.node(Sequence(tuple(rest))))

    def regex_trigger(self, part: Definition) -> str | None:
        """The fixed text behind any text, where a lazy rule is one regular expression of that form."""
        if not part.lazy or not isinstance(part.body, Leaf) or part.body.token.kind != "regex":
            return None
        pattern, flags = parts_of(part.body)
        prefixes = (".*",) if "s" in flags else ANY_TEXT
        prefix = next((prefix for prefix in prefixes if pattern.startswith(prefix)), None)
        rest = read_regex(pattern[len(prefix) :]) if prefix and "i" not in flags else None
        letters = rest.parts if isinstance(rest, Sequence) else (rest,)
        fixed = [n.ranges[0] for n in letters if isinstance(n, Class) and not n.negative and len(n.ranges) == 1]
        if not letters or len(fixed) < len(letters) or any(low != high for low, high in fixed):
            return None
        return "".join(chr(low) for low, _ in fixed)
