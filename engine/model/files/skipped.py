"""What a model's files hold beside the weights that compute text, and is not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_PARTS = {"vision": re.compile(r"^(model\.)?visual\."), "multi-token prediction": re.compile(r"^mtp\.")}


def skipped(names: Iterable[str]) -> str:
    """One line for people; empty where all is read."""
    found = Counter(part for name in names for part, pattern in _PARTS.items() if pattern.match(name))
    counts = " and ".join(f"{found[part]:,} weights of {part}" for part in _PARTS if found[part])
    return f"not read: {counts}; text alone is computed, one token after another" if counts else ""
