"""The keyword table of the docs is the one the code makes, and speaks of every keyword that asserts something."""

from __future__ import annotations

from pathlib import Path

from engine.schema.handled import HOW, table
from engine.schema.keywords import ASSERTIONS

DOCS = Path(__file__).parents[2] / "docs" / "schemas.md"


def test_the_table_in_the_docs_is_made_from_the_code() -> None:
    assert table() in DOCS.read_text(encoding="utf-8")


def test_every_asserting_keyword_is_described_once() -> None:
    assert sorted(HOW) == sorted(ASSERTIONS)
    assert len(set(ASSERTIONS)) == len(ASSERTIONS)
