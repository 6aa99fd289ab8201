"""Rules that several grammars share, with what has been found out about them. Knows sizes; not what rules are.

Rules of lowered grammars are named by what they derive, and most grammars hold the same strings, numbers and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.grammar.shared.table_budget import TableBudget

_REPORTED = 2_048
"""Entries added between two looks at what all tables hold together."""


class SharedRules:
    """Once a vocabulary; or of one grammar alone, where names mean nothing elsewhere. Any thread may use it."""

    def __init__(self, allowance: TableBudget | None = None) -> None:
        self._allowance = allowance or TableBudget()
        self.forget()

    def forget(self) -> None:
        """Start afresh; grammars keep what they use."""
        self._symbols = self._reported = 0
        self.rules: dict[str, Any] = {}
        self.literals: dict[bytes, Any] = {}
        self.characters: dict[Any, Any] = {}
        self.ways: dict[tuple[Any, int], Any] = {}
        """By rule and first byte what can be left of it, and what was asked on the way (`pushdown`)."""

    @property
    def entries(self) -> int:
        """Symbols and ways held, at most half a kilobyte each."""
        return self._symbols + len(self.literals) + len(self.characters) + len(self.ways)

    def add(self, rules: Mapping[str, Any]) -> None:
        """Remember rules whose symbols are complete."""
        self._symbols += sum(1 + sum(map(len, rule.alternatives)) for rule in rules.values())
        self.rules.update(rules)
        self.report()

    def report(self) -> None:
        """Called where something was added: whoever has not grown for longest starts afresh where all is too much."""
        if self.entries > self._reported + _REPORTED:
            self._reported = self.entries
            self._allowance.grown(self)
