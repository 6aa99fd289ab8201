"""Grammars of the five other kinds (data/corpus.jsonl): the matcher, token by token, and the judge say what an
independent parser says of every text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig
from engine.errors import JudgingLimit, SchemaRefused
from engine.grammar import CompiledGrammar, GrammarService
from engine.grammar.masks.bitmask import BitmaskBuffer, legal
from engine.judge import judge_of
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

STOP = 256
CASES = [json.loads(line) for line in (Path(__file__).parent / "data" / "corpus.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    made = GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=tmp_path_factory.mktemp("corpus")))
    yield made
    made.close()


def accepts(grammar: CompiledGrammar, text: str) -> bool:
    """Whether every byte's bit is set in the mask and the matcher takes it, to the stop token."""
    matcher, row = grammar.matcher(), BitmaskBuffer(1, grammar.vocabulary.size).array
    for token in (*text.encode(), STOP):
        if not matcher.fill(row, 0) or not legal(row[0], token) or not matcher.accept(token):
            return False
    return matcher.terminated


def outcomes(service: GrammarService, case: dict[str, Any]) -> list[Any] | None:
    """(who, text, what it wrongly says); None where the grammar is refused by name."""
    constraint = getattr(Constraint, case["kind"])(case["source"])
    try:
        grammar = service.compile(constraint)
    except SchemaRefused as error:
        return None if "not enforced here" in error.message or "no document satisfies" in error.message else [error]
    judge = judge_of(constraint)
    assert judge is not None
    wrong = []
    for expected in (True, False):
        for text in case["accepted" if expected else "rejected"]:
            if accepts(grammar, text) is not expected:
                wrong.append(("matcher", text, not expected))
            if judge(text.encode()).valid is not expected:
                wrong.append(("judge", text, not expected))
    return wrong


@pytest.mark.parametrize("kind", ["regex", "ebnf", "lark", "structural_tag", "choice"])
def test_matcher_and_judge_say_what_an_independent_parser_says(kind: str, service: GrammarService) -> None:
    cases = [case for case in CASES if case["kind"] == kind]
    found = [(case["source"], outcomes(service, case)) for case in cases]
    assert [(source, wrong) for source, wrong in found if wrong] == []
    assert sum(wrong is None for _, wrong in found) <= len(cases) // 20


def test_the_corpus_is_large_and_has_both_outcomes_everywhere() -> None:
    kinds = Counter(case["kind"] for case in CASES)
    assert len(CASES) >= 400
    assert min(kinds[kind] for kind in ("regex", "ebnf", "lark", "structural_tag")) >= 90
    assert all(case["accepted"] and case["rejected"] for case in CASES)


@pytest.mark.parametrize("source", [
    'root ::= Regex("((a{1,100}){1,100}){1,100}")', 'root ::= s\ns ::= s s s | s s | "a"',
])  # fmt: skip
def test_a_text_that_would_take_for_ever_to_judge_is_a_typed_limit(source: str) -> None:
    judge = judge_of(Constraint.ebnf(source))
    assert judge is not None
    with pytest.raises(JudgingLimit):
        judge(b"a" * 500)
