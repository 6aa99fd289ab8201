"""Who computes next: CPU time shared between owners, and within an owner between jobs. Pure; knows no processes.

A job that has hardly run goes first, so that small ones never wait for large ones; then the owner that has used least
(start-time fair queueing over CPU seconds), each owner's second place counting as a quantum more. Where an owner's new
jobs do not end, his older ones get half of his time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol, TypeVar

QUANTUM_S = 0.1
"""What a job may use before others are looked at again."""
_LEAD_S = 5 * QUANTUM_S
"""What an owner's new jobs may use before his older ones, beyond what those used."""

Owner = Hashable


class Contender(Protocol):
    """A job as the order sees it: whose it is (all who wait for it), what it has used, whether it computes now."""

    @property
    def owners(self) -> Iterable[Owner]: ...
    @property
    def used_s(self) -> float: ...
    @property
    def computing(self) -> bool: ...


C = TypeVar("C", bound=Contender)


class Shares:
    """CPU seconds by owner."""

    def __init__(self) -> None:
        self._used: dict[Owner, float] = {}
        self._lead: dict[Owner, float] = {}
        """What new jobs have used beyond older ones while both were there; never below 0."""
        self._present: set[Owner] = set()

    def attend(self, present: set[Owner], older: Iterable[Owner] = ()) -> None:
        """These wait for a job now, those `older` for one that has run for a while. Whoever came, or came back, is
        level with those who were here, never ahead by having been away; the absent who are level with everybody are
        forgotten."""
        stayed = present & self._present
        level = min((self._used[owner] for owner in stayed), default=0.0)
        for owner in present - stayed:
            self._used[owner] = max(self._used.get(owner, 0.0), level)
        least = min((self._used[owner] for owner in present), default=float("inf"))
        self._used = {owner: used for owner, used in self._used.items() if owner in present or used > least}
        self._lead = {owner: self._lead.get(owner, 0.0) for owner in older}
        self._present = present

    def charge(self, owner: Owner, seconds: float, *, new: bool = False) -> None:
        """Time that somebody's job has used; `new`: while it was one that had hardly run."""
        self._used[owner] = self._used.get(owner, 0.0) + seconds
        if owner in self._lead:
            self._lead[owner] = max(0.0, self._lead[owner] + (seconds if new else -seconds))

    def payer(self, contender: Contender) -> Owner:
        """Of those who wait for a job, the one that has used least: whoever joins a job brings it his place."""
        return min(contender.owners, key=lambda owner: self._used.get(owner, 0.0), default=None)

    def chosen(self, contenders: Sequence[C], places: int) -> list[C]:
        """At most `places` of them, in order of claim. Earlier ones first where claims are equal."""
        left, picked, result = list(contenders), dict[Owner, int](), list[C]()
        while left and len(result) < places:
            best = min(left, key=lambda contender: self._claim(contender, picked))
            left.remove(best)
            result.append(best)
            payer = self.payer(best)
            picked[payer] = picked.get(payer, 0) + 1
        return result

    def _claim(self, contender: Contender, picked: dict[Owner, int]) -> float:
        owner = self.payer(contender)
        claim = self._used.get(owner, 0.0) + QUANTUM_S * picked.get(owner, 0)
        if contender.used_s < QUANTUM_S:
            return claim - 2 * QUANTUM_S if self._lead.get(owner, 0.0) < _LEAD_S else claim
        return claim - QUANTUM_S if contender.computing else claim
