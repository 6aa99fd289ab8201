"""The EBNF that the printer writes means to xgrammar what the plain data means: every character survives the trip."""

from __future__ import annotations

import random

import pytest

from engine.schema.automata.alphabet import normalise_ranges
from engine.schema.rules.grammar import Chars, Grammar, Ref, Rule, Symbol, Text, chars

xgrammar = pytest.importorskip("xgrammar")

# Quotes, brackets, operators of EBNF, every control character, both ends of every UTF-8 length, astral planes.
SPECIAL = [
    *range(0x30), *b'<=>?[]\\^_`{|}~"', 0x7F, 0x80, 0x85, 0xA0, 0xFF, 0x7FF, 0x800, 0x2028, 0xD7FF, 0xE000,
    0xFEFF, 0xFFFD, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF,
]  # fmt: skip


@pytest.fixture(scope="module")
def compiler() -> xgrammar.GrammarCompiler:
    vocabulary = [bytes([i]) for i in range(256)] + [b"<eos>"]
    info = xgrammar.TokenizerInfo(vocabulary, xgrammar.VocabType.RAW, stop_token_ids=[256])
    return xgrammar.GrammarCompiler(info, max_threads=1)


def accepts(compiler: xgrammar.GrammarCompiler, grammar: Grammar, text: str) -> bool:
    matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(grammar.to_ebnf()))
    return bool(matcher.accept_string(text.encode()) and matcher.is_completed())


def just(symbol: Symbol) -> Grammar:
    return Grammar({"root": Rule("root", ((symbol,),))})


@pytest.mark.parametrize("code_point", SPECIAL, ids=lambda c: f"U+{c:04X}")
def test_a_character_is_itself_and_nothing_else(compiler: xgrammar.GrammarCompiler, code_point: int) -> None:
    character = chr(code_point)
    neighbour = chr(code_point - 1 if code_point in (0x10FFFF, 0xD7FF) else code_point + 1)
    for symbol in (Chars(((code_point, code_point),)), Text(character), chars(character, "é")):
        assert accepts(compiler, just(symbol), character)
        assert not accepts(compiler, just(symbol), neighbour)
    assert accepts(compiler, just(Text(f"0{character}9a")), f"0{character}9a")


def test_classes_of_any_characters_hold_exactly_their_members(compiler: xgrammar.GrammarCompiler) -> None:
    generator = random.Random(7)
    for _ in range(60):
        spans = [(c, generator.choice([c, c + 2])) for c in generator.sample(SPECIAL[:-1], generator.randint(1, 6))]
        spans = [(low, low if 0xD7FE <= low <= 0xE000 else high) for low, high in spans]
        symbol = Chars(normalise_ranges(spans))
        for code_point in generator.sample(SPECIAL, 12) + [low for low, _ in spans]:
            inside = any(low <= code_point <= high for low, high in symbol.ranges)
            assert accepts(compiler, just(symbol), chr(code_point)) == inside, (symbol, hex(code_point))


def test_lookahead_does_not_read(compiler: xgrammar.GrammarCompiler) -> None:
    word = Rule("word", ((Text("]"),), (chars("\\^-]"), Ref("word"))), chars("-]\\"))
    grammar = Grammar({"root": Rule("root", ((Ref("word"), Text("-")),)), "word": word})
    assert accepts(compiler, grammar, "\\^]-")
    assert not accepts(compiler, grammar, "\\^]")
    assert not accepts(compiler, grammar, "\\^-")


def test_root_may_have_another_name(compiler: xgrammar.GrammarCompiler) -> None:
    grammar = Grammar({"a": Rule("a", ((Text("x"),), ())), "b": Rule("b", ((Ref("a"), Ref("a")),))}, root="b")
    assert [accepts(compiler, grammar, text) for text in ("", "x", "xx", "xxx")] == [True, True, True, False]


def test_printing_is_stable() -> None:
    rules = {"z": Rule("z", ((Text("1"),),)), "root": Rule("root", ((Ref("z"),),))}
    assert Grammar(rules).to_ebnf() == 'root ::= z\nz ::= "1"'


@pytest.mark.parametrize(
    "ranges", [("^",), ("^", "_"), ((0x5E, 0x7A),), ("^", "a"), ("]", "^"), ("^", (0x80, 0xD7FF)), ((0x41, 0x5E), "a")]
)
def test_a_caret_never_negates_its_class(
    compiler: xgrammar.GrammarCompiler, ranges: tuple[tuple[int, int] | str, ...]
) -> None:
    wanted = chars(*ranges)
    grammar = Grammar({"root": Rule("root", ((wanted,),))})
    for code_point in range(0x20, 0x7F):
        inside = any(low <= code_point <= high for low, high in wanted.ranges)
        assert accepts(compiler, grammar, chr(code_point)) == inside, chr(code_point)
