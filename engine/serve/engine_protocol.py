"""What the service needs of an engine. Serve depends on this protocol, never on `engine.decode`.

Every method may be called from any thread. `submit`, `stream`, `check` and `warmup` may block (tokenising, compiling,
loading), so the service never calls them on its event loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from engine.request import Request, Result


class ServedEngine(Protocol):
    """One loaded model behind a queue. Errors before admission are typed `EngineError`s; later ones are statuses."""

    @property
    def ready(self) -> bool:
        """Whether requests are answered now; a plain attribute read, free of locks."""

    def submit(self, request: Request) -> Future[Result]:
        """Admit the request, or raise RequestError, QueueFull or NotReady."""

    def stream(self, request: Request) -> Iterator[str | Result]:
        """Pieces of text as they are made, then the Result. Errors before admission are raised by the first `next`."""

    def cancel(self, request_id: str) -> bool:
        """Stop a request; its future resolves with status `cancelled`. Unknown ids are False. Never blocks."""

    def check(self, schema: Mapping[str, Any] | bool, *, conformance: str = "tight") -> dict[str, Any]:
        """The verdict object: `{schema_hash, supported, verdicts, min_bytes, min_tokens, min_tokens_exact}`."""

    def info(self) -> dict[str, Any]:
        """Model, quantization, device, versions, load phases: plain JSON types."""

    def warmup(self) -> Any:
        """Bring everything to the state of a second request (graphs, kernels, common grammars)."""

    def close(self) -> None:
        """Stop the threads, free the memory; what still runs ends as `cancelled`."""
