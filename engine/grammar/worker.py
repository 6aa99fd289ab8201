"""What a process does that compiles: a session is a set of limits, a job one constraint
and the CPU seconds from which it is worth storing. See `engine.sandbox`.

It goes on knowing the rules that it has compiled, and so does the engine's own process, which compiles once more what
took only a moment here: that is cheaper than handing masks over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import xgrammar as xgr

from engine.config import Limits
from engine.grammar.compiler import Compiler
from engine.grammar.entry import cooking_s, encode
from engine.grammar.screen import screen_parts
from engine.request import Constraint
from engine.sandbox.stopped import Spent

QUICK_S = 1.0
"""Masks that took no more CPU time to make are made again by whoever asked; others are handed over."""

_COMPILERS: dict[str, Compiler] = {}


def prepare(name: str, content: bytes) -> None:
    """`content`: whether to learn the common rules (`Compiler.warm`, 50 s) as one digit, and XGrammar's vocabulary."""
    compiler = Compiler(xgr.TokenizerInfo.deserialize_json(content[1:].decode("utf-8")), Limits())
    if content[:1] == b"1":
        compiler.warm()
    _COMPILERS[name] = compiler


def open_session(name: str, setup: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """`setup` is the limits as JSON. A job's answer: the grammar to be used now, then the one to be stored."""
    limits = Limits(**json.loads(setup))
    compiler = _COMPILERS[name].under(limits)

    def answer(payload: bytes) -> Iterator[bytes]:
        head, _, source = payload.partition(b"\n")
        constraint = Constraint(**json.loads(source))
        started = time.process_time()
        screen_parts(constraint, limits)
        compiled = compiler.compile(constraint)
        took = time.process_time() - started
        now = encode(compiled, quick_s=QUICK_S)
        yield now
        if took > float(head):
            yield encode(compiled) if compiled.cooked_s <= QUICK_S else now
        if not cooking_s(now):
            raise Spent  # what it has learnt, whoever asked has not: it would call cheap what is dear there

    return answer
