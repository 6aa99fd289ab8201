"""Within another grammar only the JSON documents are counted, from their first byte to their last."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.config import EngineConfig, Limits
from engine.grammar import GrammarService
from engine.grammar.compile.compiler import Compiler
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.counting.cursor import Cursor
from engine.grammar.sources.documents import as_document
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint
from engine.schema.rules.grammar import Grammar, Ref, Rule, Sequence, Text, chars
from engine.schema.rules.guards import Enough, Guard, Item, Items, Length, Room
from tests.grammar.fakes import byte_tokenizer
from tests.grammar.matching.test_guards import EXTRA, check

JOINED = [b'">', b'{"', b'":', b"<a>[", b"]</a>", b']</a>"<a>[', b"1]", b'[{"k"', b'"[', b'x"', b"<a>", b'","']


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    folder = tmp_path_factory.mktemp("documents")
    made = GrammarService(byte_tokenizer(JOINED), 258 + len(JOINED), config=EngineConfig(cache_dir=folder))
    yield made
    made.close()


TAG = {
    "type": "tag",
    "begin": "<a>",
    "content": {"type": "json_schema", "json_schema": {"type": "array"}},
    "end": "</a>",
}
TAGS = {"type": "triggered_tags", "triggers": ["<a>"], "tags": [TAG], "at_least_one": False}


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (Constraint.json_schema(True), '|{"k":[1,"x\\n"]}|'),
        (Constraint.lark("start: %json true"), '|[{"k":"x"},-12]|'),
        (Constraint.lark('start: "<" inner ">"\ninner: %json true | "x"'), '<|"a\\"[1,"|>'),
        (Constraint.lark('start: "a"* "[" %json true "]"'), 'aaa[|{"k":1}|]'),
        (Constraint.lark('start: "\\"" %json {"type":"array"} "\\"x"'), '"|["x"]|"x'),
        (Constraint.lark('start: "n=" %json {"type":"integer"} ("," | "0" "!")'), "n=|120|,"),
        (Constraint.structural_tag({"format": TAGS}), 'said "[1,<a>|[1,["x"]]|</a>"<a>|[{"k":1}]|</a> "{'),
    ],
)
def test_the_cursor_has_read_what_belongs_to_the_document(
    service: GrammarService, constraint: Constraint, text: str
) -> None:
    """`|` stands where a document begins or ends; whatever tokens write the text."""
    parts = [part.encode() for part in text.split("|")]
    whole = b"".join(parts)
    expected = [Cursor()]
    for number, part in enumerate(parts):
        expected += [Cursor().read(part[:end] if number % 2 else b"") for end in range(1, len(part) + 1)]
    ids = {text: token for token, text in enumerate(service.vocabulary.texts) if text}
    chance = random.Random(7)
    for _ in range(20):
        matcher, at = service.compile(constraint).matcher(), 0
        while at < len(whole):
            token = chance.choice([ids[piece] for piece in ids if whole.startswith(piece, at)])
            assert matcher.accept(token), (whole[:at], token)
            at += len(matcher.text((token,)))
            assert matcher.cursor == expected[at], whole[:at]
        assert matcher.completed


def guarded(name: str, least: Sequence, *ways: tuple[Guard, Sequence]) -> Rule:
    return Rule(name, tuple(way for _, way in ways), guards=tuple(guard for guard, _ in ways), least=least)


def test_guards_ask_what_was_counted_of_their_own_document() -> None:
    """Quotes and brackets around the documents count for nothing, in masks and in endings."""
    items, length = Items(1, 2), Length(1, 2)
    item: Sequence = (Text("1"), Ref("more"))
    array = [
        Rule("array", ((Text("["), *item),)),
        guarded("more", (Text("]"),), (Enough(items), (Text("]"),)), (Item(items), (Text(","), *item))),
    ]
    string = [
        Rule("string", ((Text('"'), Ref("s")),)),
        guarded("s", (Text('a"'),), (Enough(length), (Text('"'),)), (Room(length, 1), (chars("ab"), Ref("s")))),
    ]
    parts = [
        as_document(Grammar({rule.name: rule for rule in rules}, rules[0].name), f"whole {rules[0].name}")
        for rules in (array, string)
    ]
    root = Rule("root", ((Text('"['), Ref(parts[0].root), Text('["'), Ref(parts[1].root), Text('"a')),))
    printed = Rule("root", ((Text('"['), Ref("array"), Text('["'), Ref("string"), Text('"a')),))
    vocabulary = Vocabulary.of(byte_tokenizer(EXTRA), 258 + len(EXTRA))
    compiler = Compiler(vocabulary.info, Limits())
    compiled = compiler._from_rules(Grammar({rule.name: rule for rule in (printed, *array, *string)}))
    followed = Grammar({"root": root, **parts[0].rules, **parts[1].rules})
    constraint = Constraint.ebnf('root ::= "x"')
    grammar = CompiledGrammar(constraint, "two documents", replace(compiled, grammar=followed), vocabulary)
    texts = [f'"{letters}"' for letters in ("a", "b", "aa", "ab", "ba", "bb")]
    check(grammar, (f'"[{array}["{text}"a' for array in ("[1]", "[1,1]") for text in texts))
    assert grammar.least.nbytes == len('"[[1]["a""a') + 1
