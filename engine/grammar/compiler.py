"""From a constraint to a compiled grammar, in this thread, without a deadline.

Knows xgrammar's compiler and our lowering. Does not know caches, threads or workers (`service`, `sandbox`).
"""

from __future__ import annotations

import copy
import json
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import xgrammar as xgr

from engine.config import Limits
from engine.errors import LimitExceeded, SchemaInvalid, SchemaRefused
from engine.grammar.composed import Composed, composed_lark, composed_tag
from engine.grammar.machine import memory_bytes
from engine.grammar.messages import invalid
from engine.grammar.normalised import NotReadable, read
from engine.grammar.recipe import Recipe
from engine.grammar.regex_parts import plain_in_ebnf
from engine.grammar.remainder import Remainder
from engine.judge import judge_of
from engine.request import Constraint
from engine.schema.automaton import Automaton
from engine.schema.common import common_grammars
from engine.schema.embed import Embedded, embed, refuse_broken
from engine.schema.grammar import Grammar, Rule
from engine.schema.lower import lower
from engine.schema.pattern import PatternInvalid, PatternUnsupported, full_match
from engine.schema.states import AutomatonTooLarge
from engine.schema.text import TextRules
from engine.schema.verdict import Verdict

_LEAST, _MOST = 512 << 20, 4608 << 20
_CACHE_CHECK = "per_rule_fsm_hashes"
_HAND_OVER_S = 0.002
"""The interpreter belongs to whoever waits for the grammar, before it belongs to the thread that loads the rest."""


