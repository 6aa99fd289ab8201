"""Regular expressions, repeats and imports inside EBNF, Lark and structural tags: what XGrammar would get wrong."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import ConstraintError, SchemaRefused
from engine.grammar import GrammarService
from engine.grammar.compile.codec import decode, encode
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.store import maker
from engine.judge import judge_of
from engine.request import Constraint


def tag(**format_: Any) -> Constraint:
    return Constraint.structural_tag({"type": "structural_tag", "format": format_})


AB = "ab" * 200
LONG = [
    (Constraint.ebnf('root ::= "a"{129}'), ["a" * 129], ["a" * 128, "a" * 130]),
    (Constraint.ebnf("root ::= [a-zé]{129,300} [!]"), ["é" * 200 + "!"], ["é" * 128 + "!", "é" * 301 + "!"]),
    (Constraint.ebnf('root ::= x{200,} "c"\nx ::= "a" | "b"'), [AB + "c"], ["a" * 199 + "c"]),
    (Constraint.ebnf('root ::= ("a" | "bc"){0,500} "d"'), ["abc" * 250 + "d", "d"], ["abc" * 251 + "d"]),
    (Constraint.ebnf(r'root ::= Regex("[^\\x00-\\x1f]{0,10000}") "\n"'), ["a" * 300 + "\n"], ["a\n\n"]),
    (Constraint.lark('start: "a"{200}'), ["a" * 200], ["a" * 199, "a" * 201]),
    (Constraint.lark("start: /a{200}/"), ["a" * 200], ["a" * 199]),
    (Constraint.lark("start: /(ab){2,300}c/i"), ["abABc", AB + "C"], ["abc", "ab" * 301 + "c"]),
    (Constraint.lark('start: A{150}\nA: ("a" | "b"){2}'), ["ab" * 150], ["ab" * 149, "ab" * 150 + "a"]),
    (tag(type="regex", pattern="(ab){200}"), [AB], [AB + "a", AB[2:]]),
    (tag(type="repeat", min=129, max=500, content={"type": "const_string", "value": "ab"}), [AB], [AB[:256]]),
]
MEANT = [
    (Constraint.ebnf(r'root ::= Regex("-?(0|[1-9]\\d*)(\\.\\d+)?")'), ["-12.5", "0"], ["012", "1."]),
    (Constraint.ebnf('root ::= Regex("^a.$")'), ["ab", "a\n"], ["a"]),
    (Constraint.ebnf('root ::= Regex("a.b", flags="i")'), ["AxB", "a\u2028b"], ["a\nb"]),
    (Constraint.ebnf('root ::= Regex("[^a]", flags="i")'), ["b"], ["a", "A"]),
    (Constraint.ebnf(r'root ::= "\"" Regex("\\S+", json_string=true) "\""'), ['"ab"'], ['"a b"', '"\\"', '"a"b"']),
    (Constraint.ebnf(r'root ::= Regex("\\s[\\^a]{2}")'), ["\u3000^a", " aa"], ["x^a"]),
    (Constraint.ebnf('root ::= Regex("a", # of any case)\n flags="i") # Regex("b")'), ["a", "A"], ["b"]),
    (Constraint.ebnf('root ::= Regex(# a space\n "\\\\s")'), ["\u00a0", " "], ["s"]),
    (Constraint.ebnf(r"root ::= [^-_] [\^-a]"), ["^^", "a_"], ["-^", "_a", "a-"]),
    (Constraint.ebnf(r"root ::= [\^-\^] [\x5e-\^a] [\x005e-b] [^\^-\^]"), ["^^^a", "^abb"], ["a^^a", "^b^a", "^^^^"]),
    (Constraint.lark("start: X\n%import common.INT->X"), ["12"], ["a"]),
    (
        Constraint.lark('start: S->s | a-b->c\n%import common.ESCAPED_STRING->S\na-b: "->"'),
        ['"a"', "->"],
        ['"\n"', ">"],
    ),
    (Constraint.lark(r"start: /\s\w\d[^\s]./"), ["\ufeffa1bc", " _0é\r"], [" é1bc", " a1b\n"]),
    (Constraint.lark(r"start: /[\]\-^\/]+/"), ["]-^/", "^"], ["\\"]),
    (Constraint.lark("%import common.ESCAPED_STRING\nstart: ESCAPED_STRING"), [r'"a\"b"'], ['"a\nb"', '"a\\']),
    (Constraint.lark("%import common.ESCAPED_STRING -> TEXT\nstart: TEXT"), ['""'], ['"\n"']),
    (Constraint.lark("%import common . ESCAPED_STRING\nstart: ESCAPED_STRING"), ['""'], ['"\n"']),
    (Constraint.lark("start: %lark {\n%import common (ESCAPED_STRING)\nstart: ESCAPED_STRING\n}"), ['""'], ['"\n"']),
    (
        Constraint.lark("start: S I\n%import common (INT, ESCAPED_STRING)\nS: ESCAPED_STRING\nI: INT"),
        ['"a"1'],
        ['"\n"1'],
    ),
    (Constraint.lark(r"start: /a\//  // a comment with /slashes/" + '\n | "/x/"'), ["a/", "/x/"], ["a"]),
    (tag(type="regex", pattern=r"\p{Lu}."), ["Éa"], ["éa", "A\n"]),
    (tag(type="grammar", grammar='root ::= Regex("a|b")'), ["a"], ["ab"]),
]
REFUSED = [
    (Constraint.ebnf('root ::= Regex("foo(?!bar)[a-z]+")'), "lookaround"),
    (Constraint.ebnf('root ::= Regex("a^b")'), r"the anchor \^ in the middle"),
    (Constraint.ebnf('root ::= "a" Regex("a|b$c")'), r"the anchor \$ in the middle"),
    (Constraint.ebnf('root ::= a\na ::= "b" (= "c")'), "lookahead .* behind the rule 'a'"),
    (Constraint.ebnf("root[max_tokens=3] ::= [a-z]*"), "'max_tokens' of the rule 'root'"),
    (Constraint.ebnf("root ::= Token(5)"), "Token in line 1"),
    (Constraint.ebnf(r'root ::= "\ud83d\ude00"'), r"no such character: \\ud83d in line 1$"),
    (Constraint.ebnf(r'root ::= Regex("a", flags="\x69")'), "flags are letters"),
    (Constraint.ebnf('root ::= "a" | []'), "class that no character is in"),
    (Constraint.ebnf('root ::= "a" | b\nb ::= (b){2,}'), "the rule 'b', which derives no text"),
    (Constraint.lark(r"start: /\bfoo\b/"), "word edge"),
    (Constraint.lark(r"start: /(a)\1/"), "back-reference"),
    (Constraint.lark("start: /(?=a)b/"), "lookaround"),
    (Constraint.lark('start: "a" <|im_end|>'), "im_end"),
    (Constraint.lark("start[temperature=0.5]: /a/"), "'temperature' of the rule 'start'"),
    (Constraint.lark("start: /a/m"), "the flag 'm'"),
    (tag(type="regex", pattern="(?<=a)b"), "lookaround"),
    (tag(type="any_text", max_chars=5), "max_chars"),
    (tag(type="any_text", exclude=["a"]), "no field 'exclude'"),
    (tag(type="any_text", excludes=["a", ""]), "an excluded string must not be empty"),
    (
        tag(
            type="triggered_tags",
            triggers=["a"],
            tags=[{"begin": "a", "content": {"type": "any_text"}, "end": "b"}],
            at_least_one=True,
            stop_after_first=True,
            excludes=[""],
        ),
        "an excluded string must not be empty",
    ),
    (tag(type="token", token=5), "token ids"),
    (
        tag(type="dispatch", rules=[["<a", {"type": "any_text"}], ["<ab", {"type": "any_text"}]]),
        "'<a' is a part of '<ab'",
    ),
]

EMPTY = [
    Constraint.ebnf("root ::= (root){2,}"),
    Constraint.ebnf("root ::= a\na ::= (b){3}\nb ::= a{2,5}"),
    Constraint.ebnf('root ::= "a" b\nb ::= (b){2}'),
    Constraint.lark("start: start~2"),
    Constraint.lark("start: (a)\na: (start){2,}"),
    tag(type="grammar", grammar="root ::= root{129}"),
]


def accepts(service: GrammarService, constraint: Constraint, text: str) -> bool:
    grammar = service.compile(constraint)
    found = grammar.accepts(text.encode())
    judge = judge_of(constraint)
    assert judge is not None
    assert judge(text.encode()).valid is found, text
    return found


@pytest.mark.parametrize(
    ("constraint", "good", "bad"), [*LONG, *MEANT], ids=lambda value: getattr(value, "source", None)
)
def test_the_matcher_and_the_judge_agree(
    constraint: Constraint, good: list[str], bad: list[str], byte_service: GrammarService
) -> None:
    assert [accepts(byte_service, constraint, text) for text in (*good, *bad)] == [True] * len(good) + [False] * len(
        bad
    )


@pytest.mark.parametrize(("constraint", "good", "bad"), LONG, ids=lambda value: getattr(value, "source", None))
def test_what_is_written_can_be_read_back(
    constraint: Constraint, good: list[str], bad: list[str], byte_service: GrammarService
) -> None:
    grammar = byte_service.compile(constraint)
    stored = decode(encode(grammar.compiled), byte_service._maker.compiler)
    again = CompiledGrammar(constraint, "again", stored, grammar.vocabulary)
    assert [again.accepts(text.encode()) for text in (*good, *bad)] == [True] * len(good) + [False] * len(bad)


@pytest.mark.parametrize(("constraint", "named"), REFUSED, ids=lambda value: getattr(value, "source", None))
def test_what_the_matcher_would_ignore_is_refused_by_name(
    constraint: Constraint, named: str, byte_service: GrammarService, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConstraintError, match=named) as caught:
        byte_service.compile(constraint)
    assert caught.value.status_code == 422
    assert capfd.readouterr().err == ""  # no warning that only the server's terminal shows


def test_a_refusal_in_a_tag_points_at_the_part(byte_service: GrammarService) -> None:
    part = {"type": "regex", "pattern": "a(?=b)"}
    constraint = tag(type="tag", begin="<a>", content={"type": "sequence", "elements": [part]}, end="</a>")
    with pytest.raises(SchemaRefused) as caught:
        byte_service.compile(constraint)
    assert caught.value.pointer == "/format/content/elements/0"


def test_a_large_repeat_goes_through_the_worker_and_the_disk(
    byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maker, "_WORTH_STORING_S", 0.0)
    constraint = Constraint.lark("start: /(?:[a-z]{2,150},){100,140}x/i")
    assert byte_service.compile(constraint).accepts(b"aB," * 120 + b"X")
    byte_service.flush()
    stored = byte_service.disk.get(byte_service.key(constraint), byte_service._maker.compiler)
    assert stored is not None
    again = CompiledGrammar(constraint, "again", stored, byte_service.vocabulary)
    assert again.accepts(b"aB," * 120 + b"X")
    assert not again.accepts(b"aB," * 99 + b"X")


@pytest.mark.parametrize("constraint", EMPTY, ids=lambda constraint: constraint.source)
def test_a_grammar_of_repeats_of_itself_alone_has_no_document(
    constraint: Constraint, byte_service: GrammarService
) -> None:
    with pytest.raises(SchemaRefused, match="no document satisfies this constraint"):
        byte_service.compile(constraint)
