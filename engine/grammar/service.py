"""Grammars for constraints: from memory, from disk, or compiled once however many ask. The seam that decoding uses.

Knows caches and threads. Does not know requests, prompts or models.
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version

import numpy as np

from engine.config import EngineConfig
from engine.errors import NotReady, SchemaRefused
from engine.grammar.bitmask import words
from engine.grammar.cache import MemoryCache
from engine.grammar.compiled import CompiledGrammar
from engine.grammar.compiler import Compiler
from engine.grammar.vocabulary import Vocabulary
from engine.interfaces import Tokenizer
from engine.request import Constraint
from engine.schema.lower import LOWERING_VERSION

FORM_VERSION = "1"
"""Raised whenever a regex, choice, EBNF, Lark or structural tag may get a different grammar here; part of every key."""
XGRAMMAR_VERSION = version("xgrammar")
MEMORY_CACHE_BYTES = 512 << 20


class GrammarService:
    """Per model: one vocabulary, one compiler, the caches and a small thread pool."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, *, config: EngineConfig) -> None:
        self.vocabulary = Vocabulary(tokenizer, vocab_size, cache_dir=config.cache_dir / "grammars")
        self._compiler = Compiler(self.vocabulary, config.limits)
        self._memory = MemoryCache(MEMORY_CACHE_BYTES)
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
        self._running: dict[str, Future[CompiledGrammar]] = {}
        self._lock = threading.RLock()  # a finished future runs its callback at once, inside submit
        self._closed = False

    def key(self, constraint: Constraint) -> str:
        """Cache key: constraint, vocabulary with its stop tokens, versions of xgrammar and of our lowering."""
        parts = (constraint.key, self.vocabulary.fingerprint, XGRAMMAR_VERSION, str(LOWERING_VERSION), FORM_VERSION)
        return hashlib.sha256("\x00".join(parts).encode()).hexdigest()

    def compile(self, constraint: Constraint) -> CompiledGrammar:
        """Block until the grammar is there. Raises ConstraintError (SchemaInvalid, SchemaRefused, LimitExceeded)."""
        return self.submit(constraint).result()

    def submit(self, constraint: Constraint) -> Future[CompiledGrammar]:
        """A future of the grammar; equal constraints in flight share one compilation."""
        key = self.key(constraint)
        found = self._memory.get(key)
        if found is not None:
            return _finished(found.from_memory(), constraint)
        with self._lock:
            if self._closed:
                raise NotReady("the engine has been closed")
            shared = self._running.get(key)
            if shared is None:
                shared = self._running[key] = self._pool.submit(self._produce, key, constraint)
                shared.add_done_callback(lambda _: self._forget(key))
        return _demanding(shared, constraint)

    def close(self) -> None:
        """Wait for running compilations and stop. Idempotent."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _produce(self, key: str, constraint: Constraint) -> CompiledGrammar:
        start = time.perf_counter()
        compiled = self._compiler.compile(constraint)
        elapsed = (time.perf_counter() - start) * 1e3
        grammar = CompiledGrammar(constraint, key, compiled, self.vocabulary, "compiled", elapsed)
        _refuse_empty(grammar)
        self._memory.put(key, grammar)
        return grammar

    def _forget(self, key: str) -> None:
        with self._lock:
            self._running.pop(key, None)


def _refuse_empty(grammar: CompiledGrammar) -> None:
    """A grammar that derives nothing has an empty first mask."""
    if grammar.closer is not None and not grammar.closer.productive:
        raise SchemaRefused("no document satisfies this constraint", param=grammar.constraint.kind)
    row = np.zeros((1, words(grammar.vocabulary.size)), dtype=np.int32)
    if not grammar.matcher().fill(row, 0):
        raise SchemaRefused("no document satisfies this constraint", param=grammar.constraint.kind)


def _finished(grammar: CompiledGrammar, constraint: Constraint) -> Future[CompiledGrammar]:
    future: Future[CompiledGrammar] = Future()
    try:
        future.set_result(_meets(grammar, constraint))
    except SchemaRefused as error:
        future.set_exception(error)
    return future


def _demanding(shared: Future[CompiledGrammar], constraint: Constraint) -> Future[CompiledGrammar]:
    """A future of one caller over the shared compilation: his cancel and his `require_enforced` touch nobody else."""
    own: Future[CompiledGrammar] = Future()

    def pass_on(done: Future[CompiledGrammar]) -> None:
        if not own.set_running_or_notify_cancel():
            return
        try:
            own.set_result(_meets(done.result(), constraint))
        except BaseException as error:  # noqa: BLE001 - whatever stopped the compilation belongs to the waiting caller
            own.set_exception(error)

    shared.add_done_callback(pass_on)
    return own


def _meets(grammar: CompiledGrammar, constraint: Constraint) -> CompiledGrammar:
    """The grammar, or SchemaRefused when the caller wants every keyword enforced and one is only checked."""
    if constraint.require_enforced:
        for verdict in grammar.verdicts:
            if verdict.verdict == "checked":
                place = f"{verdict.keyword} at {verdict.pointer or '/'}"
                raise SchemaRefused(
                    f"require_enforced: {place} is only checked: {verdict.reason}",
                    param=constraint.kind,
                    pointer=verdict.pointer,
                )
    return grammar
