"""The metaschemas of the drafts that the validator carries, as documents. Nothing is fetched."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema_rs

_DRAFTS = ("draft-04", "draft-06", "draft-07", "draft/2019-09", "draft/2020-12")


@cache
def metaschemas(uri: str) -> dict[str, Any]:
    """All documents of the draft that this URI belongs to, by their URIs; none where it is no metaschema's."""
    for draft in _DRAFTS:
        root = f"{'https' if '/' in draft else 'http'}://json-schema.org/{draft}/schema"
        if uri.startswith(root.removesuffix("schema")):
            whole: Any = jsonschema_rs.bundle({"$schema": f"{root}#" if "-0" in draft else root, "$ref": root})
            found: dict[str, Any] = whole.get("$defs") or whole["definitions"]
            return found if uri in found else {}
    return {}
