"""Whether a verdict `checked` stands where the validator says a document fails, or at an applicator above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import jsonschema_rs

from engine.pointer import steps

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing the validator reports: the keyword, and every schema location its evaluation went through."""

    keyword: str
    message: str
    location: Path
    """Where the keyword stands, as the validator reports it."""
    places: frozenset[Path]


def validator(schema: Any) -> Any:
    """A jsonschema-rs validator with formats asserted in every draft; raises its own errors for a broken schema."""
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def failures(schema: Any, check: Any, instance: Any) -> list[Failure]:
    """Every failure at the top level of the evaluation (branches inside a failed anyOf belong to that anyOf)."""
    return [_failure(schema, error) for error in check.iter_errors(instance)]


def named(found: Sequence[Failure], verdicts: Iterable[Mapping[str, Any]]) -> bool:
    """Whether every failure is covered by a `checked` verdict at its place or above it. False without failures."""
    checked = [verdict for verdict in verdicts if verdict["verdict"] == "checked"]
    places = {(*pointer_path(verdict["pointer"]), verdict["keyword"]) for verdict in checked}
    return bool(found) and all(places & failure.places for failure in found)


def pointer_path(pointer: str) -> Path:
    """`/a~1b/0`, or the URI fragment `#/a~1b/0`, as segments."""
    return tuple(steps(unquote(pointer[1:]) if pointer.startswith("#") else pointer))


def _failure(schema: Any, error: Any) -> Failure:
    static = tuple(str(part) for part in error.schema_path)
    dynamic = tuple(str(part) for part in error.evaluation_path)
    keyword = "false schema" if error.kind.name == "falseSchema" else static[-1] if static else "(root)"
    places = set(_prefixes(static)) | set(_prefixes(dynamic)) | set(_travelled(schema, dynamic))
    return Failure(keyword, error.message, static, frozenset(places))


def _prefixes(path: Path) -> list[Path]:
    return [path[:length] for length in range(len(path) + 1)]


def _travelled(schema: Any, dynamic: Path) -> list[Path]:
    """Static locations of every step of a dynamic path: each `$ref` jumps to where it points."""
    here: Path = ()
    places: list[Path] = [here]
    for part in dynamic:
        if part == "$ref":
            places.append((*here, part))
            target = _at(schema, (*here, part))
            if not isinstance(target, str) or not target.startswith("#"):
                return places
            here = pointer_path(target)
        else:
            here = (*here, part)
        places.append(here)
    return places


def _at(schema: Any, path: Path) -> Any:
    value = schema
    for part in path:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return None
    return value
