"""Whose turn it is to compute, decided without any process."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from engine.sandbox.fair import QUANTUM_S, Shares


@dataclass(eq=False)
class Contender:
    owners: list[str]
    needs_s: float
    used_s: float = 0.0
    computing: bool = False
    ended_at: float = field(default=0.0)


def simulate(contenders: list[Contender], places: int, step_s: float = 0.01) -> float:
    """Let them compute until all are done; the seconds that took."""
    shares, clock = Shares(), 0.0
    left = list(contenders)
    while left:
        older = [shares.payer(contender) for contender in left if contender.used_s >= QUANTUM_S]
        shares.attend({owner for contender in left for owner in contender.owners}, older)
        chosen = shares.chosen(left, places)
        for contender in left:
            contender.computing = contender in chosen
        clock += step_s
        for contender in chosen:
            shares.charge(shares.payer(contender), step_s, new=contender.used_s < QUANTUM_S)
            contender.used_s += step_s
            if contender.used_s >= contender.needs_s:
                contender.ended_at = clock
                left.remove(contender)
    return clock


def test_a_small_job_waits_for_no_large_ones_whosever_they_are() -> None:
    large = [Contender(["a"], 2.0, used_s=1.0, computing=True) for _ in range(40)]
    small = Contender(["b"], 0.05)
    own = Contender(["a"], 0.05)
    simulate([*large, small, own], places=2)
    assert max(small.ended_at, own.ended_at) < 3 * QUANTUM_S


def test_an_owner_of_many_jobs_gets_no_more_time_than_an_owner_of_one() -> None:
    many = [Contender(["a"], 5.0) for _ in range(8)]
    one = Contender(["b"], 5.0)
    simulate([*many, one], places=1)
    assert one.ended_at < 2 * 5.0 + 8 * QUANTUM_S + 0.2


@pytest.mark.parametrize("places", [1, 2])
def test_new_jobs_that_never_end_leave_half_to_older_ones(places: int) -> None:
    """As many as last beyond the bound if they go first."""
    bound_s = 2 * 5.0 / places + 2.0
    beyond = round(1.1 * bound_s * places / 0.05)
    long, flood = Contender(["a"], 5.0), [Contender(["a"], 0.05) for _ in range(beyond)]
    simulate([long, *flood], places)
    assert long.ended_at < bound_s


def test_of_one_owner_long_jobs_end_one_after_the_other() -> None:
    jobs = [Contender(["a"], 2.0) for _ in range(3)]
    simulate(jobs, places=1)
    assert sorted(round(job.ended_at) for job in jobs) == [2, 4, 6]


def test_who_joins_a_job_brings_it_his_turn() -> None:
    others = [Contender(["a"], 5.0) for _ in range(4)]
    joined = Contender(["a", "b"], 5.0)
    simulate([*others, joined], places=1)
    assert joined.ended_at < 2 * 5.0 + 5 * QUANTUM_S + 0.2


def test_coming_back_is_no_advantage_and_going_leaves_nothing() -> None:
    shares = Shares()
    shares.attend({"a"})
    shares.charge("a", 9.0)
    shares.attend({"a", "b"})  # b is level with a
    shares.charge("b", 1.0)
    shares.attend({"b"})
    shares.attend({"a", "b"})  # a, who was behind, is level with b
    first, second = Contender(["a"], 1.0, used_s=1.0), Contender(["b"], 1.0, used_s=1.0)
    assert shares.chosen([second, first], 1) == [second]
    assert shares.chosen([first, second], 1) == [first]
    shares.charge("a", 0.5)
    assert shares.chosen([first, second], 1) == [second]
    shares.attend(set())
    assert not shares._used


def test_who_joins_a_job_is_level_with_those_who_were_here() -> None:
    shares = Shares()
    shares.attend({"a", "c"})
    shares.charge("a", 9.0)
    shares.charge("c", 8.0)
    joined, other = Contender(["a", "b"], 1.0, used_s=1.0), Contender(["c"], 1.0, used_s=1.0)
    shares.attend({"a", "b", "c"})
    assert shares.payer(joined) == "b"
    shares.charge("b", 0.1)
    assert shares.chosen([joined, other], 1) == [other]
