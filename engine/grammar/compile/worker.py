"""What a process does that compiles: a session is a set of limits, a job one constraint and the CPU seconds from which
it is worth storing. See `engine.sandbox`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import xgrammar as xgr

from engine.config import Limits
from engine.grammar.compile.codec import encode
from engine.grammar.compile.compiler import Compiler
from engine.grammar.compile.screen import screen_parts
from engine.request import Constraint

_COMPILERS: dict[str, Compiler] = {}


def prepare(name: str, content: bytes) -> None:
    """`content`: XGrammar's vocabulary, serialised."""
    _COMPILERS[name] = Compiler(xgr.TokenizerInfo.deserialize_json(content.decode("utf-8")), Limits())


def open_session(name: str, setup: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """`setup` is the limits as JSON. A job's answer: the grammar, and once more where it is to be stored."""
    limits = Limits(**json.loads(setup))
    compiler = _COMPILERS[name].under(limits)

    def answer(payload: bytes) -> Iterator[bytes]:
        head, _, source = payload.partition(b"\n")
        constraint = Constraint(**json.loads(source))
        started = time.process_time()
        screen_parts(constraint, limits)
        compiled = compiler.compile(constraint)
        took = time.process_time() - started
        content = encode(compiled)
        yield content
        if took > float(head):
            yield content

    return answer
