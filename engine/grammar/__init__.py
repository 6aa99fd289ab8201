"""Grammars as masks: vocabulary, compiler, caches, matcher, endings. The only home of xgrammar."""

from engine.grammar.bitmask import BitmaskBuffer
from engine.grammar.compiled import CompiledGrammar
from engine.grammar.judged import Matcher
from engine.grammar.mask_work import Unfinished
from engine.grammar.matcher import NO_ENDING
from engine.grammar.service import GrammarService
from engine.grammar.vocabulary import Vocabulary

__all__ = [
    "NO_ENDING",
    "BitmaskBuffer",
    "CompiledGrammar",
    "GrammarService",
    "Matcher",
    "Unfinished",
    "Vocabulary",
]
