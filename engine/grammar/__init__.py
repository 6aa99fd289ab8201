"""Grammars as masks: vocabulary, compiler, caches, matcher, endings. The only home of xgrammar."""

from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.masks.bitmask import BitmaskBuffer
from engine.grammar.matching.followed_strings import FollowedStrings
from engine.grammar.matching.mask_work import Unfinished
from engine.grammar.matching.matcher import Matcher
from engine.grammar.matching.token_matcher import NO_ENDING
from engine.grammar.service import GrammarService
from engine.grammar.vocabulary.vocabulary import Vocabulary

__all__ = [
    "NO_ENDING",
    "BitmaskBuffer",
    "CompiledGrammar",
    "FollowedStrings",
    "GrammarService",
    "Matcher",
    "Unfinished",
    "Vocabulary",
]
