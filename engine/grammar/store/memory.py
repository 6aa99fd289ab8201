"""Compiled grammars kept in memory, least recently used out first. Knows keys and bytes; does not compile."""

from __future__ import annotations

import threading
from collections import OrderedDict

from engine.grammar.compiled_grammar import CompiledGrammar


class MemoryCache:
    """At most `limit_bytes` of compiled grammars (the newest always stays). Safe from any thread."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.nbytes = 0
        self._entries: OrderedDict[str, tuple[CompiledGrammar, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> CompiledGrammar | None:
        """The grammar, now the most recently used. What it has grown by since then counts from now on."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._enter(key, found[0])
            return found[0]

    def put(self, key: str, grammar: CompiledGrammar) -> None:
        """Keep a grammar and drop the oldest beyond the limit."""
        with self._lock:
            self._enter(key, grammar)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.nbytes = 0

    def _enter(self, key: str, grammar: CompiledGrammar) -> None:
        counted = grammar.nbytes
        _, before = self._entries.pop(key, (None, 0))
        self._entries[key] = grammar, counted
        self.nbytes += counted - before
        while self.nbytes > self.limit_bytes and len(self._entries) > 1:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.nbytes -= dropped
