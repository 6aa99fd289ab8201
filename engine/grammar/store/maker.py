"""Making grammars: from disk, or lowered and compiled in the sandbox, where it can be stopped; stored afterwards.

What comes back from the sandbox is loaded in threads of this process, what takes long apart from what does not.
"""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial

from engine.config import Limits
from engine.grammar.compile.codec import cooking_s, decode
from engine.grammar.compile.compiler import Compiled, Compiler
from engine.grammar.compile.error_text import error_of
from engine.grammar.compile.screen import screen
from engine.grammar.compiled_grammar import CompiledGrammar, Source
from engine.grammar.masks.bitmask import cleared
from engine.grammar.store.disk import DiskCache
from engine.grammar.store.making import Making
from engine.grammar.store.memory import MemoryCache
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint
from engine.sandbox import Answer, Job, Stopped, Task, shared_pool
from engine.sandbox.lanes import Lane

_WORTH_STORING_S = 0.005
"""Below this, loading costs about as much as lowering and compiling."""
_PATIENCE_S = 0.5
_NICE = 5
"""Decoding goes first."""
_LIGHT_S = 0.02
"""What takes longer to load waits in a line of its own."""
_BYTE_S = 8e-7
"""What this process takes for the tables of a grammar, a byte of its encoded form; measured: up to that."""
_COMMON = b'{"a key":"a text, and more","b":[-12.5e3,true,null,{}]}'
"""A document that comes to every place where much may follow."""
_WORKER = "engine.grammar.store.worker"


