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
from engine.grammar.masks.bitmask import cleared
from engine.grammar.pushdown.begun import MOST_BEGUN, most_begun
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint
from engine.schema.formats.registry import EXACT as FORMATS

_RANGES = (
    {"type": "integer"},
    {"type": "integer", "minimum": 1},
    {"type": "integer", "minimum": 0, "maximum": 100},
    {"type": "number", "minimum": 0},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0},
)
_COMMON = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 9},
        "number": {"type": "number"},
        "count": {"type": "integer", "minimum": 0},
        "list": {"type": "array", "items": {"enum": ["one", None, True]}},
        "anything": {},
        **{name: {"type": "string", "format": name} for name in FORMATS},
        **{f"range {number}": numbers for number, numbers in enumerate(_RANGES)},
    },
    "required": ["text"],
}
"""A schema of what most schemas hold: whoever has compiled it needs 7 ms for a small one, a fresh process 100."""
_PREPARED: dict[str, tuple[Vocabulary, Compiler]] = {}


def prepare(name: str, content: bytes) -> None:
    """`content`: the vocabulary's bytes. 1.2 s, so that every child is born with what compiling has taught and with the
    readers of grammars, which are imported late. Its garbage collections leave all of that alone."""
    vocabulary = Vocabulary.from_bytes(content)
    compiler = Compiler(vocabulary.info, Limits())
    _compiled(Constraint.json_schema(_COMMON), vocabulary, compiler)
    _compiled(Constraint.json_schema(_COMMON, conformance="spec"), vocabulary, compiler)
    _compiled(Constraint.lark("start: %json true"), vocabulary, compiler)
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
    _refuse_crowded(grammar)
    return replace(grammar.compiled, least=grammar.least)


def _refuse_empty(grammar: CompiledGrammar) -> None:
    """Raises SchemaRefused for a grammar that derives nothing. Lowering has seen to it for schemas and patterns."""
    if grammar.constraint.kind in ("ebnf", "lark", "structural_tag"):
        row = cleared(1, grammar.vocabulary.size)
        completions = grammar.completions
        if (completions is not None and not completions.productive) or not grammar.matcher().fill(row, 0):
            raise SchemaRefused("no document satisfies this constraint", param=grammar.constraint.kind)


def _refuse_crowded(grammar: CompiledGrammar) -> None:
    """Raises LimitExceeded where one byte begins so many readings that to follow them would take everybody's time. Only
    where a caller has written the grammar: lowering leaves few readings of schemas and patterns."""
    kind, completions = grammar.constraint.kind, grammar.completions
    if kind in ("ebnf", "lark", "structural_tag") and completions is not None:
        begun = most_begun(completions.rules)
        if begun > MOST_BEGUN:
            raise LimitExceeded(
                f"{kind} is too ambiguous: {begun} alternatives can begin with the same byte, {MOST_BEGUN} at most",
                param=kind,
            )
