"""Grammars run for tests: XGrammar over a vocabulary of single bytes (its masks are exact), and random derivations."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import xgrammar as xg

from engine.schema.rules.grammar import EITHER, UNDECLARED, Chars, Grammar, Ref, Sequence, Symbol, Text
from engine.schema.rules.guards import Another, AnyOf, Guard, Letter, Member, Room
from engine.schema.rules.shortest import Shortest
from tests.schema.counting import Counts, Reader, counts

BYTES = [bytes([value]) for value in range(256)]
PIECES = [
    b'",', b'"}', b'":', b'":"', b"},", b"}]", b"]}", b'{"', b'["', b'","', b'"]', b"0,", b"1}", b"[]", b"{}", b'\\"',
    b"\\u", b"ab", b'a"', b'a":', b"}}", b"]]", b"null", b"true,", b"false}", b'a","', b"-1", b".5", b"e1",
]  # fmt: skip
"""Tokens of several bytes, such as cross from one rule into the next."""


def compiler(vocabulary: list[bytes]) -> xg.GrammarCompiler:
    """A compiler for these tokens and one stop token behind them."""
    info = xg.TokenizerInfo([*vocabulary, b"<eos>"], xg.VocabType.RAW, stop_token_ids=[len(vocabulary)])
    return xg.GrammarCompiler(info, max_threads=1, cache_enabled=False)


_BYTE_COMPILER = compiler(BYTES)


class Language:
    """The texts of a grammar: of those that XGrammar accepts, the ones that a plain reader lets pass by its guards."""

    def __init__(self, grammar: Grammar, *, guards: bool = True) -> None:
        marks = [rule for name, rule in grammar.rules.items() if name.endswith((UNDECLARED, EITHER))]
        rules = {**grammar.rules, **{rule.name: replace(rule, printed='""') for rule in marks}}
        unmarked = replace(grammar, rules=rules)  # the reader tells undeclared keys from others
        self._compiled = _BYTE_COMPILER.compile_grammar(xg.Grammar.from_ebnf(unmarked.to_ebnf()))
        guarded = guards and any(rule.guards for rule in grammar.rules.values())
        self._reader = Reader(grammar) if guarded else None

    def accepts(self, value: Any) -> bool:
        """Whether the compact serialisation of `value` is a text of the grammar."""
        return self.accepts_text(compact(value))

    def accepts_text(self, text: str) -> bool:
        matcher = xg.GrammarMatcher(self._compiled)
        if not (matcher.accept_string(text.encode("utf-8", "surrogatepass")) and matcher.is_completed()):
            return False
        return self._reader is None or self._reader.accepts(text)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_NO_FACTS = counts("")


class Sampler:
    """Random texts of a grammar; after `budget` steps every choice is the shortest."""

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self.grammar = grammar
        self.random = random.Random(seed)
        self.short = Shortest(grammar.rules)

    def text(self, budget: int = 200) -> str:
        while True:
            with suppress(ValueError):  # an alternative of several that has no key left
                return self._derived([Ref(self.grammar.root)], "", budget, 2_000)

    def can_end(self, stacks: Iterable[tuple[Symbol, ...]], text: str) -> bool:
        """Whether the shortest choices lead from one of these stacks of a reader, behind `text`, to an end."""
        for stack in stacks:
            with suppress(ValueError):  # nothing is allowed any more
                self._derived([*reversed(stack)], text, 0, 1_000)
                return True
        return False

    def _derived(self, stack: list[Symbol], text: str, budget: int, most: int) -> str:
        for _ in range(most):
            if not stack:
                return text
            symbol = stack.pop()
            if isinstance(symbol, Text):
                text += symbol.text
            elif isinstance(symbol, Chars):
                low, high = self.random.choice(symbol.ranges)
                text += chr(self.random.choice([low, high, self.random.randint(low, high)]))
            else:
                budget -= 1
                guarded = any(self.grammar.rules[symbol.name].guards)
                facts = counts(text) if guarded else _NO_FACTS  # counting reads the whole text
                allowed = self._allowed(symbol.name, facts)
                if not allowed:
                    raise ValueError(f"nothing is allowed any more: {text}")
                ranked = [(self._size(way, facts), number) for number, way in enumerate(allowed)] if budget < 0 else []
                chosen = allowed[min(ranked)[1]] if ranked else self.random.choice(allowed)
                stack.extend(reversed(chosen[0]))
        raise ValueError(f"no end after {most} steps: {text}")

    def _allowed(self, name: str, facts: Counts) -> list[tuple[Sequence, Guard | None]]:
        """Alternatives that derive something and whose guards hold."""
        rule = self.grammar.rules[name]
        alive = [all(not isinstance(x, Ref) or x.name in self.short for x in way) for way in rule.alternatives]
        guards = rule.guards or (None,) * len(alive)
        ways = zip(rule.alternatives, guards, alive, strict=True)
        return [(way, guard) for way, guard, able in ways if able and (guard is None or guard.holds(facts))]

    def _size(self, choice: tuple[Sequence, Guard | None], facts: Counts) -> int:
        """Of a shortest text; in a string what is missing counts, and required members stand first: only they lead to
        the end."""
        way, guard = choice
        if isinstance(guard, Room):
            return guard.cost
        if isinstance(guard, Letter):
            return 1 + (guard.left(facts) or 0)
        parts = guard.guards if isinstance(guard, AnyOf) else (guard,)
        needed = any(
            (isinstance(part, Member) and part.name in part.region.required)
            or (isinstance(part, Another) and part.names.required(part.region.required))
            for part in parts
        )
        return 0 if needed else sum(len(self.short[x.name]) if isinstance(x, Ref) else 1 for x in way)


def lost_walks(grammar: Grammar, alphabet: str, walks: int, size: int) -> list[str]:
    """Where walks at random, of up to `size` characters, cannot come to an end."""
    reader, sampler, draw = Reader(grammar), Sampler(grammar, 0), random.Random(0)
    lost: list[str] = []
    for _ in range(walks):
        stacks, text = reader.start, ""
        while len(text) < size and (onward := reader.following(stacks, text, alphabet)):
            character = draw.choice([*onward])
            stacks, text = onward[character], text + character
        if not sampler.can_end(stacks, text):
            lost.append(text)
    return lost


def dead_ends(grammar: Grammar, alphabet: str, depth: int) -> list[str]:
    """Beginnings of `depth` characters, all there are, that lead nowhere."""
    reader, sampler = Reader(grammar), Sampler(grammar, 0)
    layer = [(reader.start, "")]
    for _ in range(depth):
        layer = [
            (reached, text + character)
            for stacks, text in layer
            for character, reached in reader.following(stacks, text, alphabet).items()
        ]
    return [text for stacks, text in layer if not sampler.can_end(stacks, text)]
