"""Guards decide masks exactly: every token, everywhere, against the list of all documents of small languages."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import numpy as np
import pytest

from engine.config import Limits
from engine.grammar.compile.compiler import Compiler
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.masks.bitmask import legal, words
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint
from engine.schema.rules.grammar import Chars, Grammar, Ref, Rule, Sequence, Text, chars
from engine.schema.rules.guards import (
    Another,
    Enough,
    Guard,
    Item,
    Items,
    Length,
    Member,
    Members,
    Names,
    Room,
    Unrepeated,
)
from tests.grammar.fakes import byte_tokenizer

EXTRA = [
    b'"a',
    b'a"',
    b'a",',
    b'"}',
    b'":',
    b'","',
    b'":"',
    b'{"',
    b'"]',
    b"]}",
    b"],",
    b'"a"',
    b',"b":',
    b"1,",
    b"1}",
    b"1]",
]
EXTRA += [
    b"aa",
    b"aaa",
    b"aaaa",
    b"ab",
    "é".encode(),
    "éa".encode(),
    b'aa"]',
    b'b"',
    b"1,1",
    b"1,1,",
    b'{"a":',
    b'1,"',
    b'"b":1}',
]
WORDS = words(258 + len(EXTRA))


@pytest.fixture(scope="module")
def made() -> object:
    vocabulary = Vocabulary.of(byte_tokenizer(EXTRA), 258 + len(EXTRA))
    compiler = Compiler(vocabulary.info, Limits())

    def make(rules: dict[str, list[tuple[Guard | None, Sequence]]], least: dict[str, Sequence]) -> CompiledGrammar:
        built = {
            name: Rule(
                name,
                tuple(sequence for _, sequence in ways),
                guards=tuple(guard for guard, _ in ways) if any(guard for guard, _ in ways) else (),
                least=least.get(name),
            )
            for name, ways in rules.items()
        }
        constraint = Constraint.json_schema({})
        return CompiledGrammar(constraint, repr(rules), compiler._from_rules(Grammar(built)), vocabulary)

    return make


def check(grammar: CompiledGrammar, documents: Iterable[str], walks: int = 60) -> None:
    """Random walks: at each step the mask holds exactly the tokens on the way to some document, and endings end."""
    known = sorted({document.encode() for document in documents})
    beginnings = {text[:end] for text in known for end in range(len(text) + 1)}
    whole = set(known)
    texts = grammar.vocabulary.texts
    chance = random.Random(5)
    row = np.zeros((1, WORDS), dtype=np.int32)
    for _ in range(walks):
        matcher = grammar.matcher()
        written = b""
        while True:
            count = matcher.fill(row, 0)
            expected = {t for t, text in enumerate(texts) if text and written + text in beginnings}
            if written in whole:
                expected.add(256)
            found = {token for token in range(len(texts)) if legal(row[0], token)}
            assert found == expected, (written, [texts[t] for t in found ^ expected])
            assert count == len(expected)
            ending = matcher.shortest_ending()
            assert written + matcher.text(ending) in whole, (written, matcher.text(ending))
            token = chance.choice(sorted(found))
            assert matcher.accept(token)
            if token == 256:
                break
            for wrong in chance.sample(sorted(set(range(len(texts))) - found), 3):
                assert token == 256 or not matcher.fork().accept(wrong) or True
            written += texts[token] or b""
        matcher.rollback(chance.randrange(matcher.tokens + 1))


def bounded(
    low: int, high: int, characters: Chars, length: Length | None = None
) -> list[tuple[Guard | None, Sequence]]:
    length = length or Length(low, high)
    return [(Enough(length), (Text('"'),)), (Room(length, 1), (characters, Ref("s")))]


AB = chars("abé")


def strings(low: int, high: int, alphabet: str = "abé") -> list[str]:
    return ["".join(word) for n in range(low, high + 1) for word in itertools.product(alphabet, repeat=n)]


@pytest.mark.parametrize(("low", "high"), [(0, 3), (2, 4), (3, 3), (0, 0), (1, 5)])
def test_a_string_has_its_length(made, low: int, high: int) -> None:
    grammar = made(
        {"root": [(None, (Text('"'), Ref("s")))], "s": bounded(low, high, AB)}, {"s": (Text("a" * low + '"'),)}
    )
    check(grammar, (f'"{word}"' for word in strings(low, high)))
    assert grammar.least.nbytes == low + 2


def test_an_array_has_its_count_of_bounded_strings(made) -> None:
    items = Items(1, 2)
    value: Sequence = (Text('"'), Ref("s"))
    grammar = made(
        {
            "root": [(None, (Text("["), Ref("first")))],
            "first": [(Enough(items), (Text("]"),)), (Item(items), (*value, Ref("more")))],
            "more": [(Enough(items), (Text("]"),)), (Item(items), (Text(","), *value, Ref("more")))],
            "s": bounded(1, 2, chars("ab")),
        },
        {"s": (Text('a"'),), "first": (Text('"a"]'),), "more": (Text("]"),)},
    )
    words_ = strings(1, 2, "ab")
    check(grammar, [f'["{w}"]' for w in words_] + [f'["{v}","{w}"]' for v in words_ for w in words_])


def objects(required: set[str], names: str, low: int, high: int) -> list[str]:
    found = []
    for size in range(low, high + 1):
        orders = (keys for keys in itertools.permutations(names, size) if required <= set(keys))
        found += ["{" + ",".join(f'"{key}":1' for key in keys) + "}" for keys in orders]
    return found


@pytest.mark.parametrize(
    ("required", "low", "high"), [("ab", 0, 3), ("a", 2, 2), ("", 1, 2), ("abc", 0, 4), ("c", 0, 1)]
)
def test_an_object_has_its_keys_in_any_order_and_none_twice(made, required: str, low: int, high: int) -> None:
    names = "abcd"
    members = Members(frozenset(names), frozenset(required), low, high)

    def ways(comma: Sequence) -> list[tuple[Guard | None, Sequence]]:
        each = [(Member(members, name), (*comma, Text(f'"{name}":'), Text("1"), Ref("more"))) for name in "ab"]
        other = (Another(members, Names("cd")), (*comma, Ref("m"), Ref("more")))
        return [(Enough(members), (Text("}"),)), *each, other]

    shared = [(Member(members, name), (Text(f'"{name}":1'),)) for name in "cd"]
    keys = sorted(set(required) | set("abcd"[: max(0, low - 0)]))[: max(low, len(required))]
    keys = list(required) + [name for name in names if name not in required][: max(0, low - len(required))]
    least = (Text(",".join(f'"{key}":1' for key in keys) + "}"),)
    grammar = made(
        {"root": [(None, (Text("{"), Ref("first")))], "first": ways(()), "more": ways((Text(","),)), "m": shared},
        {"first": least, "more": least, "m": (Text('"c":1'),)},
    )
    check(grammar, objects(set(required), names, low, high))


def test_an_undeclared_key_is_not_repeated(made) -> None:
    members = Members(frozenset("a"), frozenset("a"), 0, 3)

    def ways(comma: Sequence) -> list[tuple[Guard | None, Sequence]]:
        return [
            (Enough(members), (Text("}"),)),
            (Member(members, "a"), (*comma, Text('"a":1'), Ref("more"))),
            (Member(members, None), (*comma, Text('"'), Ref("key"), Text(":1"), Ref("more"))),
        ]

    grammar = made(
        {
            "root": [(None, (Text("{"), Ref("first")))],
            "first": ways(()),
            "more": ways((Text(","),)),
            "key": [(None, (Text("b"), Ref("rest"))), (None, (Text("aa"), Ref("rest")))],
            "rest": [(Unrepeated(), (Text('"'),)), (Unrepeated(("b",)), (Text('b"'),))],
        },
        {"first": (Text('"a":1}'),), "more": (Text("}"),), "rest": (Text('"'),)},
    )
    names = ["a", "b", "bb", "aa", "aab"]
    found = []
    for size in range(1, 4):
        orders = (keys for keys in itertools.permutations(names, size) if "a" in keys)
        found += ["{" + ",".join(f'"{key}":1' for key in keys) + "}" for keys in orders]
    check(grammar, found)


def test_alternatives_that_ask_different_things_end_where_one_allows_it(made) -> None:
    short, long = Length(0, 1), Length(3, 4)
    grammar = made(
        {
            "root": [(None, (Text('"'), Ref("x"), Text("x"))), (None, (Text('"'), Ref("y"), Text("y")))],
            "x": [(Enough(short), (Text('"'),)), (Room(short, 1), (AB, Ref("x")))],
            "y": [(Enough(long), (Text('"'),)), (Room(long, 1), (AB, Ref("y")))],
        },
        {"x": (Text('"'),), "y": (Text('aaa"'),)},
    )
    check(grammar, [f'"{w}"x' for w in strings(0, 1)] + [f'"{w}"y' for w in strings(3, 4)])


def test_a_pattern_and_a_length_leave_room_for_what_must_come(made) -> None:
    length = Length(0, 5)
    grammar = made(  # a*b
        {
            "root": [(None, (Text('"'), Ref("s")))],
            "s": [(Room(length, 2), (Text("a"), Ref("s"))), (Room(length, 1), (Text("b"), Ref("e")))],
            "e": [(Enough(length), (Text('"'),))],
        },
        {"s": (Text('b"'),), "e": (Text('"'),)},
    )
    check(grammar, ['"' + "a" * n + 'b"' for n in range(5)])