def rule_cache_bytes() -> int:
    """The most that XGrammar keeps: rules in a third of it, whole grammars in the rest. A sixth of the memory there is,
    between 0.5 and 4.5 GiB. With less, thousands of schemas push out what `warm` has learnt, and a known length costs
    seconds again."""
    return max(_LEAST, min(_MOST, memory_bytes() // 6))


@dataclass(frozen=True, slots=True)
class Compiled:
    """What compiling yields. `grammar` is our own form where there is one (it is analysed for endings).

    Where there is a `rest`, `raw` has all rules but not all masks: filling one that it lacks is a RuntimeError."""

    raw: xgr.CompiledGrammar
    grammar: Grammar | None
    verdicts: tuple[Verdict, ...]
    rest: Remainder[xgr.CompiledGrammar] | None = None
    """The same grammar with all masks, while it loads and afterwards."""
    rest_bytes: int = 0
    shortest: tuple[int, ...] = ()
    """Tokens of the shortest document, stop token last, where somebody has searched for them before."""
    recipe: Recipe | None = None
    cooked_s: float = 0.0
    """What making the masks from the recipe took, in CPU seconds."""

    @property
    def known(self) -> xgr.CompiledGrammar:
        """What there is by now."""
        there = self.rest is not None and self.rest.done() and self.rest.exception() is None
        return self.rest.result() if self.rest is not None and there else self.raw

    @property
    def whole(self) -> xgr.CompiledGrammar:
        """All of it; waits while it loads, tens of milliseconds."""
        return self.raw if self.rest is None else self.rest.result()

    @property
    def nbytes(self) -> int:
        """Memory of the masks, the rest included before it is there."""
        return int(self.raw.memory_size_bytes) + self.rest_bytes


class Compiler:
    """One per vocabulary and process. Its rule cache makes later grammars with the same scalar rules cheap."""

    def __init__(self, info: xgr.TokenizerInfo, limits: Limits) -> None:
        self._limits = limits
        self._info = info
        self._xgr = xgr.GrammarCompiler(info, max_threads=1, cache_limit_bytes=rule_cache_bytes())
        self._loading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")  # starts no thread before it must
        self._remainders: weakref.WeakSet[Remainder[xgr.CompiledGrammar]] = weakref.WeakSet()

    def compile(self, constraint: Constraint) -> Compiled:
        """Milliseconds to seconds; releases the GIL inside. Raises SchemaInvalid or SchemaRefused."""
        compile_kind = getattr(self, f"_{constraint.kind}")
        if not constraint.is_json:
            refuse_broken(constraint)
            judge_of(constraint)  # what cannot be judged is refused, by name, before anything is decoded
        try:
            return compile_kind(constraint)  # type: ignore[no-any-return]  # looked up by name
        except AutomatonTooLarge as error:
            raise LimitExceeded(f"{constraint.kind} is too large to compile: {error}", param=constraint.kind) from None
        except RecursionError:
            message = f"{constraint.kind} nests or refers too deeply to compile"
            raise LimitExceeded(message, param=constraint.kind) from None
        except OverflowError:
            message = f"{constraint.kind} holds a number beyond what a double can tell apart"
            raise SchemaRefused(message, param=constraint.kind) from None
        except RuntimeError as error:
            raise invalid(constraint.kind, error) from None

    def under(self, limits: Limits) -> Compiler:
        """The same compiler, with what it knows, under other limits."""
        other = copy.copy(self)
        other._limits = limits
        return other

    def cook(self, recipe: Recipe) -> xgr.CompiledGrammar:
        """Masks. Milliseconds to seconds, with the GIL released.

        Without the rule cache where XGrammar's own check of that cache fails (a rule with a repeat that refers to a
        regular expression).
        """
        try:
            return recipe.cook(self._xgr)
        except RuntimeError as error:
            if _CACHE_CHECK not in str(error):
                raise
        return recipe.cook(xgr.GrammarCompiler(self._info, max_threads=1, cache_enabled=False))

    def from_masks(self, serialised: str) -> xgr.CompiledGrammar:
        """Xgrammar's own form read back. 2-30 ms, with the GIL released. RuntimeError when it does not fit."""
        return xgr.CompiledGrammar.deserialize_json(serialised, self._info)

    def later(self, serialised: Callable[[], str]) -> Remainder[xgr.CompiledGrammar]:
        """The same in a thread, for whoever can begin without; it begins when a document does, or a little later."""
        remainder = Remainder(lambda: self._load(serialised), self._loading)
        self._remainders.add(remainder)
        return remainder

    def _load(self, serialised: Callable[[], str]) -> xgr.CompiledGrammar:
        time.sleep(_HAND_OVER_S)
        return self.from_masks(serialised())

    def close(self) -> None:
        """Load what is still to be loaded and end the thread; compiling goes on working."""
        for remainder in list(self._remainders):
            remainder.want()
        self._loading.shutdown(wait=True)

    def warm(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Compile what most schemas share, so that an unseen schema costs little more than its own rules. About 6 s of
        CPU at V = 151,936, most of it for names and formats; every compile in between profits from what is done.
        `stop` is asked in between and ends it early.
        """
        for grammar in common_grammars():
            if stop():
                return
            self._xgr.compile_grammar(grammar.to_ebnf())

    def _json_schema(self, constraint: Constraint) -> Compiled:
        lowered = lower(
            json.loads(constraint.source),
            whitespace=constraint.whitespace,
            conformance=constraint.conformance,
            limits=self._limits,
        )
        return self._from_rules(lowered.grammar, lowered.verdicts)

    _json_object = _json_schema

    def _regex(self, constraint: Constraint) -> Compiled:
        return self._from_rules(_scalar(_full_match(constraint.source)))

    def _ebnf(self, constraint: Constraint) -> Compiled:
        recipe = Recipe("ebnf", plain_in_ebnf(constraint.source))
        raw, seconds = self._timed(recipe)
        return Compiled(raw, _rule_form(raw), (), recipe=recipe, cooked_s=seconds)

    def _lark(self, constraint: Constraint) -> Compiled:
        embedded = embed(constraint, self._limits)
        return self._composed(embedded, composed_lark(embedded, self._info))

    def _choice(self, constraint: Constraint) -> Compiled:
        return self._from_rules(_scalar(Automaton.of(json.loads(constraint.source))))

    def _structural_tag(self, constraint: Constraint) -> Compiled:
        embedded = embed(constraint, self._limits)
        return self._composed(embedded, composed_tag(embedded))

    def _composed(self, embedded: Embedded, composed: Composed) -> Compiled:
        raw, seconds = self._timed(composed.recipe)
        rules = (composed.rules() if embedded.parts else None) or _rule_form(raw)
        return Compiled(raw, rules, embedded.verdicts, recipe=composed.recipe, cooked_s=seconds)

    def _from_rules(self, grammar: Grammar, verdicts: tuple[Verdict, ...] = ()) -> Compiled:
        recipe = Recipe("ebnf", grammar.to_ebnf())
        raw, seconds = self._timed(recipe)
        return Compiled(raw, grammar, verdicts, recipe=recipe, cooked_s=seconds)

    def _timed(self, recipe: Recipe) -> tuple[xgr.CompiledGrammar, float]:
        started = time.thread_time()
        return self.cook(recipe), time.thread_time() - started


def _full_match(pattern: str) -> Automaton:
    try:
        return full_match(pattern)
    except PatternInvalid as error:
        raise SchemaInvalid(f"not an ECMA-262 regular expression: {error}", param="regex") from None
    except PatternUnsupported as error:
        raise SchemaRefused(f"this regular expression cannot be enforced: {error}", param="regex") from None


def _scalar(automaton: Automaton) -> Grammar:
    """The grammar of an automaton's words; SchemaRefused for the empty language."""
    if automaton.is_empty:
        raise SchemaRefused("no text satisfies this constraint")
    rules: dict[str, Rule] = {}
    return Grammar(rules, TextRules(rules).scalar(automaton, None).name)


def _rule_form(raw: xgr.CompiledGrammar) -> Grammar | None:
    """The grammar in our own form, for endings; None where it has none (endings are then found by search)."""
    try:
        return read(str(raw.grammar))
    except NotReadable:
        return None
