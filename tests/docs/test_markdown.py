"""Markdown that is shown as it was meant: links and files that are named exist, tables are whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "schemas" / "README.md"]


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_table_has_a_head(document: Path) -> None:
    """Rows that a blank line parts from their table are shown as text."""
    for table in re.findall(r"(?:^\|.*\n)+", document.read_text(), re.MULTILINE):
        assert re.search(r"\A.*\n\|[-:| ]+\|\n", table), table


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(document: Path) -> None:
    """From the root, or from `engine/` or `engine/model/` where a page is about these."""
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", document.read_text()):
        assert any((place / name).exists() for place in (ROOT, ROOT / "engine", ROOT / "engine" / "model")), name
