"""LIFT's request on the wire, and the engine request it stands for.

Knows field names, types and defaults of LIFT's contract; unknown fields are refused by name. Ranges and contradictions
are the engine types' own business.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from engine.constraint import Draft, constraints_in
from engine.request import SAMPLING_FIELDS, Constraint, Method, Request
from engine.serve.wire.body import Body, Checks, Objects, Schema, Texts


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
    method: Method = Field(
        "mask", description="`smc` and `rejection` draw from the model's own distribution of valid texts."
    )
    particles: int = Field(32, ge=1, le=1024)
    ess: float = Field(0.5, ge=0, le=1)
    messages: Objects | None = Field(None, min_length=1)
    system: str | None = None
    template: Literal["chat", "raw"] = "chat"
    schema_in_prompt: bool = False
    conformance: Literal["tight", "spec"] = "tight"
    whitespace: Literal["compact", "flexible"] = "compact"
    require_enforced: bool = False
    draft: Draft | None = Field(None, description="What a schema without `$schema` is; null: 2020-12.")
    contents: bool | None = Field(None, description="Whether contentEncoding and contentMediaType are held; null: yes.")
    checks: Checks | None = Field(
        None, description="By JSON pointer (`*`: any), a check registered here, or the syntax of the text there."
    )
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
        """What the caller wrote, and LIFT's own defaults where the engine has others; none that a method refuses."""
        return name in self.model_fields_set or (name in SAMPLING_FIELDS and (name != "top_p" or self.method == "mask"))


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
    contents: bool | None = None
    checks: Checks | None = None

    def to_constraint(self) -> Constraint:
        """RequestError where there is none, or more than one, or an option does not apply to it."""
        fields = CheckBody.model_fields.items()
        return Constraint.demanded(
            {field.alias or name: getattr(self, name) for name, field in fields if name in self.model_fields_set}
        )
