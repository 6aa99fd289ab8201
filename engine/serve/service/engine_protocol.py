"""What the service needs of an engine. Serve depends on this protocol, never on `engine.decode`.

Every method may be called from any thread. `submit`, `submit_check`, `warmup` and `close` may block (tokenising,
compiling, finishing), so the service never calls them on its event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from engine.request import Constraint, Request, Result

OnText = Callable[[int, str], None]


class SubmittedCheck(Protocol):
    """A check on its way."""

    @property
    def grammar(self) -> Future[Any]:
        """Settled when the constraint is compiled or refused; cancelling it gives the check up."""

    def report(self) -> dict[str, Any]:
        """`{schema_hash, supported, verdicts, min_bytes, min_tokens, min_tokens_exact}`. SchemaInvalid for none."""


class ServedEngine(Protocol):
    """One loaded model behind a queue. Errors before admission are typed `EngineError`s; later ones are statuses."""

    @property
    def ready(self) -> bool:
        """Whether requests are answered now; a plain attribute read, free of locks."""

    def submit(self, request: Request, *, owner: str | None = None, on_text: OnText | None = None) -> Future[Result]:
        """Admit the request, or raise RequestError, QueueFull or NotReady; a ConstraintError may come by the future.

        `owner` is whoever asks: ids are the owner's alone, and slots and compile time are shared between owners.
        `on_text(sample, text)` is called from the decode thread with each piece of text as it is made.
        """

    def cancel(self, request_id: str, *, owner: str | None = None) -> bool:
        """Stop a request of this owner; its future resolves with `cancelled`. Unknown ids are False. Never blocks."""

    def finish_now(self) -> None:
        """End everything in flight as its deadline would end it: documents by grammar. Never blocks."""

    def refuse_when_full(self, count: int, *, owner: str | None = None) -> None:
        """QueueFull where `submit` would not take so many more requests, NotReady as it. Never blocks."""

    def submit_check(self, constraint: Constraint, *, owner: str | None = None) -> SubmittedCheck:
        """Ask for the verdicts of a constraint. QueueFull and NotReady as `submit`."""

    def info(self) -> dict[str, Any]:
        """Model, quantization, device, versions, load phases: plain JSON types."""

    def warmup(self, constraints: Sequence[Constraint] = ()) -> Any:
        """Compile these constraints and bring everything else to the state of a second request."""

    def stalled_s(self) -> float:
        """Seconds the step that is running now has taken; 0 between steps. Never blocks."""

    def close(self) -> None:
        """Stop the threads, free the memory; what still runs ends as `cancelled`."""
