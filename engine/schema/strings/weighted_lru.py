"""Results kept for the next schema, within a bound on their parts: what is kept, every full garbage collection walks.

`lru_cache` counts results, and one key rule may hold a thousand rules or one. Knows nothing of what it keeps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import update_wrapper
from threading import Lock
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WeightedLRU(Generic[P, T]):
    """A pure function of hashable arguments that remembers its latest results, `parts` parts in all by `size`.

    A result of more than that is not kept at all. Safe from several threads, which may find the same result twice.
    """

    def __init__(self, function: Callable[P, T], parts: int, size: Callable[[T], int]) -> None:
        self._function = function
        self._parts = parts
        self._size = size
        self._results: OrderedDict[Hashable, T] = OrderedDict()
        self._held = 0
        self._lock = Lock()
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result. Errors are raised and not remembered."""
        key = (args, tuple(kwargs.items()))
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = self._function(*args, **kwargs)
        with self._lock:
            self._keep(key, result)
        return result

    @property
    def held(self) -> int:
        """Parts that are kept now."""
        return self._held

    def cache_clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._results.clear()
            self._held = 0

    def _keep(self, key: Hashable, result: T) -> None:
        if key in self._results or self._size(result) > self._parts:
            return
        self._results[key] = result
        self._held += self._size(result)
        while self._held > self._parts:
            self._held -= self._size(self._results.popitem(last=False)[1])


def keeps(parts: int, size: Callable[[T], int]) -> Callable[[Callable[P, T]], WeightedLRU[P, T]]:
    """As a decorator."""
    return lambda function: WeightedLRU(function, parts, size)
