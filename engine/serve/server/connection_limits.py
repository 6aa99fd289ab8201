"""How many connections there are and what each is at: the oldest that has sent no complete header goes first.

Knows counts and clocks; one look a second over all of them replaces a timer for each. Does not know HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from engine.serve.settings import ServeSettings

LOOK_S = 0.5


class Held(Protocol):
    """A connection, as far as its limits need it."""

    transport: asyncio.Transport


@dataclass(slots=True)
class _Unread:
    """What the system has not taken yet of the answers to one connection."""

    nbytes: int = 0
    since: float = 0.0


@dataclass
class ConnectionLimits:
    """One per server, used on its event loop."""

    settings: ServeSettings
    defer: Callable[[bool], None]
    """Called with True when half of the connections without a header are there that may be, with False when few are."""
    _all: dict[Held, _Unread] = field(default_factory=dict)
    _awaiting: dict[Held, float] = field(default_factory=dict)
    """Since when a complete header is missing; oldest first."""
    _resting: dict[Held, None] = field(default_factory=dict)
    """Between two requests; longest first."""
    _look: asyncio.TimerHandle | None = None
    _deferred: bool = False

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, held: Held) -> bool:
        """Count a new connection. False when all others are at work on a request: it must be turned away."""
        full = len(self._all) >= self.settings.max_connections
        if full:
            full = not self._drop_one()
        self._all[held] = _Unread()
        self._later()
        if not full:
            self.awaiting(held)
        return not full

    def leave(self, held: Held) -> None:
        """Forget a connection that was lost."""
        for group in (self._all, self._awaiting, self._resting):
            group.pop(held, None)

    def awaiting(self, held: Held) -> None:
        """A header is missing; the clock of one that was missing already goes on."""
        self._resting.pop(held, None)
        self._awaiting.setdefault(held, _now())
        if len(self._awaiting) > self.settings.max_headerless:
            self._drop(next(iter(self._awaiting)))
        if not self._deferred and len(self._awaiting) > self.settings.max_headerless // 2:
            self._defer(True)

    def answering(self, held: Held) -> None:
        """A request is complete, or its body is on its way under a clock of its own."""
        self._awaiting.pop(held, None)
        self._resting.pop(held, None)

    def resting(self, held: Held) -> None:
        """Answered and silent; uvicorn closes it after `timeout_keep_alive`."""
        self._awaiting.pop(held, None)
        self._resting.setdefault(held)

    def _drop_one(self) -> bool:
        for group in (self._awaiting, self._resting):
            if group:
                self._drop(next(iter(group)))
                return True
        return False

    def _drop(self, held: Held) -> None:
        self.leave(held)
        held.transport.abort()

    def _defer(self, on: bool) -> None:
        self._deferred = on
        self.defer(on)

    def _later(self) -> None:
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._sweep)

    def _sweep(self) -> None:
        """Close what is late: a header that does not come, answers that nobody reads."""
        self._look = None
        now = _now()
        for held, since in list(self._awaiting.items()):
            if now - since < self.settings.header_timeout_s:
                break
            self._drop(held)
        for held, unread in list(self._all.items()):
            nbytes = held.transport.get_write_buffer_size()
            if nbytes == 0 or nbytes < unread.nbytes or unread.nbytes == 0:
                unread.since = now
            unread.nbytes = nbytes
            if now - unread.since > self.settings.send_timeout_s:
                self._drop(held)
        if self._deferred and len(self._awaiting) < self.settings.max_headerless // 4:
            self._defer(False)
        if self._all:
            self._later()


def _now() -> float:
    return asyncio.get_running_loop().time()
