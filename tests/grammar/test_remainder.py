"""What is missing is made once: when it is wanted, by itself after a while, and its failure reaches whoever waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.grammar import remainder
from engine.grammar.remainder import Remainder


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.mark.parametrize("wanted", [True, False])
def test_it_waits_to_be_wanted(wanted, pool, monkeypatch):
    monkeypatch.setattr(remainder, "PATIENCE_S", 1e6)
    begun, made = threading.Event(), []
    rest = Remainder(lambda: (begun.set(), made.append(1))[1], pool)
    assert not rest.done()
    if wanted:
        rest.want()
        rest.want()
        assert begun.wait(10)
    else:
        assert not begun.wait(0.05)
    rest.result(10)
    rest.want()
    pool.shutdown(wait=True)
    assert made == [1]


def test_nobody_need_want_it(pool, monkeypatch):
    monkeypatch.setattr(remainder, "PATIENCE_S", 0.01)
    begun = threading.Event()
    Remainder(begun.set, pool)
    assert begun.wait(10)


def test_a_failure_reaches_whoever_waits(pool):
    told = []
    rest = Remainder(lambda: 1 // 0, pool)
    rest.add_done_callback(lambda done: told.append(done.exception()))
    with pytest.raises(ZeroDivisionError):
        rest.result(10)
    assert isinstance(told[0], ZeroDivisionError)


def test_after_the_end_it_fails_instead_of_waiting_for_ever():
    pool = ThreadPoolExecutor(1)
    rest = Remainder(lambda: 1, pool)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        rest.result(10)
