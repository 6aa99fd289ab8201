"""The keys of an object that has many, one set for each token of it: each shares most of itself with those before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

_FEW = 64


class ManyKeys(Set[str]):
    """More than `_FEW` keys. Never changed. Set operations with others give frozensets."""

    __slots__ = ("_last", "_most")

    def __init__(self, most: frozenset[str], last: frozenset[str]) -> None:
        self._most = most
        self._last = last

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> frozenset[str]:  # type: ignore[override]  # a plain set
        return frozenset(it)

    def __contains__(self, name: object) -> bool:
        return name in self._last or name in self._most

    def __iter__(self) -> Iterator[str]:
        yield from self._most
        yield from self._last

    def __len__(self) -> int:
        return len(self._most) + len(self._last)

    def __hash__(self) -> int:
        return hash(len(self))

    def __and__(self, other: Set[str]) -> frozenset[str]:
        small, large = (self, other) if len(self) < len(other) else (other, self)
        return frozenset(name for name in small if name in large)

    __rand__ = __and__

    def plus(self, name: str) -> ManyKeys:
        """With a key that is not in it."""
        last = self._last | {name}
        return ManyKeys(self._most, last) if len(last) <= _FEW else ManyKeys(self._most | last, frozenset())


def with_key(keys: Set[str], name: str) -> Set[str]:
    """With one more key. A microsecond; one in 64 copies all of them where there are many."""
    if name in keys:
        return keys
    if isinstance(keys, ManyKeys):
        return keys.plus(name)
    few = frozenset(keys)
    return few | {name} if len(few) < _FEW else ManyKeys(few, frozenset((name,)))
