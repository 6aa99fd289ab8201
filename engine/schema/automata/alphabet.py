"""Partitions of the Unicode scalar values into classes that an automaton does not tell apart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

Ranges = tuple[tuple[int, int], ...]

MAX_CODE_POINT = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)
NO_CLASS = -1
SCALARS: Ranges = ((0, 0xD7FF), (0xE000, MAX_CODE_POINT))


@dataclass(frozen=True)
class Alphabet:
    """Interval `i` runs from `starts[i]` to the next start and belongs to class `classes[i]` (NO_CLASS: surrogates).

    Classes are numbered 0, 1, ... in the order of their first code point, so equal partitions are equal objects.
    """

    starts: tuple[int, ...]
    classes: tuple[int, ...]

    @cached_property
    def _hash(self) -> int:
        return hash((self.starts, self.classes))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def size(self) -> int:
        """Number of classes."""
        return max(self.classes) + 1

    @cached_property
    def ranges(self) -> tuple[Ranges, ...]:
        """The code points of each class, as sorted inclusive ranges."""
        spans: list[list[tuple[int, int]]] = [[] for _ in range(self.size)]
        ends = (*self.starts[1:], MAX_CODE_POINT + 1)
        for low, end, index in zip(self.starts, ends, self.classes, strict=True):
            if index != NO_CLASS:
                spans[index].append((low, end - 1))
        return tuple(tuple(part) for part in spans)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of code points in each class."""
        return tuple(sum(high - low + 1 for low, high in spans) for spans in self.ranges)

    def union(self, classes: tuple[int, ...]) -> Ranges:
        """The code points of some classes; kept, since the states of an automaton share few such sets."""
        known = self._unions.get(classes)
        if known is None:
            known = self._unions[classes] = scalars(span for index in classes for span in self.ranges[index])
        return known

    @cached_property
    def _unions(self) -> dict[tuple[int, ...], Ranges]:
        return {}

    def class_of(self, code_point: int) -> int:
        """Class of one code point, NO_CLASS for a surrogate. Logarithmic beyond ASCII."""
        return self.ascii[code_point] if code_point < len(self.ascii) else self._search(code_point)

    @cached_property
    def ascii(self) -> tuple[int, ...]:
        """The class of each ASCII character."""
        return tuple(self._search(code_point) for code_point in range(128))

    def _search(self, code_point: int) -> int:
        return self.classes[bisect_right(self.starts, code_point) - 1]

    def classes_in(self, ranges: Ranges) -> tuple[int, ...]:
        """The classes that `ranges` touch; exact when the partition was made from sets that include `ranges`."""
        found: set[int] = set()
        for low, high in ranges:
            first = bisect_right(self.starts, low) - 1
            last = bisect_right(self.starts, high)
            found.update(self.classes[first:last])
        found.discard(NO_CLASS)
        return tuple(sorted(found))


def normalise_ranges(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted, disjoint, merged ranges."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def from_labels(starts: Iterable[int], labels: Iterable[object]) -> Alphabet:
    """Partition from interval starts (sorted, first 0, both surrogate borders among them) and a label per interval."""
    numbers: dict[object, int] = {}
    kept_starts: list[int] = []
    kept: list[int] = []
    for start, label in zip(starts, labels, strict=True):
        surrogate = SURROGATES[0] <= start <= SURROGATES[1]
        number = NO_CLASS if surrogate else numbers.setdefault(label, len(numbers))
        if not kept or kept[-1] != number:
            kept_starts.append(start)
            kept.append(number)
    return Alphabet(tuple(kept_starts), tuple(kept))


@lru_cache(maxsize=4096)
def partition(sets: tuple[Ranges, ...]) -> Alphabet:
    """The coarsest partition in which every set of `sets` is a union of classes. O(n log n) in the ranges."""
    edges: dict[int, list[int]] = {0: [], SURROGATES[0]: [], SURROGATES[1] + 1: []}
    for number, ranges in enumerate(sets):
        for low, high in ranges:
            edges.setdefault(low, []).append(number)
            edges.setdefault(high + 1, []).append(number)
    edges.pop(MAX_CODE_POINT + 1, None)
    starts = sorted(edges)
    labels: list[int] = []
    inside = 0
    for start in starts:
        for number in edges[start]:
            inside ^= 1 << number
        labels.append(inside)
    return from_labels(starts, labels)


@lru_cache(maxsize=4096)
def refine(first: Alphabet, second: Alphabet) -> tuple[Alphabet, tuple[int, ...], tuple[int, ...]]:
    """Common refinement, and for each of its classes the class in `first` and in `second`."""
    if first == second:
        return first, (same := tuple(range(first.size))), same
    starts = sorted({*first.starts, *second.starts})
    labels = list(zip(_labels(first, starts), _labels(second, starts), strict=True))
    pairs = [pair for pair in dict.fromkeys(labels) if pair != (NO_CLASS, NO_CLASS)]
    return from_labels(starts, labels), tuple([a for a, _ in pairs]), tuple([b for _, b in pairs])


def _labels(alphabet: Alphabet, starts: list[int]) -> list[int]:
    """The class at each of `starts`, which are ascending and hold those of the alphabet."""
    known = dict(zip(alphabet.starts, alphabet.classes, strict=True))
    label, found = NO_CLASS, []
    for start in starts:
        label = known.get(start, label)
        found.append(label)
    return found


def coarsen(alphabet: Alphabet, columns: list[int]) -> tuple[Alphabet, list[int]]:
    """Merge classes with equal `columns[class]`; also the old class that stands for each new one."""
    labels = [columns[index] if index != NO_CLASS else NO_CLASS for index in alphabet.classes]
    merged = from_labels(alphabet.starts, labels)
    chosen = [NO_CLASS] * merged.size
    for old, ranges in enumerate(alphabet.ranges):
        chosen[merged.class_of(ranges[0][0])] = old
    return merged, chosen


def scalars(spans: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, merged, without surrogates."""
    kept: list[tuple[int, int]] = []
    for low, high in normalise_ranges(spans):
        if low < SURROGATES[0]:
            kept.append((low, min(high, SURROGATES[0] - 1)))
        if high > SURROGATES[1]:
            kept.append((max(low, SURROGATES[1] + 1), high))
    return tuple(span for span in kept if span[0] <= span[1])


def without(spans: Iterable[tuple[int, int]]) -> Ranges:
    """All scalar values that are not in `spans`."""
    gaps: list[tuple[int, int]] = []
    next_free = 0
    for low, high in normalise_ranges(spans):
        if low > next_free:
            gaps.append((next_free, low - 1))
        next_free = max(next_free, high + 1)
    if next_free <= MAX_CODE_POINT:
        gaps.append((next_free, MAX_CODE_POINT))
    return scalars(gaps)


def plainest(spans: Ranges) -> int:
    """The most ordinary code point of a set: a letter, a digit, other printable ASCII, else the first."""
    for low, high in ((0x61, 0x7A), (0x30, 0x39), (0x41, 0x5A), (0x23, 0x5B), (0x5D, 0x7E)):
        for first, last in spans:
            if first <= high and last >= low:
                return max(first, low)
    return spans[0][0]


def intersect(first: Ranges, second: Ranges) -> Ranges:
    """Common code points of two sorted range lists. Linear."""
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(first) and j < len(second):
        low, high = max(first[i][0], second[j][0]), min(first[i][1], second[j][1])
        if low <= high:
            found.append((low, high))
        if first[i][1] < second[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)
