"""`x-syntax` and media types of languages: verdicts, what is refused by name, and the judge."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import SchemaRefused
from engine.schema.lower import lower
from engine.schema.reading.validator import Validator


def python(unit: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "x-syntax": {"language": "python", "unit": unit, **more}}


PYTHON = python("expression")
MODULE = {"type": "string", "contentMediaType": "text/x-python"}
SEVEN = {"$schema": "http://json-schema.org/draft-07/schema#"}
FOUR = {"$schema": "http://json-schema.org/draft-04/schema#"}


def verdicts(schema: Any) -> dict[tuple[str, str], str]:
    lowered = lower(schema, whitespace="compact", conformance="tight")
    return {(found.pointer, found.keyword): found.verdict for found in lowered.verdicts}


@pytest.mark.parametrize(("schema", "where"), [
    (PYTHON, ("", "x-syntax")),
    (MODULE, ("", "contentMediaType")),
    ({**SEVEN, **MODULE}, ("", "contentMediaType")),
    ({**FOUR, **PYTHON}, ("", "x-syntax")),
    ({"anyOf": [{"type": "integer"}, PYTHON]}, ("", "anyOf")),
    ({"not": PYTHON}, ("", "not")),
    ({"$ref": "#/$defs/a", "$defs": {"a": PYTHON}}, ("/$defs/a", "x-syntax")),
])  # fmt: skip
def test_a_text_in_a_language_is_checked_and_so_is_what_depends_on_it(schema: Any, where: tuple[str, str]) -> None:
    assert verdicts(schema)[where] == "checked"


def test_a_media_type_beside_it_or_of_nothing_followed_asks_for_nothing() -> None:
    both = {**PYTHON, "contentMediaType": "text/x-python"}
    assert verdicts(both)[("", "contentMediaType")] == "enforced"
    assert verdicts(both)[("", "x-syntax")] == "checked"
    assert Validator(both).check('"f(x)"').ok
    assert Validator({**FOUR, **MODULE}).check('"f("').ok, "draft 4 has no such keyword"
    assert Validator({"type": "string", "contentMediaType": "text/html"}).check('"f("').ok


@pytest.mark.parametrize(("given", "named"), [
    ("python", "must be an object, got str"),
    ({}, "needs a language"),
    ({"language": "cobol"}, "language 'cobol' is not followed; there is: "),
    ({"language": "python", "unit": "verb"}, "unit 'verb' of python is not followed; there is: module, statements"),
    ({"language": "python", "dialect": "2"}, "python has no dialects, not '2'"),
    ({"language": "python", "partial": 1}, "partial must be true or false"),
    ({"language": ["python"]}, "language must be"),
    ({"language": "python", "lenient": True}, "a syntax has no 'lenient'"),
    (None, "must be an object, got NoneType"),
    ({"language": "go", "x" * 9999: True}, "a syntax has no 'xxxx"),
    ({"language": "sql", "dialect": "x" * 9999}, "not as 'xxxx"),
])  # fmt: skip
def test_what_is_not_followed_is_refused_by_name(given: Any, named: str) -> None:
    with pytest.raises(SchemaRefused) as caught:
        verdicts({"type": "object", "properties": {"a": {"type": "string", "x-syntax": given}}})
    assert named in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.pointer == "/properties/a/x-syntax"


def test_the_judge_refuses_it_by_name_too() -> None:
    with pytest.raises(SchemaRefused, match="x-syntax must be an object, got int") as caught:
        Validator({"type": "object", "properties": {"a": {"type": "string", "x-syntax": 5}}})
    assert caught.value.pointer == "/properties/a/x-syntax"


@pytest.mark.parametrize("other", [python("body"), MODULE, PYTHON])
def test_a_one_of_that_nothing_but_a_language_decides_is_refused(other: Any) -> None:
    schema = {"type": "array", "items": {"oneOf": [{"type": "null"}, PYTHON, other]}}
    with pytest.raises(SchemaRefused, match="say anyOf") as caught:
        verdicts(schema)
    assert caught.value.pointer == "/items/oneOf"
    schema["items"]["oneOf"][2] = {**other, "maxLength": 3}
    schema["items"]["oneOf"][1] = {**PYTHON, "minLength": 4}
    assert verdicts(schema)[("/items/oneOf/1", "x-syntax")] == "checked"
    assert Validator(schema).check('["f(x)", "f"]').ok


@pytest.mark.parametrize(("beside", "named"), [
    (SEVEN | {"contentEncoding": "base64"}, "contentEncoding"),
    ({"x-syntax": {"language": "go"}}, "x-syntax"),
])  # fmt: skip
def test_a_media_type_that_asks_for_nothing_says_what_stands_beside_it(beside: Any, named: str) -> None:
    found = {verdict.keyword: verdict.reason for verdict in lower({**MODULE, **beside}).verdicts}
    assert found["contentMediaType"] == f"an annotation, which asks for nothing: {named} stands beside it"


def test_a_property_of_that_name_is_no_keyword() -> None:
    schema = {"type": "object", "properties": {"x-syntax": {"type": "string"}}}
    assert Validator(schema).check('{"x-syntax":"f("}').ok
    assert "checked" not in verdicts(schema).values()


@pytest.mark.parametrize(("schema", "text", "ok"), [
    (PYTHON, '"f(x)"', True),
    (PYTHON, '"f(x]"', False),
    (PYTHON, '""', False),
    (MODULE, '""', True),
    (MODULE, '"def f():\\n    return 1\\n"', True),
    (MODULE, '"def f():\\nreturn 1\\n"', False),
    ({**PYTHON, "contentMediaType": "application/json"}, '"f(x)"', True),
    ({"type": ["string", "null"], "x-syntax": {"language": "python", "unit": "type"}}, "null", True),
    (python("signature"), '"async def f(a: int) -> str:"', True),
    (python("signature"), '"f(a)"', True),
    (python("signature"), '"f(a): return"', False),
    (python("body"), '"    x = 1\\n    return x"', True),
    (python("body"), '"    x = 1\\n  return x"', False),
    (python("statement"), '"x = 1\\ny = 2"', False),
    (python("statements", partial=True), '"for x in y:"', True),
    (python("statements"), '"for x in y:"', False),
    (python("statements"), '"    x = 1\\ny = 2"', False),
    (python("statements"), '"    x\\nelse:\\n    y"', False),
    (python("body"), '"# c\\n    return x"', True),
    (python("statements"), '"\\fx = 1"', True),
    (python("statements"), '"  # c"', True),
    (python("type"), '"str, str"', False),
    (python("type"), '"str = 1"', False),
    (python("type"), '"str;"', False),
    (python("expression"), '"a\\n    "', True),
    (python("expression"), '"# c\\n  x"', True),
    (python("expression"), '"\u00a0x"', False),
    (python("signature"), '"def f(a):  # c"', True),
    (python("signature"), '"f(a, b=\'#:\')  # c"', True),
    (python("signature"), '"f(a): pass #"', False),
    (python("statements", partial=True), '"for x in y:  # c"', True),
    (python("statements", partial=True), '"if x:\\n\\ttry:"', True),
    (python("body", partial=True), '"    match x:"', True),
    (python("statements", partial=True), '"if (a\\nand b):  # c"', True),
    (python("statements", partial=True), '"def f():\\n\u00a0"', False),
])  # fmt: skip
def test_the_judge_parses_it(schema: Any, text: str, ok: bool) -> None:
    found = Validator(schema).check(text)
    assert found.ok is ok
    assert ok or found.keyword in ("x-syntax", "contentMediaType")
