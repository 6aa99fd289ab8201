"""What became of one keyword occurrence. Knows the four words and their order; does not know how they are decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

VerdictWord = Literal["enforced", "narrowed", "checked", "refused"]
WORDS: tuple[VerdictWord, ...] = ("enforced", "narrowed", "checked", "refused")
"""From strongest to weakest guarantee; an occurrence that is met several times keeps its weakest word."""

REPEATED_KEYS = "duplicate keys"
"""Not a keyword, but named like one at the root: JSON Schema allows keys that stand twice, our `valid` does not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`pointer` is the JSON pointer of the schema that holds `keyword`; `rewrite` says how to make it enforceable."""

    pointer: str
    keyword: str
    verdict: VerdictWord
    reason: str
    rewrite: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `rewrite` only where there is one."""
        plain = {"pointer": self.pointer, "keyword": self.keyword, "verdict": self.verdict, "reason": self.reason}
        return plain if self.rewrite is None else {**plain, "rewrite": self.rewrite}


def weakest(first: VerdictWord, second: VerdictWord) -> VerdictWord:
    """The word that promises less."""
    return max(first, second, key=WORDS.index)
