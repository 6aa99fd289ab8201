"""Strongly connected components of any graph."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def components(successors: Mapping[T, Sequence[T]]) -> list[list[T]]:
    """All nodes, those that others lead to first (Tarjan 1972, without recursion). Linear."""
    index: dict[T, int] = {}
    low: dict[T, int] = {}
    stack: list[T] = []
    on_stack: set[T] = set()
    found: list[list[T]] = []
    work = [(node, 0) for node in [*successors][::-1]]
    while work:
        node, position = work.pop()
        if position:
            low[node] = min(low[node], low[successors[node][position - 1]])
        elif node in index:
            continue
        else:
            index[node] = low[node] = len(index)
            stack.append(node)
            on_stack.add(node)
        for at in range(position, len(successors[node])):
            target = successors[node][at]
            if target not in index:
                work.extend([(node, at + 1), (target, 0)])
                break
            if target in on_stack:
                low[node] = min(low[node], index[target])
        else:
            if low[node] == index[node]:
                cut = len(stack) - 1
                while stack[cut] != node:
                    cut -= 1
                found.append(stack[cut:])
                on_stack.difference_update(stack[cut:])
                del stack[cut:]
    return found
