"""LIFT's request on the wire, and the engine request it stands for.

Knows field names, types and defaults of LIFT's contract; unknown fields are refused by name. Ranges and contradictions
are the engine types' own business. pydantic is used because the same classes become the OpenAPI document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.constraint import Draft, constraints_in
from engine.errors import RequestError, UnknownOption
from engine.plain_json import TooManyValues, check_json
from engine.request import SAMPLING_FIELDS, Constraint, Request
from engine.serve.failure import BodyTooLarge, Malformed
from engine.serve.json_body import MOST_VALUES

STRICT = ConfigDict(extra="forbid", strict=True, populate_by_name=False)
Schema = dict[str, Any] | bool
Read = TypeVar("Read", bound=BaseModel)
MOST_FIELDS = 200
Texts = Annotated[list[str], Field(fail_fast=True)]
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


class LiftBody(Body):
    """What `POST /generate`, `/generate_ir` and `/` read. LIFT sends the first five fields."""

    prompt: str | None = Field(None, description="One user message, through the model's chat template.")
    schema_: Schema | None = Field(None, alias="schema", description="A JSON Schema; absent: free text.")
    max_tokens: int | None = Field(2048, ge=1)
    temperature: float = Field(0.3, ge=0, le=100)
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    seed: int | None = Field(None, ge=-(2**63), le=2**64 - 1)
    n: int = Field(1, ge=1, le=128)
    stop: Texts | str | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    messages: Objects | None = Field(None, min_length=1)
    system: str | None = None
    template: Literal["chat", "raw"] = "chat"
    schema_in_prompt: bool = False
    conformance: Literal["tight", "spec"] = "tight"
    whitespace: Literal["compact", "flexible"] = "compact"
    require_enforced: bool = False
    draft: Draft | None = Field(None, description="What a schema without `$schema` is; null: 2020-12.")
    regex: str | None = None
    ebnf: str | None = None
    lark: str | None = None
    choice: Annotated[Texts, Field(min_length=1)] | None = None
    structural_tag: dict[str, Any] | None = None
    json_object: bool = False
    deadline_s: float | None = Field(None, gt=0, le=86_400)
    cache_salt: str | None = None
    tools: Objects | None = Field(None, description="Shown to the model; they constrain nothing.")
    id: str | None = Field(None, min_length=1, max_length=200, description="Yours; it must not be running already.")

    def to_request(self, *, default_schema: Schema | None = None) -> Request:
        """The engine's request; RequestError names the field at fault. `default_schema` fills an absent constraint."""
        given = {
            field.alias or name: getattr(self, name)
            for name, field in LiftBody.model_fields.items()
            if self._asked(name)
        }
        if default_schema is not None and not constraints_in(given):
            given["schema"] = default_schema
        return Request.from_mapping(given)

    def _asked(self, name: str) -> bool:
        """What the caller wrote, and LIFT's own defaults where the engine has others."""
        return name in self.model_fields_set or name in SAMPLING_FIELDS


class CheckBody(Body):
    """What `POST /check` reads: one constraint and its options."""

    schema_: Schema | None = Field(None, alias="schema", description="A JSON Schema.")
    regex: str | None = None
    ebnf: str | None = None
    lark: str | None = None
    choice: Annotated[Texts, Field(min_length=1)] | None = None
    structural_tag: dict[str, Any] | None = None
    json_object: bool = False
    conformance: Literal["tight", "spec"] = "tight"
    whitespace: Literal["compact", "flexible"] = "compact"
    require_enforced: bool = False
    draft: Draft | None = None

    def to_constraint(self) -> Constraint:
        """RequestError where there is none, or more than one, or an option does not apply to it."""
        fields = CheckBody.model_fields.items()
        return Constraint.demanded(
            {field.alias or name: getattr(self, name) for name, field in fields if name in self.model_fields_set}
        )


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
