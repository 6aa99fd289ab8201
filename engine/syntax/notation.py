r"""Reads a grammar of a language from text.

    # A line that begins with '#' is a comment. Indented lines belong to the line above them.
    unit module = file                  # start symbol of a unit; `in MODE`: where scanning begins (else the first)
    unit expression = expr in line
    soft 'match' 'type'                 # keywords that are names too: both readings are followed
    ignorecase                          # of literals and regular expressions
    optional NEWLINE                    # may be left out: stacks that ignore the token go on beside those that take it
    end NEWLINE                         # may be supplied at the end of the text

    mode line *                         # '*': all literals of the rules are tokens in this mode
        skip /[ \t]+|#[^\n]*/           # matched and dropped
        join /\\\n/                     # the same, and the text does not end behind it
        NAME /[^\W\d]\w*/               # a terminal is written in UPPERCASE
        NEWLINE /\n/ -> goto start      # after the token, scanning goes on in another mode
        '(' -> push bracket             # modes are a stack: push, pop
    mode bracket *
        include line                    # what the other mode has, unless it is told here
        skip /\s+/
        ')' -> pop
        without NEWLINE ':='            # not in this mode
        context REGEX not '/' '/='      # where a stack can take REGEX, it is scanned for and the others are not;
                                        # elsewhere REGEX is not scanned for
        otherwise -> goto line          # before a token that begins with nothing of this mode

    file: statement*
    statement: target '=' expr NEWLINE
        | 'if' expr ':' block
    args: expr % ','                    # one or more, with separators between; `x % ',' ','?` allows a last one

    expr^: unary^ (binary unary^)*      # told twice: as `expr`, and as `expr_narrow` of the narrow `unary_narrow`
    unary: name braces? | sum
    unary_narrow: name | sum            # what `^` means in a rule that is told once, as here:
    loop: 'for' expr^ block

Operators ``( ) ? * + % |``. Rules may be ambiguous, and should be flat: since nothing but membership is asked, all
binary operators can stand in one rule (`expr: unary (binary unary)*`), which is faster than a rule per precedence.
Prefer `x*` to right recursion: stacks stay short. The scanner takes the longest token; of equally long ones a literal
wins over an expression (unless it is soft), then the one that is told first. Write `>>` of a language with generics
as `'>' '>'`. Give each long token (comments and strings over lines) a mode of its own: what has been scanned since the
last place where a token could end is kept.

A regular expression has groups, `| * + ? {m,n}`, classes, `\w \d \s .` and escapes; no lookaround, nothing lazy.
`\i\I*` is an identifier (Unicode's XID_Start or `_`, then XID_Continue).
`\h` is a hexadecimal digit.

Layout (Python's): `layout INDENT DEDENT`; in the mode that begins a line `space /[ \t]+/` measures, and
`otherwise -> goto line` compares the column with those of the blocks around before the first token of the line;
entering a mode with `space` sets the column to 0. `unit body = file loose`: the first line's column is that of the
outermost block.

The terminal OPEN is supplied at the end of the text if `partial` was asked for: `block: '{' statement* '}' | OPEN`.
A text may end in modes with '*' or `otherwise`, and in those where `ends` is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.syntax.expression import Expr, parse_expression

Action = tuple[str, str]
"""('push' | 'goto' | 'pop', mode)"""


@dataclass(frozen=True, slots=True)
class Unit:
    symbol: str
    mode: str
    loose: bool


@dataclass(slots=True)
class ModeText:
    """A mode as it is written. Names of literals keep their quotes, those of what is dropped begin with its kind."""

    name: str
    literals: bool
    patterns: dict[str, list[str]] = field(default_factory=dict)
    actions: dict[str, Action] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)
    contexts: dict[str, frozenset[str]] = field(default_factory=dict)
    otherwise: str | None = None
    ends: bool = False

    def include(self, other: ModeText) -> None:
        self.patterns.update({name: list(patterns) for name, patterns in other.patterns.items()})
        self.actions.update(other.actions)
        self.contexts.update(other.contexts)
        self.without |= other.without


@dataclass(slots=True)
class GrammarText:
    units: dict[str, Unit] = field(default_factory=dict)
    modes: dict[str, ModeText] = field(default_factory=dict)
    rules: dict[str, Expr] = field(default_factory=dict)
    soft: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    end: list[str] = field(default_factory=list)
    layout: tuple[str, str] | None = None
    ignorecase: bool = False


_LITERAL = r"'(?:[^'\\]|\\.)+'"
_NAMES = re.compile(rf"{_LITERAL}|\w+")
_TERMINAL = re.compile(
    rf"([A-Z]\w*|skip|space|join)\s+/(.*)/\s*(?:->\s*(\w+)(?:\s+(\w+))?)?|({_LITERAL})\s*->\s*(\w+)(?:\s+(\w+))?"
)
_UNIT = re.compile(r"unit\s+(\w+)\s*=\s*(\w+)(?:\s+in\s+(\w+))?(\s+loose)?")
_RULE = re.compile(r"([a-z_]\w*)(\^?)\s*:(.*)", re.DOTALL)
_NARROW = re.compile(r"(?<=\w)\^")


def read_units(text: str) -> frozenset[str]:
    """The names of the units alone."""
    return frozenset(match[1] for match in map(_UNIT.match, text.splitlines()) if match)


def read_grammar(text: str) -> GrammarText:
    """ValueError names the line that is not understood."""
    grammar = GrammarText()
    for head, body in _paragraphs(text):
        word = head.split()[0]
        if word == "mode":
            _read_mode(grammar, head, body)
        elif match := _UNIT.fullmatch(head):
            grammar.units[match[1]] = Unit(match[2], match[3] or "", bool(match[4]))
        elif rule := _RULE.fullmatch("\n".join([head, *body])):
            _read_rule(grammar, *rule.groups())
        else:
            _read_setting(grammar, word, _NAMES.findall(" ".join([head, *body]))[1:])
    first = next(iter(grammar.modes), "")
    grammar.units = {name: Unit(unit.symbol, unit.mode or first, unit.loose) for name, unit in grammar.units.items()}
    return grammar


def _paragraphs(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each line that is not indented, with those below it."""
    head, body = "", list[str]()
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            body.append(line.strip())
            continue
        if head:
            yield head, body
        head, body = re.sub(r"\s+# .*", "", line).strip(), []
    if head:
        yield head, body


