"""The judge of EBNF constraints: XGrammar's dialect, read by a parser of our own.

What the matcher takes and does not do (token and character budgets, temperatures, lookahead after a rule) and what no
text can show (token ids) is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.judge.notations.ebnf_tokens import Token, WrongGrammar, class_of, string_of, tokens
from engine.judge.recogniser.productions import Call, Productions, Regular, Terminal
from engine.judge.recogniser.terminals import Chunks, FreeText, UpTo, refuse_nested
from engine.patterns.dialect import read_regex
from engine.patterns.tree import Choice, Class, Node, Repeat, Undecidable
from engine.patterns.tree import Sequence as Row

DEPTH = 200
_TOKEN_MACROS = ("Token", "ExcludeToken", "TokenTagDispatch")
_HARMLESS = ("capture",)
_REPEATS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_Value = str | int | bool | Token | tuple["_Value", ...]


def ebnf_rules(source: str, prefix: str = "") -> dict[str, Node]:
    """The rules of a grammar by name, each name behind `prefix`; `root` is the start.

    Raises WrongGrammar for what is no grammar, Undecidable for what is not judged. Linear.
    """
    return _Parser(source, prefix).rules()


def ebnf_grammar(source: str) -> Productions:
    """The same, ready to recognise texts."""
    return Productions(ebnf_rules(source), "root")


class _Parser:
    def __init__(self, source: str, prefix: str) -> None:
        self.tokens = tokens(source)
        self.at = 0
        self.depth = 0
        self.prefix = prefix
        self.names: set[str] = set()
        self.made: dict[str, Node] = {}

    def rules(self) -> dict[str, Node]:
        heads = [token.text for index, token in enumerate(self.tokens) if self.is_head(index)]
        self.names = set(heads)
        if len(heads) > len(self.names):
            twice = next(name for name in heads if heads.count(name) > 1)
            raise WrongGrammar(f"the rule {twice!r} is defined twice")
        if "root" not in self.names:
            raise WrongGrammar("there is no rule 'root'")
        while self.peek().kind != "end":
            self.rule()
        return self.made

    def is_head(self, index: int) -> bool:
        """Whether a rule begins here: a name, perhaps options, and `::=`."""
        kinds = [token.kind for token in self.tokens[index : index + 3]]
        return kinds[:2] == ["name", "::="] or kinds == ["name", "class", "::="]

    def peek(self) -> Token:
        return self.tokens[self.at]

    def take(self, *kinds: str) -> Token:
        token = self.peek()
        if token.kind not in kinds:
            wanted = " or ".join(kinds)
            raise WrongGrammar(f"expected {wanted} but found {token.text!r} in line {token.line}")
        self.at += 1
        return token

    def skip(self, kind: str) -> bool:
        found = self.peek().kind == kind
        self.at += found
        return found

    def rule(self) -> None:
        if not self.is_head(self.at):
            raise WrongGrammar(f"expected a rule but found {self.peek().text!r} in line {self.peek().line}")
        name = self.take("name").text
        lazy = self.options(name, self.take("class")) if self.peek().kind == "class" else False
        self.take("::=")
        body = self.choice()
        if self.peek().kind == "(=":
            raise Undecidable(f"the lookahead (= ...) behind the rule {name!r}")
        self.made[self.prefix + name] = Regular(regular_body(body, name), lazy=True) if lazy else body

    def options(self, name: str, token: Token) -> bool:
        lazy = False
        for option in token.text[1:-1].split(","):
            word = option.partition("=")[0].strip()
            lazy |= word == "lazy"
            if word != "lazy" and word not in _HARMLESS:
                raise Undecidable(f"the option {word!r} of the rule {name!r}")
        return lazy

    def choice(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise Undecidable(f"groups nested deeper than {DEPTH}")
        ways = [self.sequence()]
        while self.skip("|"):
            ways.append(self.sequence())
        self.depth -= 1
        return ways[0] if len(ways) == 1 else Choice(tuple(ways))

    def sequence(self) -> Node:
        parts = [self.repeated()]
        while self.peek().kind not in ("|", ")", "(=", "end") and not self.is_head(self.at):
            parts.append(self.repeated())
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def repeated(self) -> Node:
        part = self.element()
        for sign, bounds in _REPEATS.items():
            if self.skip(sign):
                return Repeat(part, *bounds)
        if not self.skip("{"):
            return part
        least = int(self.take("number").text)
        most: int | None = least
        if self.skip(","):
            most = int(self.take("number").text) if self.peek().kind == "number" else None
            if self.peek().text == "-1":
                self.take("name")
        self.take("}")
        if most is not None and most < least:
            raise WrongGrammar(f"numbers out of order in {{{least},{most}}}")
        return Repeat(part, least, most)

    def element(self) -> Node:
        token = self.take("(", "class", "string", "name")
        if token.kind == "string":
            return literal(string_of(token))
        if token.kind == "class":
            return class_of(token)
        if token.kind == "name":
            macro: Callable[[], Node] | None = getattr(self, f"macro_{token.text}", None)
            if token.text in _TOKEN_MACROS:
                raise Undecidable(f"{token.text} in line {token.line}: token ids do not show in a text")
            return macro() if macro is not None else self.call(token.text, token.line)
        if self.skip(")"):
            return Row(())
        body = self.choice()
        self.take(")")
        return body

    def call(self, name: str, line: int) -> Call:
        if name not in self.names:
            raise WrongGrammar(f"there is no rule {name!r}, named in line {line}")
        return Call(self.prefix + name)

    def macro_Regex(self) -> Node:  # noqa: N802 - named as the macro is
        given, named = self.arguments()
        pattern, flags, in_json = given[0] if given else None, named.get("flags"), named.get("json_string", False)
        if len(given) != 1 or not isinstance(pattern, str) or not set(named) <= {"flags", "json_string"}:
            raise WrongGrammar("Regex takes a pattern, flags and json_string")
        if not isinstance(flags, str | None) or not isinstance(in_json, bool):
            raise WrongGrammar("flags of Regex are a string, and json_string is true or false")
        return read_regex(pattern, flags or "", dot="any" if flags is None else "line", in_json=in_json)

    def macro_Substring(self) -> Node:  # noqa: N802 - named as the macro is
        given, named = self.arguments()
        if named or not all(isinstance(chunk, str) for chunk in given):
            raise WrongGrammar("Substring takes strings")
        return Chunks([str(chunk) for chunk in given])

    def macro_TagDispatch(self) -> Node:  # noqa: N802 - named as the macro is
        given, named = self.arguments()
        loop, excludes = named.get("loop_after_dispatch", True), named.get("excludes", ())
        if not isinstance(excludes, tuple) or not set(named) <= {"loop_after_dispatch", "excludes"}:
            raise WrongGrammar("TagDispatch takes pairs, loop_after_dispatch and excludes")
        pairs = []
        for pair in given:
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], Token):
                raise WrongGrammar("TagDispatch takes pairs of a string and a rule")
            pairs.append((str(pair[0]), self.call(pair[1].text, pair[1].line)))
        name = f"{self.prefix}TagDispatch at {self.at}"
        self.made[name] = dispatch(name, pairs, [str(exclude) for exclude in excludes], loop=loop is True)
        return Call(name)

    def arguments(self) -> tuple[list[_Value], dict[str, _Value]]:
        self.take("(")
        given: list[_Value] = []
        named: dict[str, _Value] = {}
        while self.peek().kind != ")":
            if self.peek().kind == "name" and self.tokens[self.at + 1].kind == "=":
                name = self.take("name").text
                self.take("=")
                named[name] = self.value()
            else:
                given.append(self.value())
            if not self.skip(","):
                break
        self.take(")")
        return given, named

    def value(self) -> _Value:
        token = self.take("string", "number", "name", "(")
        if token.kind == "(":
            parts = []
            while self.peek().kind != ")":
                parts.append(self.value())
                if not self.skip(","):
                    break
            self.take(")")
            return tuple(parts)
        if token.kind == "name":
            return {"true": True, "false": False}.get(token.text, token)
        return string_of(token) if token.kind == "string" else int(token.text)


def literal(text: str) -> Node:
    """The nodes of a text."""
    letters = tuple(Class(((ord(letter), ord(letter)),)) for letter in text)
    return letters[0] if len(letters) == 1 else Row(letters)


def dispatch(name: str, pairs: Sequence[tuple[str, Node]], excludes: Sequence[str], *, loop: bool) -> Node:
    """The body of a rule `name`: free text, in which each trigger is followed by its part. Raises Undecidable."""
    triggers = [trigger for trigger, _ in pairs]
    if not all(triggers) or not all(excludes) or len(set(triggers)) < len(triggers):
        raise WrongGrammar("triggers and excluded strings must not be empty, nor a trigger stand twice")
    refuse_nested(triggers, excludes)
    ways: list[Node] = [FreeText([*triggers, *excludes])]
    strings = frozenset((*triggers, *excludes))
    for trigger, part in pairs:
        ways.append(Row((UpTo(trigger, strings), part, *([Call(name)] if loop else []))))
    return Choice(tuple(ways)) if len(ways) > 1 else Row((ways[0],))


def regular_body(node: Node, name: str) -> Node:
    """The body of a lazy rule as one regular expression. Raises Undecidable where it is none."""
    if isinstance(node, Row):
        return Row(tuple(regular_body(part, name) for part in node.parts))
    if isinstance(node, Choice):
        return Choice(tuple(regular_body(part, name) for part in node.parts))
    if isinstance(node, Repeat):
        return Repeat(regular_body(node.part, name), node.least, node.most)
    if isinstance(node, Call | Terminal):
        raise Undecidable(f"the lazy rule {name!r} over other rules")
    return node
