"""What a process does that compiles: a session is a set of limits, a job one constraint and the CPU seconds from which
it is worth storing. See `engine.sandbox`.

The shortest documents are looked for here too: that can take as long as compiling, and is as easily stopped.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from engine.config import Limits
from engine.errors import LimitExceeded, SchemaRefused
from engine.grammar.compile.codec import encode
from engine.grammar.compile.compiler import Compiled, Compiler
from engine.grammar.compile.screen import screen_parts
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.masks.bitmask import cleared, ids
from engine.grammar.matching.token_matcher import TokenMatcher
from engine.grammar.pieces import PIECE_S
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint

_FORMATS = ("date", "date-time", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uri-reference", "uuid")
"""Learnt in a third of a second; `email` alone would be 60 ms of each schema that has one."""
_COMMON = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 9},
        "number": {"type": "number"},
        "count": {"type": "integer", "minimum": 0},
        "list": {"type": "array", "items": {"enum": ["one", None, True]}},
        "anything": {},
        **{name: {"type": "string", "format": name} for name in _FORMATS},
    },
    "required": ["text"],
}
"""A schema of what most schemas hold: whoever has compiled it needs 7 ms for a small one, a fresh process 100."""
_LOOKED_AT = 6
"""Tokens: readings that multiply at all do so at once."""
_PREPARED: dict[str, tuple[Vocabulary, Compiler]] = {}


def prepare(name: str, content: bytes) -> None:
    """`content`: the vocabulary's bytes. 0.8 s, so that every child is born with what compiling has taught, which its
    garbage collections leave alone."""
    vocabulary = Vocabulary.from_bytes(content)
    compiler = Compiler(vocabulary.info, Limits())
    _compiled(Constraint.json_schema(_COMMON), vocabulary, compiler)
    _PREPARED[name] = vocabulary, compiler
    gc.freeze()


def open_session(name: str, setup: bytes) -> Callable[[bytes], Iterator[bytes]]:
    """`setup` is the limits as JSON. A job's answer: the grammar, and once more where it is to be stored."""
    limits = Limits(**json.loads(setup))
    vocabulary, compiler = _PREPARED[name]
    compiler = compiler.under(limits)

    def answer(payload: bytes) -> Iterator[bytes]:
        head, _, source = payload.partition(b"\n")
        constraint = Constraint(**json.loads(source))
        started = time.process_time()
        screen_parts(constraint, limits)
        compiled = _compiled(constraint, vocabulary, compiler)
        took = time.process_time() - started
        content = encode(compiled)
        yield content
        if took > float(head):
            yield content

    return answer


def _compiled(constraint: Constraint, vocabulary: Vocabulary, compiler: Compiler) -> Compiled:
    """With its shortest documents. Raises ConstraintError."""
    grammar = CompiledGrammar(constraint, "", compiler.compile(constraint), vocabulary)
    _refuse_empty(grammar)
    _refuse_ambiguous(grammar)
    return replace(grammar.compiled, least=grammar.least)


def _refuse_empty(grammar: CompiledGrammar) -> None:
    """Raises SchemaRefused for a grammar that derives nothing. Lowering has seen to it for schemas and patterns."""
    if grammar.constraint.kind in ("ebnf", "lark", "structural_tag"):
        row = cleared(1, grammar.vocabulary.size)
        completions = grammar.completions
        if (completions is not None and not completions.productive) or not grammar.matcher().fill(row, 0):
            raise SchemaRefused("no document satisfies this constraint", param=grammar.constraint.kind)


def _refuse_ambiguous(grammar: CompiledGrammar) -> None:
    """Raises LimitExceeded where so many readings stand at once that to copy them takes longer than a piece of work:
    each token, and each byte of an ending that is searched for, would take everybody's time.

    Looks at short texts of the first and of the last token that may come, and only where a caller has written the
    grammar: lowering leaves few readings of schemas and patterns.
    """
    if grammar.constraint.kind not in ("ebnf", "lark", "structural_tag"):
        return
    texts = grammar.vocabulary.texts
    for order in (1, -1):
        matcher, row = grammar.matcher(), cleared(1, grammar.vocabulary.size)
        for _ in range(_LOOKED_AT):
            matcher.fill(row, 0)
            token = next((token for token in ids(row[0]).tolist()[::order] if texts[token]), None)
            if token is None:
                break
            matcher.accept(token, legal=True)
            if min(_copying_s(matcher) for _ in range(2)) > PIECE_S:  # a garbage collection is not its fault
                kind = grammar.constraint.kind
                raise LimitExceeded(f"{kind} is too ambiguous: too many readings of one text at once", param=kind)


def _copying_s(matcher: TokenMatcher) -> float:
    """Processor time."""
    started = time.thread_time()
    matcher.fork()
    return time.thread_time() - started
