"""Grammars for constraints: from memory, from disk, or compiled once however many ask. The seam that decoding uses."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Hashable
from concurrent.futures import Future
from importlib.metadata import version

from engine.config import EngineConfig
from engine.errors import NotReady, SchemaRefused
from engine.grammar.compile.screen import screen
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.pushdown.begun import MOST_BEGUN
from engine.grammar.store.disk import DiskCache
from engine.grammar.store.maker import Maker
from engine.grammar.store.making import Making
from engine.grammar.store.memory import MemoryCache
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.interfaces import Tokenizer
from engine.request import Constraint
from engine.schema.lower import LOWERING_VERSION
from engine.syntax import LANGUAGES

FORM_VERSION = "14"
"""Raised whenever a regex, choice, EBNF, Lark or structural tag may get a different grammar here, or `codec` another
layout; part of every key."""
XGRAMMAR_VERSION = version("xgrammar")
MEMORY_CACHE_BYTES = 512 << 20


class GrammarService:
    """Per model: one vocabulary, the caches, and a maker of what is in neither."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, *, config: EngineConfig) -> None:
        self.disk = DiskCache(config.cache_folder / "grammars")
        self.vocabulary = Vocabulary.of(tokenizer, vocab_size, cache_dir=self.disk.folder)
        self._limits = config.limits
        self._memory = MemoryCache(MEMORY_CACHE_BYTES)
        self._maker = Maker(self.vocabulary, self.disk, self._memory, config.limits)
        self.sandbox = self._maker.sandbox
        self._running: dict[str, Making] = {}
        self._lock = threading.RLock()  # a finished future runs its callback at once, inside submit
        self._closed = False

    def start(self) -> None:
        """Start the process that compiling ones are made of, ahead of the first constraint (`Maker.start`)."""
        self._maker.start()

    def flush(self) -> None:
        """Wait until everything compiled so far has been stored."""
        self._maker.flush()

    def key(self, constraint: Constraint) -> str:
        """Cache key: constraint, vocabulary with its stop tokens, versions of xgrammar and of our lowering, the
        languages that are followed, and the limits: what is stored under a key has passed them."""
        versions = (XGRAMMAR_VERSION, str(LOWERING_VERSION), FORM_VERSION, *sorted(LANGUAGES))
        limits = (self._limits.schema_bytes, self._limits.schema_depth, self._limits.schema_nodes, MOST_BEGUN)
        parts = (constraint.key, self.vocabulary.fingerprint, *versions, *map(str, limits))
        return hashlib.sha256("\x00".join(parts).encode()).hexdigest()

    def compile(self, constraint: Constraint) -> CompiledGrammar:
        """Block until the grammar is there. Raises ConstraintError (SchemaInvalid, SchemaRefused, LimitExceeded)."""
        return self.submit(constraint).result()

    def submit(self, constraint: Constraint, *, owner: Hashable = None) -> Future[CompiledGrammar]:
        """A future of the grammar; equal constraints in flight share one compilation. Never blocks on compiling.

        Compiling is shared fairly between owners. It stops when everybody who waited for it has cancelled his future.
        """
        key = self.key(constraint)
        found = self._memory.get(key)
        if found is not None:
            return _finished(found.from_memory(), constraint)
        try:
            if not self.disk.holds(key):
                screen(constraint, self._limits)
        except Exception as error:  # noqa: BLE001 - every refusal reaches the caller through the future
            return _failed(error)
        with self._lock:
            if self._closed:
                raise NotReady("the engine has been closed")
            making = self._running.get(key)
            is_new = making is None
            if making is None:
                making = self._running[key] = Making(key, constraint)
                making.future.add_done_callback(lambda _: self._forget(making))
            own = making.wait(owner, lambda grammar: _meets(grammar, constraint))
            if is_new:  # by now it has an owner, whose turn it takes
                self._maker.begin(making)
        own.add_done_callback(lambda done: self._leave(making, owner) if done.cancelled() else None)
        return own

    def close(self) -> None:
        """Stop everything; what is being compiled ends with an error, what is compiled is stored."""
        with self._lock:
            self._closed = True
            left = list(self._running.values())
        for making in left:
            making.stop()
            making.fail(NotReady("the engine has been closed"))
        self._maker.close()

    def _leave(self, making: Making, owner: Hashable) -> None:
        """Somebody waits no longer; after the last one it stops."""
        with self._lock:
            if making.leave(owner):
                self._forget(making)
                making.stop()

    def _forget(self, making: Making) -> None:
        with self._lock:
            if self._running.get(making.key) is making:
                del self._running[making.key]


def _failed(error: Exception) -> Future[CompiledGrammar]:
    future: Future[CompiledGrammar] = Future()
    future.set_exception(error)
    return future


def _finished(grammar: CompiledGrammar, constraint: Constraint) -> Future[CompiledGrammar]:
    try:
        grammar = _meets(grammar, constraint)
    except SchemaRefused as error:
        return _failed(error)
    future: Future[CompiledGrammar] = Future()
    future.set_result(grammar)
    return future


def _meets(grammar: CompiledGrammar, constraint: Constraint) -> CompiledGrammar:
    """The grammar, or SchemaRefused when the caller wants every keyword enforced and one is only checked."""
    if constraint.require_enforced:
        for verdict in grammar.verdicts:
            if verdict.verdict == "checked":
                place = f"{verdict.keyword} at {verdict.pointer or '(root)'}"
                raise SchemaRefused(
                    f"require_enforced: {place} is only checked: {verdict.reason}",
                    param=constraint.kind,
                    pointer=verdict.pointer,
                )
    return grammar
