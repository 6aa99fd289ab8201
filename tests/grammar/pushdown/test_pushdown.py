"""Grammars that stand in many places at once cost little for each, or are given up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from engine.grammar.pushdown.byte_grammar import Symbols
from engine.grammar.pushdown.pushdown import LostWay, Pushdown, Stack
from engine.grammar.vocabulary.shortest_tokenization import Segmenter
from engine.schema.lower import lower


def ambiguous(n: int) -> dict[str, Any]:
    """Two kinds of array on each of n levels, which only what follows the next level tells apart."""
    definitions: dict[str, Any] = {f"d{n}": {"type": "null"}}
    for level in range(n):
        below = {"$ref": f"#/$defs/d{level + 1}"}
        kinds = [{"prefixItems": [below, {"const": k}], "items": False, "minItems": 2} for k in range(2)]
        definitions[f"d{level}"] = {"type": "array", "anyOf": kinds}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


SEGMENTER = Segmenter.of({bytes((byte,)): byte for byte in range(256)})


def followed(schema: Any, text: bytes) -> list[int]:
    """The number of stacks behind every byte."""
    pushdown = Pushdown(Symbols(lower(schema).grammar, SEGMENTER))
    place, counts = pushdown.start, []
    for byte in text:
        place = pushdown.run(place, bytes((byte,)))
        counts.append(len(place.stacks))
    return counts


def test_what_follows_a_byte_is_found_once_for_a_rule_however_many_stacks_it_is_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    derived: Counter[tuple[object, int]] = Counter()
    derive = Pushdown._derive

    def counted(self: Pushdown, stack: Stack, byte: int, reached: dict[Stack, None]) -> None:
        derived[stack.symbol, byte] += 1
        derive(self, stack, byte, reached)

    monkeypatch.setattr(Pushdown, "_derive", counted)
    counts = followed(ambiguous(8), b"[" * 8 + b"null,1]")
    assert max(counts) >= 256
    assert set(derived.values()) == {1}
    assert sum(derived.values()) < sum(counts) / 4


def test_a_grammar_with_too_many_places_at_once_is_given_up() -> None:
    with pytest.raises(LostWay):
        followed(ambiguous(14), b"[" * 14)
