"""Grammars run for tests: XGrammar over a vocabulary of single bytes (its masks are exact), and random derivations."""

from __future__ import annotations

import json
import random
from typing import Any

import xgrammar as xg

from engine.schema.grammar import Chars, Grammar, Ref, Text
from engine.schema.shortest import Shortest

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
    """The texts of a grammar."""

    def __init__(self, grammar: Grammar) -> None:
        self._compiled = _BYTE_COMPILER.compile_grammar(xg.Grammar.from_ebnf(grammar.to_ebnf()))

    def accepts(self, value: Any) -> bool:
        """Whether the compact serialisation of `value` is a text of the grammar."""
        return self.accepts_text(compact(value))

    def accepts_text(self, text: str) -> bool:
        matcher = xg.GrammarMatcher(self._compiled)
        return matcher.accept_string(text.encode("utf-8", "surrogatepass")) and matcher.is_completed()


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Sampler:
    """Random texts of a grammar; after `budget` steps every choice is the shortest."""

    def __init__(self, grammar: Grammar, seed: int) -> None:
        self.grammar = grammar
        self.random = random.Random(seed)
        self.short = Shortest(grammar.rules)

    def text(self, budget: int = 200) -> str:
        out: list[str] = []
        stack: list[Any] = [Ref(self.grammar.root)]
        while stack:
            symbol = stack.pop()
            if isinstance(symbol, Text):
                out.append(symbol.text)
            elif isinstance(symbol, Chars):
                low, high = self.random.choice(symbol.ranges)
                out.append(chr(self.random.choice([low, high, self.random.randint(low, high)])))
            elif budget <= 0:
                out.append(self.short[symbol.name])
            else:
                budget -= 1
                alternatives = self.grammar.rules[symbol.name].alternatives
                alive = [a for a in alternatives if all(not isinstance(x, Ref) or x.name in self.short for x in a)]
                stack.extend(reversed(self.random.choice(alive)))
        return "".join(out)
