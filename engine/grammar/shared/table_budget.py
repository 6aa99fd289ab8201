"""How much the tables of all grammars may hold together. Knows sizes and which grew last; not what they hold."""

from __future__ import annotations

import threading
from typing import Protocol
from weakref import WeakKeyDictionary

MOST_ENTRIES = 300_000
"""150 MB of stacks and places."""


class Tables(Protocol):
    """Something that grows and can start afresh."""

    @property
    def entries(self) -> int: ...

    def forget(self) -> None: ...


class TableBudget:
    """Beyond the limit, tables start afresh, those first that have not grown for longest. Any thread may use it."""

    def __init__(self, most_entries: int = MOST_ENTRIES) -> None:
        self.most_entries = most_entries
        self._grown: WeakKeyDictionary[Tables, None] = WeakKeyDictionary()  # in the order of their last growth
        self._lock = threading.Lock()

    @property
    def entries(self) -> int:
        """What is held now by tables that have ever reported."""
        return sum(tables.entries for tables in list(self._grown))

    def grown(self, tables: Tables) -> None:
        """Some tables have grown. Linear in the number of tables that have ever reported and still exist."""
        with self._lock:
            self._grown.pop(tables, None)
            self._grown[tables] = None
            held = self.entries
            for oldest in list(self._grown):
                if held <= self.most_entries:
                    return
                held -= oldest.entries
                oldest.forget()
