"""The keyword table of the docs speaks of every keyword that asserts something, and names the limits of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.schema.containers import arrays, listed, parameter_objects
from engine.schema.reading.keywords import ASSERTIONS
from engine.schema.semantics import applicators, object_keywords
from engine.schema.sets import lengths, object_forms

DOCS = Path(__file__).parents[3] / "docs" / "schemas.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in DOCS.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]
LIMITS = {
    "minLength": (lengths.FOLDED_STATES, lengths.FOLDED_LENGTH),
    "maxLength": (lengths.FOLDED_LENGTH,),
    "minItems": (arrays.MOST_REQUIRED, arrays.COUNTED),
    "maxItems": (arrays.COUNTED,),
    "uniqueItems": (listed.FEW,),
    "unevaluatedItems": (applicators.SUBSETS,),
    "required": (parameter_objects.TRACKED,),
    "patternProperties": (object_keywords.KEY_CLASSES, object_keywords.WIDE_KEYS),
    "dependentRequired": (object_forms.DIVIDED,),
    "dependentSchemas": (applicators.SPLITS,),
    "unevaluatedProperties": (applicators.SUBSETS,),
}


def test_every_asserting_keyword_is_described_once_and_in_order() -> None:
    asserting = [row for row in ROWS if row[0].strip("`") in ASSERTIONS]
    assert [row[0].strip("`") for row in asserting] == [*ASSERTIONS]
    assert all(len(row) == 3 and all(row) for row in asserting)


@pytest.mark.parametrize("keyword", ASSERTIONS)
def test_a_row_names_the_limits_of_the_code_and_no_other(keyword: str) -> None:
    (row,) = [row for row in ROWS if row[0] == f"`{keyword}`"]
    said = re.sub(r"\bdrafts? [\d-]+( and \d)?|,", "", " ".join(row[1:]))
    assert [int(number) for number in re.findall(r"(?<![\w.-])\d+(?![\w.])", said)] == [*LIMITS.get(keyword, ())]
