"""What a grammar can say in short: a rule and its narrow form, a mode that goes on as another."""

from __future__ import annotations

import pytest

from engine.syntax.language import Language
from engine.syntax.reading import begin
from engine.syntax.state import State

HEADERS = r"""
unit module = loop
mode line *
    skip /[ \n]+/
    NAME /[a-z]+/ -> goto after
mode after
    skip / +/
    NEWLINE /\n/ -> goto line
    otherwise -> goto line
loop: 'if' sum^ '{' (sum NEWLINE)* '}'
sum^: item^ % '+'
item: NAME | NAME '{' '}' | '(' sum ')'
item_narrow: NAME | '(' sum ')'
"""


@pytest.mark.parametrize(("text", "good"), [
    ("if a + b { a{} + b\n}", True),
    ("if (a{} + b) {}", True),
    ("if a +\n b {\n\n}", True),
    ("if a{} + b {}", False),
    ("if a { b + c }", False),
    ("if a\n {}", False),
])  # fmt: skip
def test_rules_told_twice_and_modes_that_go_on(text: str, good: bool) -> None:
    language = Language(HEADERS)
    assert State(language, False, (begin(language.units["module"]),)).feed(text).whole is good
