"""What a mask depends on is bounded by what one token can reach, however deep the document is."""

from __future__ import annotations

from engine import Constraint
from engine.grammar import GrammarService

LIST = {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "maxItems": 5}}, "$ref": "#/$defs/a"}


def test_what_a_mask_depends_on_does_not_grow_with_the_depth(byte_service: GrammarService) -> None:
    grammar = byte_service.compile(Constraint.json_schema(LIST))
    assert grammar.narrowing is not None
    sizes = []
    for depth in (20, 200):
        track = grammar.track()
        assert track is not None
        track.push(b"[" * depth)
        view = grammar.narrowing.view(track.at)
        assert view is not None
        sizes.append(len(repr(view)))
    assert sizes[1] < sizes[0] + 20
