"""Work in pieces: how far one turn of it goes."""

from __future__ import annotations

import time

from engine.grammar.pieces import PIECE_S, Pieces, Work


def long_pieces(count: int, each_s: float, begun: list[int]) -> Pieces[str]:
    for index in range(count):
        begun.append(index)
        until = time.thread_time() + each_s
        while time.thread_time() < until:
            pass
        yield
    return "found"


def test_pieces_that_take_longer_than_they_should_are_fewer_a_turn() -> None:
    begun: list[int] = []
    work = Work(long_pieces(6, 4 * PIECE_S, begun))
    assert not work.run(10, timed=True)
    assert len(begun) <= 3  # the third ends when twelve should have
    assert work.run(100, timed=True)
    assert work.result == "found"
    assert len(begun) == 6


def test_untimed_pieces_are_counted_alone() -> None:
    begun: list[int] = []
    work = Work(long_pieces(6, 4 * PIECE_S, begun))
    assert not work.run(5)
    assert len(begun) == 5
    assert work.run(5)