class Maker:
    """Per model: a compiler that loads, two lines of threads, a thread that stores, and a share of the sandbox."""

    def __init__(self, vocabulary: Vocabulary, disk: DiskCache, memory: MemoryCache, limits: Limits) -> None:
        self.compiler = Compiler(vocabulary.info, limits)
        self.sandbox, self._release = shared_pool(self)
        self._vocabulary, self._disk, self._memory, self._limits = vocabulary, disk, memory, limits
        self._light = Lane("load", 1, nice=_NICE)
        self._bulk = Lane("load-bulk", 1, nice=_NICE)
        self._storing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._lock = threading.RLock()
        self._tasks: weakref.WeakSet[Task] = weakref.WeakSet()
        self._under_way: weakref.WeakSet[Making] = weakref.WeakSet()
        self._started = False
        self._closed = False
        for table in ("segmenter", "string_tokens"):  # 0.1 and 0.2 s that no request should wait for
            self._storing.submit(self._beside, partial(getattr, self._vocabulary, table))
        self._storing.submit(self._beside, self._make_common_masks)

    def start(self) -> None:
        """Start the process that compiling ones are made of: 1-2 s of another processor, ahead of the first constraint.

        Every call after the first does nothing.
        """
        with self._lock:
            if self._started:
                return
            self._started = True
        self.sandbox.prepare(_WORKER, self._vocabulary.fingerprint, self._vocabulary.to_bytes())

    def close(self) -> None:
        """Stop everything; what is compiled already is stored first."""
        self._closed = True
        self._await_rest(self._limits.compile_s)
        self._release()
        self._light.close()
        self._bulk.close()
        self._storing.shutdown(wait=True)

    def flush(self) -> None:
        """Wait until everything compiled so far has been stored."""
        self._await_rest(None)
        self._storing.submit(lambda: None).result()

    def _await_rest(self, patience_s: float | None) -> None:
        """What has been compiled is still being written for the disk."""
        for task in list(self._tasks):
            if task.done():
                task.finished.wait(patience_s)

    def begin(self, making: Making) -> None:
        """From the disk where there is a file, else from the sandbox."""
        self._under_way.add(making)
        making.future.add_done_callback(lambda _: self._under_way.discard(making))
        if self._disk.holds(making.key):
            lane = self._light if self._disk.is_quick(making.key, _LIGHT_S) else self._bulk
            self._put(lane, making, self._read)
        else:
            self._compile(making)

    def _put(self, lane: Lane, making: Making, work: Callable[[Making], None]) -> None:
        def guarded() -> None:
            if making.future.cancelled():
                return
            try:
                work(making)
            except Exception as error:  # noqa: BLE001 - whatever went wrong belongs to whoever waits
                making.fail(error)

        lane.put(making.owners, guarded)

    def _read(self, making: Making) -> None:
        compiled = self._disk.get(making.key, self.compiler)
        if compiled is not None:
            self._finish(making, compiled, "disk")
            return
        screen(making.constraint, self._limits)  # the file was damaged
        self._compile(making)

    def _compile(self, making: Making) -> None:
        constraint, limits, future = making.constraint, self._limits, making.future
        job = Job(
            _WORKER,
            self._vocabulary.fingerprint,
            b"%f\n" % _WORTH_STORING_S + json.dumps(asdict(constraint)).encode(),
            session=limits,
            setup=json.dumps(asdict(limits)).encode(),
            cpu_s=limits.compile_s,
            memory_bytes=limits.compile_memory_bytes,
            on_more=lambda content: future.add_done_callback(lambda done: self._keep(done, content)),
        )
        self.start()
        task = self.sandbox.submit(job, making.owners)
        self._tasks.add(task)
        with self._lock:
            making.begin(task)
        task.add_done_callback(lambda done: self._compiled(making, done))

    def _compiled(self, making: Making, done: Future[Answer]) -> None:
        """The sandbox has answered."""
        try:
            content = done.result().content
        except Stopped as stopped:
            making.fail(error_of(stopped, making.constraint, self._limits))
        except BaseException as error:  # noqa: BLE001 - cancelled, or refused by name
            making.fail(error)
        else:
            lane = self._light if _loading_s(content) <= _LIGHT_S else self._bulk
            self._put(lane, making, lambda _: self._finish(making, decode(content, self.compiler), "compiled"))

    def _finish(self, making: Making, compiled: Compiled, source: Source) -> None:
        elapsed = (time.perf_counter() - making.started) * 1e3
        constraint, key = making.constraint, making.key
        grammar = CompiledGrammar(constraint, key, compiled, self._vocabulary, source, elapsed, self._limits)
        _ = grammar.narrowing  # with all tables that the decode thread will want
        self._memory.put(making.key, grammar)
        making.settle(grammar)

    def _keep(self, done: Future[CompiledGrammar], content: bytes) -> None:
        if not done.cancelled() and done.exception() is None:
            with suppress(RuntimeError):  # closed meanwhile
                self._storing.submit(self._store, done.result(), content)

    def _beside(self, make: Callable[[], object]) -> None:
        """Make something while nobody waits for a grammar, nor for the interpreter with one just handed over."""
        patience = time.monotonic() + _PATIENCE_S
        while not self._closed:
            time.sleep(_PATIENCE_S / 100)
            if not self._under_way or time.monotonic() > patience:
                break
        make()

    def _make_common_masks(self) -> None:
        """Masks of free strings, keys and numbers, which nearly all documents need: XGrammar keeps them by rule, so
        that grammars to come find them. 0.1 s of CPU at V = 151,936."""
        constraint = Constraint.json_schema({}, conformance="spec")
        grammar = CompiledGrammar(constraint, "", self.compiler.compile(constraint), self._vocabulary)
        self._vocabulary.beside(b'"')  # its table is made when first asked
        matcher, row = grammar.matcher(), cleared(1, self._vocabulary.size)
        for token in self._vocabulary.segmenter.cut(_COMMON) or ():
            matcher.fill(row, 0)
            matcher.accept(token)

    def _store(self, grammar: CompiledGrammar, content: bytes) -> None:
        constraint = grammar.constraint
        about = {"kind": constraint.kind, "schema_hash": constraint.schema_hash, "compile_ms": grammar.compile_ms}
        self._disk.put(grammar.key, content, **about, load_ms=_loading_s(content) * 1e3)


def _loading_s(content: bytes) -> float:
    """CPU seconds that a grammar will take here: what XGrammar makes of it, and its tables."""
    return cooking_s(content) + _BYTE_S * len(content)
