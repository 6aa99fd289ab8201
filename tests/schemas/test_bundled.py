"""The schemas that ship: sound themselves, sharp on their instances, and equal in structure to LIFT's own."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas"
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json"))
DATA = Path(os.environ.get("MASKLOOP_DATA", ROOT.parent / "shared" / "data"))
LIFT_FILES = {
    "lift_ir": "ir_json_schema",
    "python_generation": "python_code_generation",
    "typescript_generation": "typescript_generation",
    "rust_generation": "rust_generation",
    "go_generation": "go_generation",
    "java_generation": "java_generation",
}
ANNOTATIONS = {"description", "title", "examples", "$comment", "$id"}
ASSERTIONS = {
    "type", "required", "additionalProperties", "enum", "const", "pattern", "minLength", "minItems", "oneOf", "$ref",
}  # fmt: skip

needs_data = pytest.mark.skipif(
    not (DATA / "lift_schemas").is_dir(), reason=f"LIFT's own schemas are not at {DATA} (set MASKLOOP_DATA)"
)


def read(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def instances(name: str, kind: str) -> list[Any]:
    return [json.loads(line) for line in (SCHEMAS / f"{name}.{kind}.jsonl").read_text().splitlines()]


def structure(node: Any, *, named: bool = False) -> Any:
    """The schema without its annotations; `named` inside a map from names to schemas, where no key is a keyword."""
    if isinstance(node, list):
        return [structure(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {
        key: structure(value, named=not named and key in ("properties", "definitions"))
        for key, value in node.items()
        if named or key not in ANNOTATIONS
    }


def keyword_places(node: Any, path: tuple[Any, ...] = (), *, named: bool = False) -> Iterator[tuple[Any, ...]]:
    """Path of every keyword occurrence that can refuse a document."""
    if isinstance(node, list):
        for index, part in enumerate(node):
            yield from keyword_places(part, (*path, index))
    if isinstance(node, dict):
        for key, value in node.items():
            if not named and key in ASSERTIONS and not (key == "type" and node.keys() & {"enum", "const"}):
                yield (*path, key)
            yield from keyword_places(value, (*path, key), named=not named and key in ("properties", "definitions"))


def without(schema: Any, path: tuple[Any, ...]) -> Any:
    loose = copy.deepcopy(schema)
    node = loose
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    return loose


def test_every_name_of_lift_is_here_and_nothing_else() -> None:
    assert set(NAMES) == set(LIFT_FILES)


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_is_one_and_has_its_line_in_the_readme(name: str) -> None:
    jsonschema_rs.meta.validate(read(name))
    assert f"({name}.json)" in (SCHEMAS / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_valid_instances_validate_and_invalid_ones_do_not(name: str) -> None:
    validator = jsonschema_rs.validator_for(read(name))
    valid, invalid = instances(name, "valid"), instances(name, "invalid")
    assert min(len(valid), len(invalid)) >= 8
    assert [document for document in valid if not validator.is_valid(document)] == []
    assert [document for document in invalid if validator.is_valid(document)] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_keyword_has_an_instance_that_only_it_refuses(name: str) -> None:
    schema, invalid = read(name), instances(name, "invalid")
    unnoticed = []
    for path in keyword_places(schema):
        validator = jsonschema_rs.validator_for(without(schema, path))
        if not any(validator.is_valid(document) for document in invalid):
            unnoticed.append("/".join(map(str, path)))
    assert unnoticed == []


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_the_structure_is_lifts_down_to_the_order_of_fields(name: str) -> None:
    theirs = json.loads((DATA / "lift_schemas" / f"{LIFT_FILES[name]}.json").read_text())
    assert json.dumps(structure(read(name))) == json.dumps(structure(theirs))


@needs_data
def test_no_description_is_lifts() -> None:
    def texts(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ANNOTATIONS and isinstance(value, str):
                    yield value.strip(" .").lower()
                else:
                    yield from texts(value)
        elif isinstance(node, list):
            for part in node:
                yield from texts(part)

    for name, file in LIFT_FILES.items():
        theirs = set(texts(json.loads((DATA / "lift_schemas" / f"{file}.json").read_text())))
        assert theirs.isdisjoint(texts(read(name))), name


@needs_data
def test_recorded_documents_that_lift_accepts_are_accepted_here() -> None:
    ours = jsonschema_rs.validator_for(read("lift_ir"))
    theirs = jsonschema_rs.validator_for(json.loads((DATA / "lift_schemas" / "ir_json_schema.json").read_text()))
    lines = map(json.loads, (DATA / "lift_prompts_dev.jsonl").read_text().splitlines())
    recorded = [line["expected_or_recorded_ir"] for line in lines if "expected_or_recorded_ir" in line]
    accepted = [document for document in recorded if theirs.is_valid(document)]
    assert len(accepted) >= 30
    assert [document for document in accepted if not ours.is_valid(document)] == []
