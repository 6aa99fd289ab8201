"""Masks of a Lark grammar are made on the way where what comes next always tells how the text is read."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from engine.config import Limits
from engine.grammar.compile.compiler import Compiler
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.masks.bitmask import cleared, to_bools
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

JOINED = [b'{"', b'":', b'"}', b'a"', b"}<", b"}</", b"<f", b"=a>", b"</f>", b",[", b"],", b'"x', b"10", b"abc", b"0]"]
OBJECT = '%json {"type":"object","properties":{"a":{"type":"string","maxLength":3}},"required":["a"]}'
LIST = '%json {"type":"array","items":{"type":"integer","minimum":0},"maxItems":2}'
ONE = [
    f'start: "x: " {OBJECT} "!"',
    f'start: "<f=a>" a "</f>" | "<f=b>" b "</f>"\na: {OBJECT}\nb: {LIST}',
    f'start: call+\ncall: f | g\nf: "<f=a>" {OBJECT} "</f>"\ng: "<g=" {LIST} ">"',
    f'start: "[" a ("," a)* "]"\na: {LIST}',
    f'start: TEXT "<" {LIST} ">"\nTEXT: /[^<]{{0,4}}/',
    f"start: {OBJECT} | {LIST}",
    'start: "n=" %json {"type":"integer"} ("," | "!")',
    'start: "n=" %json {"type":"string"} "0"',
]
SEVERAL = [
    f"start: {OBJECT} | {OBJECT}",
    f'start: {LIST} | "[" {LIST} "]"',
    f'start: ("a" | "ab") {OBJECT}',
    f'start: "a"* "a" {OBJECT}',
    f'start: /[a-z]*/ "end" {OBJECT}',
    f'start: {LIST}? "[" {OBJECT} "]"',
    f"start: {OBJECT}+ {OBJECT}",
    'start: "n=" %json {"type":"integer"} "0"',
    'start: "n=" %json {"type":["string","number"]} ("," | "e")',
    'start: "a" | "b"',
]


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    tokenizer = byte_tokenizer(JOINED)
    return Compiler(Vocabulary.of(tokenizer, tokenizer.vocab_size).info, Limits())


@pytest.mark.parametrize("source", ONE + SEVERAL)
def test_one_reading_is_told_from_several(compiler: Compiler, source: str) -> None:
    assert compiler.compile(Constraint.lark(source)).recipe.dynamic == (source in ONE)


@pytest.mark.parametrize("source", ONE)
def test_masks_are_those_that_are_made_all_at_once(compiler: Compiler, source: str) -> None:
    tokenizer = byte_tokenizer(JOINED)
    constraint = Constraint.lark(source)
    compiled = compiler.compile(constraint)
    at_once = replace(compiled, raw=compiler.cook(replace(compiled.recipe, dynamic=False)))
    pair = []
    for each in (compiled, at_once):  # a vocabulary each, which keeps masks
        vocabulary = Vocabulary.of(tokenizer, tokenizer.vocab_size)
        pair.append(CompiledGrammar(constraint, "", each, vocabulary))
    ends = 0
    for seed in range(12):
        rng, matchers = random.Random(seed), [grammar.matcher() for grammar in pair]
        for _ in range(40):
            rows = cleared(2, tokenizer.vocab_size)
            for at, matcher in enumerate(matchers):
                matcher.fill(rows, at)
            assert np.array_equal(rows[0], rows[1])
            token = rng.choice(to_bools(rows[0], tokenizer.vocab_size).nonzero()[0].tolist())
            for matcher in matchers:
                assert matcher.accept(token)
            if matchers[0].terminated:
                ends += 1
                break
    assert ends, "no walk came to its end"
