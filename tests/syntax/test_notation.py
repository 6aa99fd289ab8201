"""A toy language: what a grammar can say, and that errors are found at the character that makes them."""

from __future__ import annotations

import pytest

from engine.syntax.language import Language
from engine.syntax.reading import begin
from engine.syntax.state import State

TOY = r"""
# statements on lines, with blocks, names that are keywords too, templates, patterns and comments
unit module = file in begin
unit body = file in begin loose
unit expression = expr in line
soft 'match'
end NEWLINE
layout INDENT DEDENT

mode begin
    space /[ \t]+/
    skip /\n|#[^\n]*/ -> goto begin
    otherwise -> goto line
mode line *
    skip /[ \t]+/
    NAME /[^\W\d]\w*/
    NUMBER /\d+(\.\d+)?/
    PATTERN /\/[^\/\n]+\//
    context PATTERN not '/'
    NEWLINE /\n/ -> goto begin
    '(' -> push bracket
    '"' -> push text
mode bracket *
    include line
    skip /\s+/
    ')' -> pop
    without NEWLINE
mode field *
    include bracket
    '}' -> pop
mode text
    TEXT /[^"{}\n]+/
    '{' -> push field
    '"' -> pop

file: statement*
statement: expr NEWLINE
    | 'if' expr ':' block
    | 'match' NAME ':' block
block: NEWLINE INDENT statement+ DEDENT | NEWLINE? OPEN
expr: unary (('+' | '-' | '/' | '..') unary)*
unary: '-'* primary
primary: (NAME | 'match' | NUMBER | PATTERN | '(' (expr % ',' ','?)? ')' | template) ('(' expr ')')*
template: '"' (TEXT | '{' expr '}')* '"'
"""


@pytest.fixture(scope="module")
def language() -> Language:
    return Language(TOY)


def begun(language: Language, unit: str, *, partial: bool = False) -> State:
    return State(language, partial, (begin(language.units[unit]),))


def alive_up_to(state: State, text: str) -> int:
    """Characters before the text is dead."""
    for index, character in enumerate(text):
        state = state.feed(character)
        if not state.alive:
            return index
    return len(text)


WHOLE = [
    "",
    "a\n",
    "a",
    "a + b\n# c\n\n   # d\nif a:\n  b\n\n  c\nd",
    "if a:\n  if b:\n  \tc\n",
    "match + match(match)\nmatch a:\n match",
    "(a,\n b,\n)\n",
    'f("x{ (1, 2) }y{"z"}")',
    "/a b/ / 2 / /c/",
    "1..2",
    "ifs",
]


@pytest.mark.parametrize("text", WHOLE)
def test_valid_texts_are_alive_throughout_and_whole(language: Language, text: str) -> None:
    state = begun(language, "module")
    assert alive_up_to(state, text) == len(text)
    assert state.feed(text).whole


@pytest.mark.parametrize(("text", "good"), [
    ("a b", 2),
    ("if a\n", 4),
    ("if a:\nb", 6),
    ("  a", 2),
    ("if a:\n  b\n c", 11),
    ("if a:\n  if b:\n\tc", 15),
    ("if a:\n        b\n\tc", 17),
    ("(a,,", 3),
    ("a)", 1),
    ('"a\n', 2),
    ('"a}', 2),
    ("a / /b/c", 7),
    ("1.x", 2),
    ("a $", 2),
    ("match a + b:", 8),
    ("match a: b", 9),
])  # fmt: skip
def test_an_error_is_found_where_it_is_made(language: Language, text: str, good: int) -> None:
    assert alive_up_to(begun(language, "module"), text) == good
    assert not begun(language, "module").feed(text).feed("a\n").alive


@pytest.mark.parametrize("text", ["(", "a +", 'f("x{', "if a:", "if a:\n", "if a:\n  match", "/a", "1."])
def test_what_is_not_finished_is_alive_and_not_whole(language: Language, text: str) -> None:
    state = begun(language, "module").feed(text)
    assert state.alive
    assert state.whole is (text == "if a:\n  match")


def test_pieces_make_no_difference(language: Language) -> None:
    for text in WHOLE:
        for cut in range(len(text)):
            assert begun(language, "module").feed(text[:cut]).feed("").feed(text[cut:]).whole


def test_a_loose_unit_takes_its_column_from_the_first_line(language: Language) -> None:
    assert begun(language, "body").feed("\n   a\n   b").whole
    assert not begun(language, "body").feed("\n   a\n  b").alive
    assert not begun(language, "module").feed("\n   a").alive


def test_a_header_is_enough_when_part_of_a_text_is_asked_for(language: Language) -> None:
    for text in ("if a:", "if a:\n", "if a:\n  if b:\n # c"):
        assert begun(language, "module", partial=True).feed(text).whole
        assert not begun(language, "module").feed(text).whole
    assert not begun(language, "module", partial=True).feed("if a").whole


def test_an_expression_is_not_a_module(language: Language) -> None:
    assert begun(language, "expression").feed(" a + b").whole
    assert not begun(language, "expression").feed("a\n").alive


def test_a_state_does_not_grow_with_the_text(language: Language) -> None:
    state = begun(language, "module")
    sizes = []
    for _ in range(300):
        state = state.feed('if a:\n  f("x{b}")\nmatch\n')
        sizes.append(state.size)
    assert max(sizes) == sizes[2]


@pytest.mark.parametrize(
    "wrong", ["a: b", "unit u = a\na: a 'x'", "what 1", "mode m\n    NAME [a-z]", "a: 'x' )", "a: *"]
)
def test_a_grammar_that_makes_no_sense_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="grammar"):
        Language(wrong)


def test_too_many_readings_admit_everything() -> None:
    symbols = " | ".join(f"n{i} 'x' 'e{i}'" for i in range(100))
    rules = "\n".join(f"n{i}: 'a'" for i in range(100))
    text = f"unit u = s\nmode m *\n    skip /b/\ns: {symbols}\n{rules}"
    state = begun(Language(text), "u").feed("axe")
    assert state.lost
    assert state.alive
    assert state.feed("????").whole
