"""Decoding beside compiling in one process: the steps of a healthy row keep their pace while a bomb is compiled."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from engine.config import EngineConfig, Limits
from engine.decode.core.process import settle
from engine.errors import LimitExceeded
from engine.grammar import CompiledGrammar, GrammarService
from engine.grammar.masks.bitmask import to_bools, words
from engine.request import Constraint
from tests.grammar.fakes import BOMB, byte_tokenizer

STEP_S = 0.004


def steps(grammar: CompiledGrammar, until: threading.Event, most: int) -> list[float]:
    """Seconds of each step: a forward that leaves the interpreter alone, then mask, draw, accept and budget."""
    draw, size = random.Random(2), grammar.vocabulary.size
    row = np.zeros((1, words(size)), dtype=np.int32)
    matcher, taken = grammar.matcher(), []
    while len(taken) < most and not until.is_set():
        start = time.perf_counter()
        time.sleep(STEP_S)
        matcher.fill(row, 0)
        token = int(draw.choice(np.flatnonzero(to_bools(row[0], size))))
        if not matcher.accept(token) or not matcher.fits(500) or matcher.terminated:
            matcher = grammar.matcher()
        taken.append(time.perf_counter() - start)
    return taken


def test_a_bomb_delays_no_step_by_more_than_a_step(tmp_path: Path) -> None:
    settle()
    config = EngineConfig(cache_dir=tmp_path, limits=Limits(compile_s=1.5))
    service = GrammarService(byte_tokenizer(), 258, config=config)
    service.start()
    grammar = service.compile(Constraint.json_schema({"type": "array", "items": {"type": "integer"}}))
    alone = steps(grammar, threading.Event(), 150)
    over = threading.Event()
    bomb = service.submit(Constraint.json_schema(BOMB))
    bomb.add_done_callback(lambda _: over.set())
    beside = steps(grammar, over, 10_000)
    with pytest.raises(LimitExceeded):
        bomb.result(timeout=60)
    service.close()
    assert len(beside) > 50
    for share in (50, 90):
        assert np.percentile(beside, share) < 2 * np.percentile(alone, share)
