"""Strings and scalars as rules: the right texts, and masks that lose no token to a lookahead."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import product

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.formats.registry import from_format
from engine.schema.regex.pattern import from_pattern
from engine.schema.rules.grammar import Chars, Grammar, Ref, Rule, Text, chars
from engine.schema.strings.string_rules import Spelling, TextRules
from tests.schema.matching import Language
from tests.schema.number_sets import integers, numbers

xgrammar = pytest.importorskip("xgrammar")

FOLLOW = chars(",}")
EOS = 3000

# Tokens that begin, end and cross strings in every way a byte-level tokenizer knows.
PIECES = [
    '"', '",', '"}', '":', '"]', "\\", "\\n", '\\"', "\\u", "\\ud83d", "\\ude00", "00", "e9", "D8", "a", "bc", "Z",
    "12", "0", "-", ".", "e", "+", " ", "é", "日本", "😀", ",", "}", "{", "/", "@", ":", "2024", "true", "\n",
    "\t", "x" * 7,
]  # fmt: skip


def vocabulary() -> list[bytes]:
    """All bytes, then words of up to three pieces, some cut inside a character."""
    words = [bytes([i]) for i in range(256)]
    seen = set(words)
    generator = random.Random(11)
    joined = ["".join(part) for part in product(PIECES, repeat=2)]
    joined += ["".join(generator.choices(PIECES, k=3)) for _ in range(4000)]
    for word in joined:
        piece = word.encode()
        piece = piece[: generator.choice([len(piece), len(piece), len(piece) - 1])]
        if piece and piece not in seen and len(words) < EOS:
            seen.add(piece)
            words.append(piece)
    assert len(words) == EOS
    return [*words, b"<eos>"]


@pytest.fixture(scope="module")
def compiler() -> xgrammar.GrammarCompiler:
    info = xgrammar.TokenizerInfo(vocabulary(), xgrammar.VocabType.RAW, stop_token_ids=[EOS])
    return xgrammar.GrammarCompiler(info, max_threads=1)


Write = Callable[[TextRules, Chars | None], Ref]


def document(write: Write, opening: str = '"') -> Grammar:
    """`{<value>}` or `{<value>,<value>}`, so that both follow characters happen."""
    rules: dict[str, Rule] = {}
    value = write(TextRules(rules), FOLLOW)
    first = (Text("{" + opening), value)
    rules["root"] = Rule("root", ((*first, Text("}")), (*first, Text("," + opening), value, Text("}"))))
    return Grammar(rules)


def string_of(automaton: Automaton, spelling: Spelling = "canonical") -> Write:
    return lambda rules, follow: rules.string(automaton, follow, spelling)


def accepts(compiler: xgrammar.GrammarCompiler, grammar: Grammar, text: str) -> bool:
    matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(grammar.to_ebnf()))
    return bool(matcher.accept_string(text.encode()) and matcher.is_completed())


FAMILIES: dict[str, Grammar] = {
    "plain": document(lambda rules, follow: rules.string(Automaton.anything(), follow, "any")),
    "length": document(lambda rules, follow: rules.string(Automaton.length(2, 9), follow, "any")),
    "pattern": document(string_of(from_pattern('^[a-z]+("|\\\\|\\n|é)[^a]*$'))),
    "words": document(string_of(Automaton.of(["a", 'a"b', "a\n", "abcbc", "日本", "\x01", "/"]))),
    "circle": document(string_of(from_pattern('a"|\\\\.b|\n1'))),
    "circle of escapes": document(string_of(from_pattern("^([^\\x00-\\x08]{2}[\\t\\x1f\\]^]|日-)*$"))),
    "circle in a number": document(lambda rules, follow: rules.scalar(from_pattern("^(1[02]*-)+$"), follow), ""),
    "not words": document(string_of(~Automaton.of(["a", "abc", "日本", 'x"'])), ),
    "date-time": document(string_of(from_format("date-time") or Automaton.nothing())),
    "uri": document(string_of(from_format("uri") or Automaton.nothing())),
    "integer": document(lambda rules, follow: rules.scalar(integers(-20, 2024), follow), ""),
    "number": document(lambda rules, follow: rules.scalar(numbers(), follow), ""),
    "multiple": document(lambda rules, follow: rules.scalar(numbers(multiple_of=0.25), follow), ""),
}  # fmt: skip


def bits(matcher: xgrammar.GrammarMatcher) -> set[int]:
    mask = numpy.zeros((1, (EOS + 1 + 31) // 32), dtype=numpy.int32)
    matcher.fill_next_token_bitmask(mask)
    flat = numpy.unpackbits(mask.view(numpy.uint8), bitorder="little")
    return set(numpy.flatnonzero(flat[: EOS + 1]).tolist())


def brute_force(matcher: xgrammar.GrammarMatcher) -> set[int]:
    legal = set()
    for token in range(EOS + 1):
        if matcher.accept_token(token):
            legal.add(token)
            matcher.rollback(1)
    return legal


@pytest.mark.parametrize("family", FAMILIES)
def test_mask_and_brute_force_agree_at_random_states(compiler: xgrammar.GrammarCompiler, family: str) -> None:
    compiled = compiler.compile_grammar(FAMILIES[family].to_ebnf())
    generator = random.Random(family)
    checked = 0
    while checked < 60:
        matcher = xgrammar.GrammarMatcher(compiled)
        for _ in range(generator.randint(4, 25)):
            mask = bits(matcher)
            assert mask == brute_force(matcher)
            checked += 1
            token = generator.choice(sorted(mask))
            assert matcher.accept_token(token)
            if token == EOS:
                break


def test_a_follow_set_that_is_too_narrow_would_be_noticed(compiler: xgrammar.GrammarCompiler) -> None:
    rules: dict[str, Rule] = {}
    value = TextRules(rules).string(Automaton.anything(), chars("}"), "any")
    rules["root"] = Rule("root", ((Text('{"'), value, Text("}")), (Text('{"'), value, Text(',"'), value, Text("}"))))
    matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(Grammar(rules).to_ebnf()))
    assert matcher.accept_string('{"a')
    assert bits(matcher) < brute_force(matcher)


@settings(max_examples=60, deadline=None)
@given(value=st.text(max_size=12))
def test_every_string_has_its_usual_spellings(compiler: xgrammar.GrammarCompiler, value: str) -> None:
    grammar = FAMILIES["plain"]
    for spelled in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        legal = not any("\ud800" <= c <= "\udfff" for c in value)
        assert accepts(compiler, grammar, "{" + spelled + "}") == legal


WORDS = ["", '"', "\\", "/", "\b\f\n\r\t", "\x00\x1f\x7f", "é\u2028", "\uffff", "😀\U0010ffff"]


@pytest.mark.parametrize("value", WORDS)
def test_as_many_characters_in_every_spelling(compiler: xgrammar.GrammarCompiler, value: str) -> None:
    exact = document(string_of(Automaton.literal(value)))
    loose = document(string_of(Automaton.length(len(value), len(value)), "any"))
    canonical = json.dumps(value, ensure_ascii=False)
    escaped = "".join(f"\\u{unit:04X}" for unit in _units(value))
    for spelled in (canonical, json.dumps(value), f'"{escaped}"', f'"{escaped.lower()}"'.replace("\\U", "\\u")):
        assert accepts(compiler, loose, "{" + spelled + "}")
        assert accepts(compiler, exact, "{" + spelled + "}") == (spelled == canonical)
    assert not accepts(compiler, loose, '{"' + escaped + 'x"}')


def _units(value: str) -> list[int]:
    raw = value.encode("utf-16-be")
    return [raw[i] << 8 | raw[i + 1] for i in range(0, len(raw), 2)]


HALVES = ["\\ud83d", "\\ude00", "\\ud83dx", "\\ud83d\\u0041", "\\ude00\\ud83d"]


@pytest.mark.parametrize("body", ["\n", "\t", "\x00", "\\x41", "\\u12", "\\'", "a\\", *HALVES])
def test_what_is_not_json_is_refused(compiler: xgrammar.GrammarCompiler, body: str) -> None:
    for family in ("plain", "length"):
        assert not accepts(compiler, FAMILIES[family], '{"aa' + body + '"}')


@pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\x80", b"\xff", b"\xf4\x90\x80\x80", b"\xe9"])
def test_only_utf8_is_accepted(compiler: xgrammar.GrammarCompiler, raw: bytes) -> None:
    matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(FAMILIES["plain"].to_ebnf()))
    assert not matcher.accept_string(b'{"' + raw + b'"}')


def test_an_escape_counts_as_one_character(compiler: xgrammar.GrammarCompiler) -> None:
    grammar = FAMILIES["length"]
    for body, legal in (("a", False), ("\\n", False), ("\\n\\n", True), ("\\ud83d\\ude00", False), ("😀a", True)):
        assert accepts(compiler, grammar, '{"' + body + '"}') == legal
    assert accepts(compiler, grammar, '{"' + "\\ud83d\\ude00" * 9 + '"}')
    assert not accepts(compiler, grammar, '{"' + "\\u0041" * 10 + '"}')


def test_lengths_share_one_chain() -> None:
    rules: dict[str, Rule] = {}
    text = TextRules(rules)
    text.string(Automaton.length(0, 40), FOLLOW, "any")
    before = len(rules)
    text.string(Automaton.length(0, 30), FOLLOW, "any")
    assert len(rules) == before
    text.string(Automaton.length(3, 30), FOLLOW, "any")
    assert len(rules) - before < 40


def test_equal_parts_of_two_automata_are_the_same_rules() -> None:
    first: dict[str, Rule] = {}
    second: dict[str, Rule] = {}
    TextRules(first).string(from_pattern("^x(ab|cd)*$"), FOLLOW)
    TextRules(second).string(from_pattern("^(y|z)(cd|ab)*$"), FOLLOW)
    shared = {name for name in first if first[name] == second.get(name)}
    assert len(shared) == len(first) - 1


def test_the_follow_set_is_part_of_the_name() -> None:
    rules: dict[str, Rule] = {}
    text = TextRules(rules)
    names = {
        text.string(Automaton.anything(), follow, "any").name for follow in (chars(","), chars(",}"), chars("]"), None)
    }
    assert len(names) == 4


def test_too_many_rules_are_refused() -> None:
    with pytest.raises(AutomatonTooLarge):
        TextRules({}, limit=20).string(Automaton.length(0, 100), FOLLOW, "any")


def test_the_empty_language_is_our_callers_mistake() -> None:
    with pytest.raises(ValueError, match="empty language"):
        TextRules({}).string(Automaton.nothing(), FOLLOW)


@pytest.mark.parametrize(
    "pattern",
    [
        *("foo", "a.*b|\\\\", '^("[^"]*",)*$', "^([\\]^\\-/.*+?(){}|$[]+x+)*$", "[\\x00-\\x1f]{2}", "^(é+[^日]|😀)+$"),
        *("^(a|b.)*c$", "^([\\x7f\\x80-\\u{10FFFF}]+[ -~])+$", "^x(-[a-f]{1,3})+$"),
    ],
)
def test_states_in_circles_derive_what_their_automaton_accepts(pattern: str) -> None:
    automaton = from_pattern(pattern)
    rules: dict[str, Rule] = {}
    value = TextRules(rules).string(automaton, chars(",}"))
    rules["root"] = Rule("root", ((Text('["'), value, Text(",0]")),))
    language, generator = Language(Grammar(rules)), random.Random(pattern)
    for _ in range(300):
        letters = generator.choices('fobac\\"^]-/.*,x\x00\x1f\x7f\né日😀\u2028\U0010ffff', k=generator.randint(0, 7))
        word = "".join(letters)
        assert language.accepts([word, 0]) == automaton.accepts(word), word
