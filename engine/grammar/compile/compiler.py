"""From a constraint to a compiled grammar, in this thread, without a deadline."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from typing import NamedTuple

import xgrammar as xgr

from engine.config import Limits
from engine.errors import LimitExceeded, SchemaInvalid, SchemaRefused
from engine.grammar.compile.error_text import invalid
from engine.grammar.sources.composed import Composed, composed_lark, composed_tag
from engine.grammar.sources.ebnf_reader import NotReadable, read
from engine.grammar.sources.recipe import Recipe
from engine.grammar.sources.regex_parts import plain_in_ebnf
from engine.judge import refuse_unreadable
from engine.request import Constraint
from engine.schema.automata.automaton import Automaton
from engine.schema.automata.tables import AutomatonTooLarge
from engine.schema.embed import Embedded, embed
from engine.schema.lower import lower
from engine.schema.regex.pattern import PatternInvalid, PatternUnsupported, full_match
from engine.schema.rules.grammar import Grammar, Rule
from engine.schema.strings.string_rules import TextRules
from engine.schema.verdicts.verdict import Verdict

RULE_CACHE_BYTES = 512 << 20
"""The most that XGrammar keeps of the masks of rules, which later grammars share: a third of what a document's first
masks take."""


class Least(NamedTuple):
    """The document of fewest tokens, stop token last (empty: there is none), and the size of that of fewest bytes."""

    tokens: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """What compiling yields. `grammar` is our own form where there is one (it is analysed for endings)."""

    raw: xgr.CompiledGrammar
    grammar: Grammar | None
    verdicts: tuple[Verdict, ...]
    recipe: Recipe
    cooked_s: float = 0.0
    """What making `raw` from the recipe took, in CPU seconds."""
    least: Least | None = None
    """Where somebody has looked for it."""


class Compiler:
    """One per vocabulary and process. Masks of rules that several grammars share are made once."""

    def __init__(self, info: xgr.TokenizerInfo, limits: Limits) -> None:
        self._limits = limits
        self._info = info
        self._dynamic = xgr.GrammarCompiler(
            info, max_threads=1, cache_limit_bytes=RULE_CACHE_BYTES, enable_dynamic_compilation=True
        )
        self._static = xgr.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._own = xgr.GrammarCompiler(info, max_threads=1, cache_enabled=False, enable_dynamic_compilation=True)

    def compile(self, constraint: Constraint) -> Compiled:
        """Milliseconds to seconds; releases the GIL inside. Raises SchemaInvalid or SchemaRefused."""
        compile_kind = getattr(self, f"_{constraint.kind}")
        if not constraint.is_json:
            refuse_unreadable(constraint)  # what cannot be judged is refused, by name, before anything is decoded
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
        """XGrammar's form of a recipe. Releases the GIL.

        1-60 ms where masks are made when a document first comes to them, up to 30 ms each. All masks at once, in
        milliseconds to seconds, for grammars that callers write, unless they are read in one way (`one_reading`): one
        mask of an ambiguous one can take many seconds, which no step can wait for. What callers write goes without the
        cache of rules, whose own check fails for some of it.
        """
        if not recipe.dynamic:
            return recipe.cook(self._static)
        return recipe.cook(self._own if recipe.kind == "lark" else self._dynamic)

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
        recipe = Recipe("ebnf", plain_in_ebnf(constraint.source), dynamic=False)
        raw, seconds = self._timed(recipe)
        return Compiled(raw, _rule_form(raw), (), recipe, seconds)

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
        return Compiled(raw, rules, embedded.verdicts, composed.recipe, seconds)

    def _from_rules(self, grammar: Grammar, verdicts: tuple[Verdict, ...] = ()) -> Compiled:
        recipe = Recipe("ebnf", grammar.to_ebnf())
        raw, seconds = self._timed(recipe)
        return Compiled(raw, grammar, verdicts, recipe, seconds)

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
