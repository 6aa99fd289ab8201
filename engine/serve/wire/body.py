"""A request's fields: every one known, the first wrong one told by its name. For HTTP bodies and for function calls.

pydantic is used because the same classes become the OpenAPI document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.errors import RequestError, UnknownOption
from engine.plain_json import TooManyValues, check_json
from engine.serve.wire.failure import BodyTooLarge, Malformed
from engine.serve.wire.json_body import MOST_VALUES

STRICT = ConfigDict(extra="forbid", strict=True, populate_by_name=False)
Schema = dict[str, Any] | bool
Read = TypeVar("Read", bound=BaseModel)
MOST_FIELDS = 200
Texts = Annotated[list[str], Field(fail_fast=True)]
Checks = dict[str, Any]
"""By pointer. What a check is says the constraint, which looks at few; every wrong one would be told here."""
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class Body(BaseModel):
    """An object whose every field is known. A wrong one is reported once, not once for each of a hundred thousand."""

    model_config = STRICT

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and len(given) > MOST_FIELDS:
            raise ValueError(f"has {len(given)} fields, more than there are")
        return given


def read_body(values: Any, kind: type[Read]) -> Read:
    """A request as the Modal functions get it: any Python value. The errors are those of the HTTP routes.

    For a thread: the most values that there may be take 0.2 s.
    """
    if not isinstance(values, Mapping):
        raise Malformed(f"a request is an object, got {type(values).__name__}")
    try:
        check_json(None, values, most=MOST_VALUES)
    except TooManyValues as error:
        raise BodyTooLarge(error.message) from None
    try:
        plain = json.loads(json.dumps(dict(values)))  # tuples are lists on the wire
    except TypeError as error:
        raise Malformed(f"the request is not plain JSON: {error}") from None
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        raise first_problem(error.errors(include_url=False)) from None


def first_problem(problems: Any) -> RequestError | Malformed:
    """The first of pydantic's findings as one typed error with the field's name."""
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    parts = _place(problem)
    if problem["type"] == "json_invalid":
        return Malformed(f"the body is not JSON: {problem.get('ctx', {}).get('error', 'cannot be read')}")
    field = parts[0] if parts else None
    if problem["type"] == "extra_forbidden":
        return UnknownOption(f"unknown field {'.'.join(parts)!r}", param=field)
    if problem["type"] == "missing":
        return Malformed(f"the field {'.'.join(parts)!r} is missing" if parts else "the body is missing", param=field)
    where, told = ".".join(parts) or "the body", [p["msg"] for p in problems if _place(p) == parts]
    if not all(message.startswith(_PYDANTIC) for message in told):
        return Malformed(f"{where}: {problem['msg']}", param=field)
    wanted = " or ".join(dict.fromkeys(_plain(message) for message in told))
    return Malformed(f"{where} must be {wanted}", param=field)


def _plain(message: str) -> str:
    """`Input should be a valid integer`, in our words: `an integer`."""
    text = message.removeprefix(_PYDANTIC).replace("dictionary or object to extract fields from", "object")
    return re.sub("a valid (?=[aeiou])", "an ", text.replace("dictionary", "object")).replace("a valid ", "a ")


_PYDANTIC = "Input should be "
_KIND = re.compile(r"str|int|float|bool|\w+\[.*")
"""How pydantic names one of several kinds that a field may have, as if it were a part of the field."""


def _place(problem: Any) -> list[str]:
    parts = [str(part) for part in problem["loc"] if part != "body"]
    return list(takewhile(lambda part: not _KIND.fullmatch(part), parts))
