"""Which draft a schema speaks, and where drafts differ. Knows `$schema` names; does not read any other keyword."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from engine.constraint import Draft as DraftName


class Draft(IntEnum):
    """Drafts in order, so that they compare. Drafts 4 and 6 are read because real schemas still declare them."""

    D4 = 4
    D6 = 6
    D7 = 7
    D2019 = 2019
    D2020 = 2020

    @property
    def label(self) -> DraftName:
        """What callers call it."""
        return _LABELS[self]

    @property
    def ref_hides_siblings(self) -> bool:
        """Up to draft 7 everything beside `$ref` is ignored."""
        return self <= Draft.D7


_LABELS: dict[Draft, DraftName] = {
    Draft.D4: 4, Draft.D6: 6, Draft.D7: 7, Draft.D2019: "2019-09", Draft.D2020: "2020-12",
}  # fmt: skip

DEFAULT_DRAFT = Draft.D2020

_NAMES = {
    "json-schema.org/draft-04/": Draft.D4,
    "json-schema.org/draft-06/": Draft.D6,
    "json-schema.org/draft-07/": Draft.D7,
    "json-schema.org/draft/2019-09/": Draft.D2019,
    "json-schema.org/draft/2020-12/": Draft.D2020,
}


def is_known(schema: Any) -> bool:
    """Whether `$schema` is absent or names a draft."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    return not isinstance(named, str) or any(name in named for name in (*_NAMES, "json-schema.org/schema"))


def draft_of(schema: Any, default: Draft = DEFAULT_DRAFT) -> Draft:
    """The draft named by `$schema`; `default` where there is none, or one that nobody knows."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    if not isinstance(named, str):
        return default
    return next((draft for name, draft in _NAMES.items() if name in named), default)
