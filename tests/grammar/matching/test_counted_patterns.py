"""Patterns whose repeats are counted: masks hold exactly the tokens that go on to some word, at random states."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from engine.grammar import CompiledGrammar, GrammarService
from engine.grammar.masks.bitmask import ids, words
from engine.judge import judge
from engine.request import Constraint
from engine.schema.automata.automaton import Automaton
from engine.schema.automata.tables import AutomatonTooLarge
from engine.schema.regex.counting_automaton import NotCountableError, counting_automaton, positions
from engine.schema.regex.parser import parse
from engine.schema.regex.pattern import from_pattern
from engine.schema.sets.pattern_counts import MANY_POSITIONS, counted_pattern
from tests.schema.generated_patterns import patterns, word

MADE = [made.pattern for made in patterns(200)]


def is_counted(pattern: str) -> bool:
    """Whether a pattern's repeats are counted, not its length; nor are they in states, or too many for that."""
    if positions(parse(pattern)) <= MANY_POSITIONS:  # in states, and making those takes long
        return False
    try:
        counting_automaton(pattern)
        strings = counted_pattern(pattern)
    except (NotCountableError, AutomatonTooLarge):
        return False
    return strings is not None and strings.pattern is not None


def expected(grammar: CompiledGrammar, automaton: Automaton, written: bytes) -> set[int]:
    """The tokens that go on from `written`, a beginning of a string, by the pattern's states."""
    state, left = read(automaton, 0, written[1:])
    texts = grammar.vocabulary.texts
    return {token for token, text in enumerate(texts) if text and goes_on(automaton, state, left + text)}


def read(automaton: Automaton, state: int | None, text: bytes) -> tuple[int | None, bytes]:
    """The state behind the whole characters of a text, spelled as json.dumps does, and what is left behind them."""
    at = 0
    while state is not None:
        end = next((end for end in range(at + 1, min(at + _LONGEST, len(text)) + 1) if text[at:end] in _WHOLE), None)
        if end is None:
            break
        state, at = automaton.run(_WHOLE[text[at:end]], state), end
    return state, text[at:]


def goes_on(automaton: Automaton, state: int | None, text: bytes) -> bool:
    """Whether some word goes on so, up to its closing quote."""
    state, left = read(automaton, state, text)
    if state is None or left in (b"", b'"'):
        return state is not None and (not left or state in automaton.accepting)
    return any(automaton.run(character, state) is not None for character in _BEGUN.get(left, ()))


_POINTS = (*range(0x800), *range(0x800, 0xD800, 0x40), *range(0xE000, 0x110000, 0x40))
_WHOLE = {json.dumps(chr(point), ensure_ascii=False)[1:-1].encode(): chr(point) for point in _POINTS}
_LONGEST = max(map(len, _WHOLE))
_BEGUN: dict[bytes, list[str]] = {}
for _written, _character in _WHOLE.items():
    for _end in range(1, len(_written)):
        _BEGUN.setdefault(_written[:_end], []).append(_character)


@pytest.mark.parametrize("number", range(200))
def test_masks_are_exact_at_random_states(byte_service: GrammarService, number: int) -> None:
    pattern = MADE[number]
    if not is_counted(pattern):
        pytest.skip("counted by its length, or in states")
    automaton = from_pattern(pattern)
    grammar = byte_service.compile(Constraint.json_schema({"type": "string", "pattern": pattern}))
    assert grammar.judge is None
    row = np.zeros((1, words(grammar.vocabulary.size)), dtype=np.int32)
    chance = random.Random(number)
    for _ in range(2):
        document = json.dumps(word(pattern, chance), ensure_ascii=False).encode()
        for cut in sorted(chance.randrange(1, len(document)) for _ in range(3)):
            matcher = grammar.matcher()
            for byte in document[:cut]:
                assert matcher.accept(byte), (document, cut)
            matcher.fill(row, 0)
            legal = set(ids(row[0]).tolist())
            wanted = expected(grammar, automaton, document[:cut])
            texts = grammar.vocabulary.texts
            assert legal == wanted, (document[:cut], [(texts[t], t in legal) for t in legal ^ wanted])
            text = (document[:cut] + matcher.text(matcher.shortest_ending())).decode()
            assert judge(grammar.constraint, text).valid, text


def embedded(schema: dict[str, Any]) -> list[tuple[Constraint, str, str]]:
    """A schema in a tag, in a parameter of a call and in Lark's %json: what stands before it and behind."""
    tag = {"type": "tag", "begin": "<a>", "content": {"type": "json_schema", "json_schema": schema}, "end": "</a>"}
    call = {"type": "object", "properties": {"p": {"type": "array", "items": schema}}, "required": ["p"]}
    parameters = {"type": "json_schema", "json_schema": call, "style": "qwen_xml"}
    return [
        (Constraint.structural_tag({"format": tag}), "<a>", "</a>"),
        (Constraint.structural_tag({"format": parameters}), "<parameter=p>\n[", "]\n</parameter>\n"),
        (Constraint.lark(f'start: "<" %json {json.dumps(schema)} ">"'), "<", ">"),
    ]


@pytest.mark.parametrize("number", range(1, 200, 10))
def test_an_embedded_pattern_is_counted_as_alone(byte_service: GrammarService, number: int) -> None:
    schema = {"type": "string", "pattern": MADE[number]}
    if not is_counted(MADE[number]):
        pytest.skip("counted by its length, or in states")
    alone = byte_service.compile(Constraint.json_schema(schema))
    row = np.zeros((1, words(alone.vocabulary.size)), dtype=np.int32)
    texts, chance = alone.vocabulary.texts, random.Random(number)
    within = {token for token, text in enumerate(texts) if text and b'"' not in text}
    for constraint, before, behind in embedded(schema):
        grammar = byte_service.compile(constraint)
        document = json.dumps(word(MADE[number], chance), ensure_ascii=False).encode()
        here, there = alone.matcher(), grammar.matcher()
        for byte in before.encode():
            assert there.accept(byte)
        for byte in document[:-1]:
            assert here.accept(byte)
            assert there.accept(byte)
        kept = []
        for _ in range(min(6, len(document) - 2)):
            here.fill(row, 0)
            legal = set(ids(row[0]).tolist())
            there.fill(row, 0)
            found = set(ids(row[0]).tolist())
            assert found & within == legal & within, document
            assert (document[-1] in found) == (document[-1] in legal)
            copy = there.fork()
            copy.fill(row, 0)
            assert set(ids(row[0]).tolist()) == found
            kept.append(found)
            here.rollback(1)
            there.rollback(1)
        for byte, found in zip(document[len(document) - 1 - len(kept) : -1], reversed(kept), strict=True):
            assert there.accept(byte)
            there.fill(row, 0)
            assert set(ids(row[0]).tolist()) == found
        for byte in document[-1:] + behind.encode():
            assert there.accept(byte), (document, behind)
