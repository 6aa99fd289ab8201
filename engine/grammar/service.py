"""Grammars for constraints: from memory, from disk, or compiled once however many ask. The seam that decoding uses.

Knows caches, threads and the worker. Does not know requests, prompts or models.
"""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version

import numpy as np

from engine.config import EngineConfig
from engine.errors import NotReady, SchemaRefused
from engine.grammar.bitmask import words
from engine.grammar.cache import MemoryCache
from engine.grammar.compiled import CompiledGrammar, Source
from engine.grammar.compiler import Compiled, Compiler
from engine.grammar.disk import DiskCache
from engine.grammar.entry import decode, encode
from engine.grammar.sandbox import Sandbox
from engine.grammar.screen import Screened, screen
from engine.grammar.vocabulary import Vocabulary
from engine.interfaces import Tokenizer
from engine.request import Constraint
from engine.schema.lower import LOWERING_VERSION
from engine.schema.verdict import REPEATED_KEYS

FORM_VERSION = "9"
"""Raised whenever a regex, choice, EBNF, Lark or structural tag may get a different grammar here, or `entry` another
layout; part of every key."""
XGRAMMAR_VERSION = version("xgrammar")
MEMORY_CACHE_BYTES = 512 << 20
_WORTH_STORING_MS = 5.0
"""Below this, loading costs about as much as compiling, whatever the compiler has seen before."""
_PATIENCE_S = 0.5


