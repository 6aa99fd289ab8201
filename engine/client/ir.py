"""LIFT's intermediate representation as plain dataclasses.

Does not validate meaning: the engine has validated the document against the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class TypedHole:
    """Something left open on purpose."""

    identifier: str
    type_hint: str
    description: str = ""
    constraints: Mapping[str, str] = field(default_factory=dict)
    kind: str = "intent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """What the function is for."""

    summary: str
    rationale: str | None = None
    holes: tuple[TypedHole, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One input."""

    name: str
    type_hint: str
    description: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """Name, inputs, output."""

    name: str
    parameters: tuple[Parameter, ...] = ()
    returns: str | None = None
    holes: tuple[TypedHole, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """Something the function does besides returning."""

    description: str
    holes: tuple[TypedHole, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Assertion:
    """Something that must hold."""

    predicate: str
    rationale: str | None = None
    holes: tuple[TypedHole, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """Where the IR came from."""

    source_path: str | None = None
    language: str | None = None
    origin: str | None = None
    evidence: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class IR:
    """One function, specified. `constraints` are kept as the model wrote them, told apart by their `type`."""

    intent: Intent
    signature: Signature
    effects: tuple[Effect, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    metadata: Metadata = field(default_factory=Metadata)
    constraints: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> IR:
        """From a document that satisfies the IR schema; ValueError names what is missing otherwise."""
        try:
            return cls(
                intent=Intent(**_with_holes(document["intent"])),
                signature=_signature(document["signature"]),
                effects=tuple(Effect(**_with_holes(effect)) for effect in document.get("effects") or ()),
                assertions=tuple(Assertion(**_with_holes(part)) for part in document.get("assertions") or ()),
                metadata=_metadata(document.get("metadata") or {}),
                constraints=tuple(dict(part) for part in document.get("constraints") or ()),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the document is not an IR: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, every field present."""
        plain: dict[str, Any] = _listed(asdict(self))
        return plain


def _signature(part: Mapping[str, Any]) -> Signature:
    named = _with_holes(part)
    named["parameters"] = tuple(Parameter(**parameter) for parameter in part.get("parameters") or ())
    return Signature(**named)


def _metadata(part: Mapping[str, Any]) -> Metadata:
    return Metadata(**{**part, "evidence": tuple(dict(entry) for entry in part.get("evidence") or ())})


def _with_holes(part: Mapping[str, Any]) -> dict[str, Any]:
    return {**part, "holes": tuple(TypedHole(**hole) for hole in part.get("holes") or ())}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(part) for name, part in value.items()}
    return [_listed(part) for part in value] if isinstance(value, tuple | list) else value
