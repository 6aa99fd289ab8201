"""What a judge says of one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Judgement:
    """On failure a `message`, a `pointer` into the document and, for JSON, the `keyword` that failed."""

    valid: bool
    message: str | None = None
    pointer: str | None = None
    keyword: str | None = None
    arguments: Sequence[tuple[int, tuple[int, dict[str, Any]]]] = ()
    """Of a valid structural tag: as in `Result`, in pairs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `Judgement(**d)` reads it back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Undecided(Exception):
    """Raised by a judge that has to ask elsewhere first: these texts, in this order, until one is valid; or, where
    there are none, these calls of checks, until one is wrong."""

    def __init__(self, texts: tuple[bytes, ...] = (), calls: tuple[Any, ...] = ()) -> None:
        super().__init__(f"{len(texts)} texts are to be judged, {len(calls)} checks to be asked")
        self.texts = texts
        self.calls = calls


class Judge(Protocol):
    """The judge of one constraint: a function of the whole text's bytes. Pure; may take any time (see `service`)."""

    def __call__(self, data: bytes, /) -> Judgement: ...