def _read_rule(grammar: GrammarText, name: str, twice: str, body: str) -> None:
    told = {name: _NARROW.sub("", body), f"{name}_narrow": body} if twice else {name: body}
    for one, text in told.items():
        if one in grammar.rules:
            raise ValueError(f"grammar: rule {one} is told twice")
        grammar.rules[one] = parse_expression(_NARROW.sub("_narrow", text))


def _read_setting(grammar: GrammarText, word: str, names: list[str]) -> None:
    if word == "soft":
        grammar.soft.update(names)
    elif word == "optional":
        grammar.optional.update(names)
    elif word == "end":
        grammar.end.extend(names)
    elif word == "layout":
        grammar.layout = (names[0], names[1])
    elif word == "ignorecase":
        grammar.ignorecase = True
    else:
        raise ValueError(f"grammar: {word!r} begins no line")


def _read_mode(grammar: GrammarText, head: str, body: list[str]) -> None:
    words = head.split()
    mode = ModeText(words[1], "*" in words[2:])
    fresh = set[str]()
    for line in body:
        word, names = line.split()[0], _NAMES.findall(line)[1:]
        if word == "include":
            for name in names:
                mode.include(grammar.modes[name])
        elif word == "without":
            mode.without.update(names)
        elif word == "context":
            mode.contexts[names[0]] = frozenset(names[2:])
        elif word == "otherwise":
            mode.otherwise = names[-1]
        elif word == "ends":
            mode.ends = True
        elif match := _TERMINAL.fullmatch(line):
            _read_terminal(mode, match, fresh)
        else:
            raise ValueError(f"grammar: mode {mode.name}: not understood: {line}")
    grammar.modes[mode.name] = mode


def _read_terminal(mode: ModeText, match: re.Match[str], fresh: set[str]) -> None:
    name = match[1] or match[5]
    verb, target = (match[3], match[4]) if match[1] else (match[6], match[7])
    if name in ("skip", "space", "join"):
        name = f"{name} {mode.name} {len(mode.patterns)}"
    mode.without.discard(name)
    if match[1]:
        if name not in fresh:
            mode.patterns[name] = []
        mode.patterns[name].append(match[2])
    if verb:
        mode.actions[name] = (verb, target or "")
    elif name not in fresh:
        mode.actions.pop(name, None)
    fresh.add(name)
