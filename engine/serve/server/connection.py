"""One HTTP/1.1 connection: what it may send, how long it may take, and that it reads its answers.

Knows bytes and clocks. Does not know routes or keys. uvicorn's h11 protocol does the work; this refuses what two
parsers could read in two ways (a body sized twice, folded headers, bare line ends), and never reads on behind it.

A client that closes its sending side has left: a socket that was closed and one that was half closed look the same.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.serve.server.connection_limits import ConnectionLimits
from engine.serve.wire.failure import BodyTooLarge, Failure, HTTPFailure, Malformed, TooManyConnections

MOST_HEADER_BYTES = 32 << 10
MOST_BYTES_BEHIND = 64 << 10
"""Of further requests behind one that is being answered; they are read so that the client's leaving is noticed."""

_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_FOLDED = re.compile(rb"\n[ \t]")
_FIRST_LINE = re.compile(rb"[^\r]* HTTP/1\.([01])\r\n")
_FIELD = re.compile(rb"\n([^:\r\n]+):[ \t]*([^\r\n]*)")


class StrictH11(h11.Connection):
    """h11, with `problem` saying what was wrong with a request that it refused."""

    problem: HTTPFailure = Malformed("this is no HTTP request")

    def __init__(self, most_body_bytes: int) -> None:
        super().__init__(h11.SERVER, MOST_HEADER_BYTES)
        self._most_body_bytes = most_body_bytes

    def next_event(self) -> Any:
        """RemoteProtocolError also for a header that is legal in one reading only, and for a chunk that says it is
        longer than a body may be: nobody waits for it."""
        if self.their_state is h11.IDLE and self.our_state is h11.IDLE:
            problem = ambiguity(self.trailing_data[0])
            if problem is not None:
                self._refuse(Malformed(problem))
        event = super().next_event()
        announced = getattr(self._reader, "_bytes_in_chunk", 0)
        if announced > self._most_body_bytes:
            self._refuse(BodyTooLarge(f"a chunk has {announced} bytes, the limit is {self._most_body_bytes}"))
        return event

    def _refuse(self, problem: HTTPFailure) -> None:
        self.problem = problem
        raise h11.RemoteProtocolError(problem.message)


def ambiguity(received: bytes) -> str | None:
    """What is wrong with the header at the start of these bytes; None when nothing is, or it is not complete yet."""
    ends = [end for end in (received.find(b"\n\r\n"), received.find(b"\n\n")) if end >= 0]
    head = received[: min(ends) + 3] if ends else received
    if len(head) > MOST_HEADER_BYTES:
        return f"the header is over {MOST_HEADER_BYTES} bytes"
    if not ends:
        return None
    if _BARE.search(head):
        return "a header line must end in CR LF"
    if _FOLDED.search(head):
        return "a header is folded over several lines"
    first = _FIRST_LINE.match(head)
    if first is None:
        return "only HTTP 1.1 and 1.0 are spoken here"
    fields = [(name.lower(), value) for name, value in _FIELD.findall(head)]
    lengths = [value for name, value in fields if name.strip() == b"content-length"]
    codings = [value for name, value in fields if name.strip() == b"transfer-encoding"]
    if codings and lengths:
        return "Content-Length and Transfer-Encoding exclude each other"
    if len(lengths) > 1 or (lengths and not lengths[0].strip().isdigit()):
        return "Content-Length must be one number"
    if codings and (len(codings) > 1 or first[1] == b"0"):
        return "Transfer-Encoding must stand once, in HTTP/1.1"
    return None


class Connection(H11Protocol):
    """uvicorn's protocol under `ConnectionLimits`, which close connections that keep others out."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: StrictH11 = StrictH11(limits.settings.max_body_bytes)
        self._limits = limits
        self._behind = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own signature
        super().connection_made(transport)
        if not self._limits.enter(self):
            self._refuse(TooManyConnections("too many connections; try again later"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.leave(self)
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The client has left. To close would wait until it has read what was written, which it need not do."""
        super().eof_received()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._behind = self._behind + len(data) if self.conn.their_state is h11.DONE else 0
        if self._behind > MOST_BYTES_BEHIND:
            self.transport.abort()
            return
        super().data_received(data)
        self._tell()

    def handle_events(self) -> None:
        """A client that sent more requests behind the one in progress is read on, or its leaving would go unseen."""
        super().handle_events()
        if self.conn.their_state is h11.DONE:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._tell()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Called for what h11 refused: answered when nothing has been answered yet, and always closed."""
        self._refuse(self.conn.problem)

    def _refuse(self, error: HTTPFailure) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = Failure.from_error(error).response()
            headers = [*answer.raw_headers, (b"connection", b"close")]
            events = (
                h11.Response(status_code=answer.status_code, headers=headers),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _tell(self) -> None:
        """Tell the limits what this connection is at: answering, resting between requests, or sending a header."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._limits.answering(self)
        elif self.cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._limits.resting(self)
        else:
            self._limits.awaiting(self)
