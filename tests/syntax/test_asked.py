"""What is asked of texts: every unit has a short text of it, and the judge agrees."""

from __future__ import annotations

import pytest

from engine.checks import lift
from engine.syntax import LANGUAGES, Syntax
from engine.syntax.asked.reference import problem, target

EVERY = [Syntax(language, unit) for language, units in LANGUAGES.items() for unit in sorted(units)]


@pytest.mark.parametrize("syntax", EVERY, ids=lambda syntax: f"{syntax.language}-{syntax.unit}")
def test_each_unit_has_a_short_text(syntax: Syntax) -> None:
    assert syntax.shortest is not None
    assert problem(syntax, syntax.shortest) is None
    assert target(syntax).startswith("engine.syntax.asked.reference:")


def test_lift_s_five_code_schemas_have_places_in_their_language() -> None:
    assert {name for name, table in lift.SYNTAX.items() if table} == {
        f"{language}_generation" for language in ("python", "typescript", "rust", "go", "java")
    }
