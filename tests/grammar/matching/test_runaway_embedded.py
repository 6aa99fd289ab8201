"""Run-away values are ended inside Lark grammars and structural tags as they are in documents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.config import EngineConfig, Limits
from engine.grammar import GrammarService
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    limits = Limits(string_chars=20, array_items=5)
    made = GrammarService(
        byte_tokenizer(), 258, config=EngineConfig(cache_dir=tmp_path_factory.mktemp("runaway"), limits=limits)
    )
    yield made
    made.close()


def over_at(service: GrammarService, constraint: Constraint, text: str) -> int | None:
    """Bytes after which a matcher says that the document must be ended; None where it never does."""
    matcher = service.compile(constraint).matcher()
    for index, byte in enumerate(text.encode()):
        assert matcher.accept(byte), text[:index]
        if not matcher.fits(1_000):
            return index + 1
    return None


ARRAY = {"type": "json_schema", "json_schema": {"type": "array"}}
TAG = {"type": "tag", "begin": "<a>", "content": ARRAY, "end": "</a>"}


@pytest.mark.parametrize(
    ("constraint", "begin"),
    [
        (Constraint.json_schema(True), ""),
        (Constraint.lark("start: %json true"), ""),
        (Constraint.lark('start: "<" inner ">"\ninner: %json true | "x"'), "<"),
        (Constraint.lark('start: "a"* "[" %json true "]"'), "a" * 30 + "["),
    ],
)
def test_a_string_that_does_not_end_is_ended_wherever_it_stands(
    service: GrammarService, constraint: Constraint, begin: str
) -> None:
    found = over_at(service, constraint, begin + '"' + "a" * 40)
    assert found == len(begin) + 1 + 21


def test_free_text_around_a_document_is_no_value(service: GrammarService) -> None:
    tags = {"type": "triggered_tags", "triggers": ["<a>"], "tags": [TAG], "at_least_one": False}
    constraint = Constraint.structural_tag({"format": tags})
    assert over_at(service, constraint, 'he said "' + "a" * 60 + "[1,1,1,1,1,1,1,1,1]") is None
    found = over_at(service, constraint, 'he said "<a>[' + "1," * 20)
    assert found is not None
    assert over_at(service, constraint, 'he said "<a>[1,2]</a> and "' + "b" * 60 + "<a>[1]</a>") is None
