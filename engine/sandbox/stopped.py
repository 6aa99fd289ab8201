"""Why a job ended without an answer. Callers turn it into an error of theirs."""

from __future__ import annotations

from typing import Literal

Reason = Literal["cpu", "wall", "busy", "memory", "depth", "crashed", "lost", "closed"]
"""`cpu`, `wall`, `memory`, `depth`: the job's own limits; `busy`: it did not get on, mostly since others computed;
`lost`: its process ended twice through no fault of the job; `closed`: the pool was closed."""


class Stopped(Exception):
    """A job that was ended, or ended badly."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail
