"""What the checks for LIFT's schemas find, and that they let pass what those schemas' own examples hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine import Constraint
from engine.bundled import bundled_folder, bundled_names, bundled_schema
from engine.checks import lift
from engine.checks.call import call
from engine.checks.closed_values import ClosedValues
from engine.checks.reach import first_unmet
from engine.checks.service import _target_of
from engine.pointer import steps
from engine.syntax.asked.reference import problem


def failures(name: str, document: Any) -> list[tuple[str, str]]:
    """(pointer, message) of each value that a check finds wrong, or cannot be asked about."""
    text, checks = json.dumps(document).encode(), list(lift.CHECKS[name].items())
    found = []
    for closed in ClosedValues([steps(pointer) for pointer, _ in checks]).read(text, ended=True):
        said = call(checks[closed.watch][1], closed.pointer, text[: closed.end] + closed.closers)
        if said != {"message": None}:
            found.append((closed.pointer, said.get("message") or said["failed"]))
    return found


def examples() -> Iterator[Any]:
    for name in bundled_names():
        for number, line in enumerate((bundled_folder() / f"{name}.valid.jsonl").read_text().splitlines()):
            yield pytest.param(name, json.loads(line), id=f"{name}-{number}")


def test_each_schema_has_checks_at_places_that_it_has() -> None:
    assert set(lift.CHECKS) == set(bundled_names())
    for name, checks in lift.CHECKS.items():
        for pointer, check in checks.items():
            assert first_unmet(json.dumps(bundled_schema(name)), (pointer,), closed=True) is None
            assert _target_of(check) == f"engine.checks.lift:{check.__name__}"
        assert len(Constraint.json_schema(bundled_schema(name), checks=checks).checks) == len(checks)


@pytest.mark.parametrize(("name", "document"), list(examples()))
def test_examples_pass_but_for_declarations_that_declare_nothing(name: str, document: Any) -> None:
    text = json.dumps(document)
    empty = text.count('"signature": ""')
    assert [message for _, message in failures(name, document)] == [
        f"the declaration does not name {helper['name']!r}"
        for key in ("helper_functions", "helper_methods")
        for helper in document.get(key, ())
        if helper["signature"] == ""
    ]
    assert len(failures(name, document)) == empty


@pytest.mark.parametrize(
    "text",
    [
        "int",
        "list[dict[str, int | None]]",
        "Callable[[int, str], bool]",
        "Literal['a', 'b']",
        "numpy.ndarray",
        "Promise<Map<string, number[]>>",
        "(x: number, ...rest: string[]) => void",
        "readonly string[]",
        "{ name: string; size?: number }",
        "&'a mut Vec<Option<T>>",
        "impl Fn(i32) -> i32 + Send",
        "Box<dyn Error>",
        "map[string]*os.File",
        "<-chan int",
        "chan<- struct{}",
        "unsigned long",
        "? extends Comparable<? super T>",
        "[u8; 32]",
    ],
)
def test_types_of_five_languages_are_type_expressions(text: str) -> None:
    assert lift.type_expression(text, {}) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A list of numbers", "'list' stands behind 'A'"),
        ("the mean value", "'mean' stands behind 'the'"),
        ("list[int", "'[' is not closed"),
        ("int]", "']' closes nothing"),
        ("dict[str, int)", "')' closes nothing"),
        ("", "is no type expression"),
        ("int.", "nothing follows '.'"),
        ("int |", "nothing follows '|'"),
        ("int; drop %", "is no type expression"),
    ],
)
def test_sentences_and_broken_types_are_none(text: str, told: str) -> None:
    assert told in (lift.type_expression(text, {}) or "")


IR = {
    "intent": {"summary": "Mean of a list"},
    "signature": {
        "name": "mean_of",
        "parameters": [{"name": "values", "type_hint": "list[float]"}],
        "returns": "float",
    },
}


@pytest.mark.parametrize(
    ("change", "pointer", "told"),
    [
        (
            {"signature": {"name": "f", "parameters": [{"name": "a", "type_hint": "int"}] * 2}},
            "/signature/parameters/1/name",
            "there is a parameter 'a' already",
        ),
        ({"effects": [{"description": "Sorts `vales` in place"}]}, "/effects/0/description", "'vales' is no parameter"),
        (
            {"constraints": [{"type": "position_constraint", "elements": [], "min_distance": 3, "max_distance": 1}]},
            "/constraints/0",
            "max_distance 1 is less than min_distance 3",
        ),
    ],
)
def test_what_an_ir_must_not_say(change: dict[str, Any], pointer: str, told: str) -> None:
    ((place, message),) = failures("lift_ir", {**IR, **change})
    assert place == pointer
    assert told in message


@pytest.mark.parametrize("text", ["Sorts `values`", "Raises `ValueError`", "Prints to `stdout`", "Writes a `log file`"])
def test_effects_that_name_what_is_declared_pass(text: str) -> None:
    assert failures("lift_ir", {**IR, "effects": [{"description": text}]}) == []


HELPER = {"name": "scaled", "signature": "def scaled(xs, by=2):"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return [x * by for x in xs]", None),
        ("    total = sum(xs)\n    return total / len(xs)", None),
        ("return xs[n]", "'n' is not declared"),
        ("return sqrt(by) + pi", None),
        ("return sqrt(by) + tau", "'tau' is not declared"),
        ("for y in ys: pass", "'ys' is not declared"),
        ("return later(xs)", None),
        ("return sorted(xs, key=later)", None),
        ("return scaled(xs) + scaled(xs)", None),
        ("this is not Python", None),
        ("with open(xs) as f:\n    return f.read()", None),
        ("return store.get(by)", "'store' is not declared"),
    ],
)
def test_what_a_python_helper_computes_with_is_declared(body: str, told: str | None) -> None:
    document = {
        "implementation": {"body_statements": [{"type": "return", "code": "return 1"}]},
        "imports": [{"module": "math", "names": ["sqrt", "pi"]}],
        "helper_functions": [{**HELPER, "body": body}],
    }
    found = failures("python_generation", document)
    assert found == ([] if told is None else [("/helper_functions/0/body", f"the name {told}")])


def test_a_helper_is_declared_by_its_name() -> None:
    for name, key in (("python_generation", "helper_functions"), ("java_generation", "helper_methods")):
        document = {
            "implementation": {"body_statements": [{"type": "return", "code": ""}]},
            key: [{"name": "a", "signature": "def b():", "body": ""}],
        }
        assert failures(name, document) == [(f"/{key}/0/signature", "the declaration does not name 'a'")]


def test_a_go_channel_without_a_buffer_has_no_places() -> None:
    channel = {"name": "c", "element_type": "int", "buffered": False, "buffer_size": 3}
    document = {"implementation": {"body_statements": [{"type": "return", "code": ""}], "channels": [channel]}}
    ((pointer, _),) = failures("go_generation", document)
    assert pointer == "/implementation/channels/0"


def test_the_syntax_of_each_schema_stands_at_places_that_it_has() -> None:
    assert set(lift.SYNTAX) == set(bundled_names())
    for name, table in lift.SYNTAX.items():
        assert all(syntax.language == name.removesuffix("_generation") for syntax in table.values())
        for pointer in table:
            assert first_unmet(json.dumps(bundled_schema(name)), (pointer,), closed=True) is None
        both = Constraint.json_schema(bundled_schema(name), checks=lift.both(name)).checks
        assert len(both) == len(table) + len(lift.CHECKS[name])
    assert set(lift.SYNTAX["python_generation"]) == {
        "/implementation/body_statements/*/code",
        "/implementation/variables/*/type_hint",
        "/helper_functions/*/signature",
        "/helper_functions/*/body",
    }


@pytest.mark.parametrize(("name", "document"), list(examples()))
def test_examples_are_in_their_language_but_for_declarations_that_are_empty(name: str, document: Any) -> None:
    text, table = json.dumps(document).encode(), list(lift.SYNTAX[name].items())
    for closed in ClosedValues([steps(pointer) for pointer, _ in table]).read(text, ended=True):
        value = json.loads(text[closed.start : closed.end])
        if value is not None and value != "":
            assert problem(table[closed.watch][1], value) is None, (closed.pointer, value)
            assert table[closed.watch][1].start().feed(value).whole, (closed.pointer, value)
