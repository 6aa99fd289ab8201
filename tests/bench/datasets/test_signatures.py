"""The committed requests are answerable as asked, and the checks tell right signatures from wrong ones."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from bench.datasets.signatures import FIELDS, SCHEMA, Task, agreement, check_signature, parsed_type, read_tasks

TASKS = read_tasks()


def test_there_are_at_least_sixty_different_requests() -> None:
    assert len(TASKS) >= 60
    assert len({task.id for task in TASKS}) == len({task.prompt for task in TASKS}) == len(TASKS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_a_request_names_everything_it_expects_and_its_answer_passes(task: Task) -> None:
    jsonschema.validate(task.expect, SCHEMA)
    assert check_signature(json.loads(task.gold), task.expect) == dict.fromkeys(FIELDS, True)
    for word in (task.expect["name"], *(parameter["name"] for parameter in task.expect["parameters"])):
        assert word in task.prompt, word
    for text in (task.expect["returns"], *(parameter["type"] for parameter in task.expect["parameters"])):
        assert parsed_type(text) is not None


EXPECT: dict[str, Any] = {
    "name": "find_user",
    "parameters": [{"name": "users", "type": "dict[int, str]"}, {"name": "user_id", "type": "int"}],
    "returns": "str | None",
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**copy.deepcopy(EXPECT), **parts}


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        (changed(name="findUser"), {"name"}),
        (changed(returns="str"), {"returns"}),
        (changed(returns="str or none at all"), {"returns"}),
        (changed(parameters=[]), {"parameters", "types"}),
        (changed(parameters=EXPECT["parameters"][::-1]), {"parameters", "types"}),
        (changed(parameters=[{"name": "users", "type": "dict"}, EXPECT["parameters"][1]]), {"types"}),
        (changed(parameters=[{"name": "people", "type": "dict[int, str]"}, EXPECT["parameters"][1]]), {"parameters"}),
    ],
)
def test_every_kind_of_mistake_is_seen(document: dict[str, Any], wrong: set[str]) -> None:
    assert {name for name, right in check_signature(document, EXPECT).items() if not right} == wrong | {"all"}


@pytest.mark.parametrize("document", [None, 3, [], "find_user", {}, {"parameters": 1}])
def test_what_is_no_signature_is_all_wrong(document: Any) -> None:
    assert not any(check_signature(document, EXPECT).values())


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("List[integer]", "list[int]"),
        ("typing.List[ str ]", "list[str]"),
        ("Optional[string]", "str | None"),
        ("Dict[str,int]", "dict[str, int]"),
        ("null", "None"),
        ("None", "None"),
        ("str|None", "str | None"),
        ("list of int", None),
        ("", None),
        ("(" * 500, None),
        (None, None),
    ],
)
def test_types_are_compared_by_meaning_where_spelling_is_free(text: str | None, canonical: str | None) -> None:
    assert parsed_type(text) == canonical


def test_checking_runs_nothing_that_a_model_wrote() -> None:
    assert parsed_type("__import__('os').abort()") is not None  # parsed, never evaluated


def test_agreement_is_exact() -> None:
    assert all(agreement(EXPECT, copy.deepcopy(EXPECT)).values())
    fields = agreement(changed(returns="str|None"), EXPECT)
    assert fields == {"name": True, "parameters": True, "returns": False, "all": False}
    assert not agreement(None, EXPECT)["all"]
