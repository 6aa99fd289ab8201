"""What a stranger can ask of a judge costs counted steps, in proportion to what was sent; or it is refused by name.

Steps are counted, not seconds: the same on every machine.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import JudgingLimit, LimitExceeded
from engine.judge import judge_of
from engine.judge.notations.ebnf import ebnf_grammar
from engine.judge.notations.structural_tag import tag_grammar
from engine.judge.recogniser.earley import recognises
from engine.judge.recogniser.productions import Productions
from engine.judge.recogniser.work import STEPS, Work
from engine.request import Constraint


def steps(grammar: Productions, text: str) -> int:
    work = Work()
    assert recognises(grammar, text, work)
    return STEPS - work.left


def tag(format_: Any) -> Productions:
    source = Constraint.structural_tag({"format": format_}).source
    return tag_grammar(source, lambda *_: pytest.fail("no JSON is in it"))


def test_free_texts_in_a_row_cost_no_more_than_each_alone() -> None:
    one, many = [steps(tag({"type": "sequence", "elements": [{"type": "any_text"}] * n}), "x" * 200) for n in (1, 100)]
    assert many < 150 * one
    excluding = [{"type": "any_text", "excludes": [f"{n}z"]} for n in range(100)]
    assert steps(tag({"type": "sequence", "elements": excluding}), "x" * 200) < 150 * one
    with pytest.raises(JudgingLimit):
        recognises(tag({"type": "sequence", "elements": [{"type": "any_text"}] * 50_000}), "x" * 200, Work(20_000))


def test_free_texts_in_a_row_take_what_each_of_them_may_hold() -> None:
    pair = [{"type": "any_text", "excludes": ["ab"]}, {"type": "any_text", "excludes": ["ba"]}]
    grammar = tag({"type": "sequence", "elements": pair})
    for text, expected in (("aabb", True), ("bab", True), ("bbaab", True), ("abab", False), ("baba", False)):
        found = any("ab" not in text[:at] and "ba" not in text[at:] for at in range(len(text) + 1))
        assert found is expected
        assert recognises(grammar, text, Work()) is expected, text


def test_many_triggers_are_looked_for_once_a_place() -> None:
    names = [f"<t{n}>" for n in range(500)]
    tags = [{"begin": name, "content": {"type": "any_text"}, "end": "</t>"} for name in names]
    text = "xx<t5>abc</t>" * 20
    few = steps(tag({"type": "triggered_tags", "triggers": names[:10], "tags": tags[:10]}), text)
    assert steps(tag({"type": "triggered_tags", "triggers": names, "tags": tags}), text) < 100 * few


def test_a_thousand_alternatives_cost_a_thousand() -> None:
    few, many = [
        steps(ebnf_grammar("root ::= " + " | ".join(f'"word{i}"' for i in range(n))), "word5") for n in (20, 2000)
    ]
    assert many < 150 * few


def test_a_pattern_too_large_for_the_judge_is_refused_by_name() -> None:
    with pytest.raises(LimitExceeded, match="too large to be judged") as refused:
        judge_of(Constraint.regex("((a{0,100}b){0,100}c){0,100}"))
    assert refused.value.param == "regex"
    with pytest.raises(LimitExceeded, match="too large to be judged"):
        judge_of(Constraint.json_schema({"pattern": "((a{0,100}b){0,100}c){0,100}"}))