class GrammarService:
    """Per model: one vocabulary, one compiler, one worker, the caches and three threads."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, *, config: EngineConfig) -> None:
        self.disk = DiskCache(config.cache_folder / "grammars")
        self.vocabulary = Vocabulary(tokenizer, vocab_size, cache_dir=self.disk.folder)
        self.sandbox = Sandbox(self.vocabulary.info, config.limits)
        self._limits = config.limits
        self._compiler = Compiler(self.vocabulary.info, config.limits)
        self._memory = MemoryCache(MEMORY_CACHE_BYTES)
        self._quick = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
        self._heavy = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile-heavy")
        self._storing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._running: dict[str, Future[CompiledGrammar]] = {}
        self._lock = threading.RLock()  # a finished future runs its callback at once, inside submit
        self._learning: threading.Thread | None = None
        self._unlearn: Callable[[], object] = lambda: None
        self._closed = False
        self._storing.submit(self._beside, lambda: self.vocabulary.segmenter)  # 0.1 s that no request should wait for

    def key(self, constraint: Constraint) -> str:
        """Cache key: constraint, vocabulary with its stop tokens, versions of xgrammar and of our lowering, and the
        limits of the screen: what is stored under a key has passed it."""
        versions = (XGRAMMAR_VERSION, str(LOWERING_VERSION), FORM_VERSION)
        limits = (self._limits.schema_bytes, self._limits.schema_depth, self._limits.schema_nodes)
        parts = (constraint.key, self.vocabulary.fingerprint, *versions, *map(str, limits))
        return hashlib.sha256("\x00".join(parts).encode()).hexdigest()

    def compile(self, constraint: Constraint) -> CompiledGrammar:
        """Block until the grammar is there. Raises ConstraintError (SchemaInvalid, SchemaRefused, LimitExceeded)."""
        return self.submit(constraint).result()

    def submit(self, constraint: Constraint) -> Future[CompiledGrammar]:
        """A future of the grammar; equal constraints in flight share one compilation. Never blocks on compiling."""
        key = self.key(constraint)
        found = self._memory.get(key)
        if found is not None:
            return _finished(found.from_memory(), constraint)
        try:
            screened = None if self.disk.holds(key) else screen(constraint, self._limits)
        except Exception as error:  # noqa: BLE001 - every refusal reaches the caller through the future
            return _failed(error)
        with self._lock:
            if self._closed:
                raise NotReady("the engine has been closed")
            shared = self._running.get(key)
            if shared is None:
                pool: Executor = self._heavy if screened is not None and screened.heavy else self._quick
                shared = self._running[key] = pool.submit(self._produce, key, constraint, screened)
                shared.add_done_callback(lambda _: self._forget(key))
        return _demanding(shared, constraint)

    def warm(self) -> threading.Thread:
        """Learn in the background what most schemas share, here and in the worker: about 50 s of processor each.

        XGrammar keeps the masks of rules in the process that compiled them, and they can be neither stored nor handed
        over; afterwards an unseen schema with string lengths takes 5-10 ms instead of seconds (a lower bound beside an
        upper one: 20-40 ms more for every character of it beyond the first). For servers; the first call starts it,
        every call returns the thread that ends when both know.
        """
        with self._lock:
            if self._learning is None:
                stop = threading.Event()
                here = threading.Thread(target=self._compiler.warm, args=(stop.is_set,), name="warm-here", daemon=True)
                here.start()
                self._unlearn = weakref.finalize(self, _stop, stop, here)  # also where nobody closes, at the end
                self._learning = threading.Thread(target=self._learn, args=(here,), name="warm", daemon=True)
                self._learning.start()
            return self._learning

    def _learn(self, here: threading.Thread) -> None:
        with suppress(NotReady):
            self.sandbox.warm()
        here.join()

    def close(self) -> None:
        """Stop the worker and the threads; what is being compiled ends with an error, what is compiled is stored."""
        self._closed = True
        self.sandbox.close()
        self._unlearn()
        for pool in (self._quick, self._heavy):
            pool.shutdown(wait=True, cancel_futures=True)
        self._storing.shutdown(wait=True)
        self._compiler.close()

    def flush(self) -> None:
        """Wait until everything compiled so far has been stored."""
        self._storing.submit(lambda: None).result()

    def _produce(self, key: str, constraint: Constraint, screened: Screened | None) -> CompiledGrammar:
        """`screened` is None where a file was found; if that turns out to be damaged, it is screened now."""
        start = time.perf_counter()
        source: Source = "disk"
        content = None
        compiled = self.disk.get(key, self._compiler)
        if compiled is None:
            source = "compiled"
            compiled, content = self._compile(key, constraint, screened or screen(constraint, self._limits))
        elapsed = (time.perf_counter() - start) * 1e3
        grammar = CompiledGrammar(constraint, key, compiled, self.vocabulary, source, elapsed, self._limits)
        _refuse_empty(grammar)
        _ = grammar.min_tokens  # 1-100 ms that the decode thread would spend otherwise: it admits by this number
        self._memory.put(key, grammar)
        if compiled.rest is not None:
            compiled.rest.add_done_callback(lambda rest: self._drop(key) if rest.exception() else None)
        if source == "compiled" and elapsed > _WORTH_STORING_MS:
            self._storing.submit(self._store, grammar, content)
        return grammar

    def _compile(self, key: str, constraint: Constraint, screened: Screened) -> tuple[Compiled, bytes | None]:
        """The grammar, and its encoded form where the worker made it."""
        if not screened.heavy:
            return self._compiler.compile(constraint), None
        with self.disk.lock(key, self._limits.compile_s):
            stored = self.disk.get(key, self._compiler)  # another process may have compiled it meanwhile
            if stored is not None:
                return stored, None
            content = self.sandbox.compile(constraint, screened)
            return decode(content, self._compiler), content

    def _beside(self, make: Callable[[], object]) -> None:
        """Make something while nobody waits for a grammar, nor for the interpreter with one just handed over."""
        patience = time.monotonic() + _PATIENCE_S
        while not self._closed:
            time.sleep(_PATIENCE_S / 100)
            if not self._running or time.monotonic() > patience:
                break
        make()

    def _store(self, grammar: CompiledGrammar, content: bytes | None) -> None:
        constraint = grammar.constraint
        about = {"kind": constraint.kind, "schema_hash": constraint.schema_hash, "compile_ms": grammar.compile_ms}
        about["shortest"] = grammar.matcher().shortest_ending(0)
        content = content or encode(grammar.compiled, constraint.kind, grammar.compile_ms / 1e3)
        self.disk.put(grammar.key, content, self._compiler, **about)

    def _drop(self, key: str) -> None:
        """Its remaining masks could not be loaded: the next request makes it again."""
        self._memory.drop(key)
        self.disk.drop(key)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._running.pop(key, None)


def _stop(stopping: threading.Event, thread: threading.Thread) -> None:
    """A thread that compiles while the interpreter ends would abort the process."""
    stopping.set()
    thread.join()


def _refuse_empty(grammar: CompiledGrammar) -> None:
    """Raises SchemaRefused for a grammar that derives nothing. Lowering has seen to it for schemas and patterns."""
    if grammar.constraint.kind in ("ebnf", "lark", "structural_tag"):
        row = np.zeros((1, words(grammar.vocabulary.size)), dtype=np.int32)
        closer = grammar.closer
        if (closer is not None and not closer.productive) or not grammar.matcher().fill(row, 0):
            raise SchemaRefused("no document satisfies this constraint", param=grammar.constraint.kind)


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
            watched = constraint.is_json and verdict.keyword == REPEATED_KEYS
            if verdict.verdict == "checked" and not watched:
                place = f"{verdict.keyword} at {verdict.pointer or '(root)'}"
                raise SchemaRefused(
                    f"require_enforced: {place} is only checked: {verdict.reason}",
                    param=constraint.kind,
                    pointer=verdict.pointer,
                )
    return grammar
