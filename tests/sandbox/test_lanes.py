"""Threads that owners share: who gets one, and what is never done."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from engine.sandbox.lanes import Lane


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("test", 2)
    yield lane
    lane.close()


def test_an_owners_long_errands_leave_a_thread_to_others(lane: Lane) -> None:
    go = threading.Event()
    try:
        held = [lane.put(["a"], go.wait) for _ in range(6)]
        assert lane.put(["b"], lambda: "done").result(60) == "done"
        assert not any(future.done() for future in held)
    finally:
        go.set()
    assert all(future.result(60) for future in held)


def test_what_is_cancelled_before_its_turn_is_not_done(lane: Lane) -> None:
    go, done = threading.Event(), list[int]()
    held = [lane.put(["a"], go.wait) for _ in range(2)]
    waiting = [lane.put(["a"], lambda number=number: done.append(number)) for number in range(3)]
    assert waiting[1].cancel()
    go.set()
    for future in (*held, waiting[0], waiting[2]):
        future.result(60)
    assert done == [0, 2]


def test_a_closed_lane_cancels_what_waits() -> None:
    lane, begun, go = Lane("test", 1), threading.Event(), threading.Event()
    held = lane.put(["a"], lambda: begun.set() or go.wait())
    assert begun.wait(60)
    waiting = lane.put(["a"], go.wait)
    lane.close(wait=False)
    assert waiting.cancelled()
    assert lane.put(["a"], go.wait).cancelled()
    go.set()
    assert held.result(60)


class Refused(Exception):
    """What an errand raises; told when it is gone."""


def test_what_an_errand_raised_is_gone_without_a_collection(lane: Lane) -> None:
    gone = threading.Event()

    def refuse() -> None:
        error = Refused()
        weakref.finalize(error, gone.set)
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        with pytest.raises(Refused):
            lane.put(["a"], refuse).result(60)
        lane.put(["a"], list).result(60)  # the thread has left the first
        assert gone.wait(60)
    finally:
        gc.enable()
