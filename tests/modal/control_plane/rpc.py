"""Modal's gRPC protocol as plain methods: a class that has a method with an RPC's name answers that RPC.

`async def Name(self, request) -> response`, or an async generator for what streams. Everything else is UNIMPLEMENTED,
which names the call in the client's error.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from modal_proto.api_grpc import ModalClientBase

SERVED: Counter[str] = Counter()
"""How often each RPC was called in this process: what the path really needs."""


class _Protocol(ModalClientBase):
    """Never called; its mapping knows path, request and response type of every RPC."""


_Protocol.__abstractmethods__ = frozenset()
KNOWN = {path.rpartition("/")[2]: (path, handler) for path, handler in _Protocol().__mapping__().items()}


def not_found(what: str) -> GRPCError:
    return GRPCError(Status.NOT_FOUND, what)


class Rpcs:
    """Base of the two faces of the plane: what clients call, and what containers call."""

    def __mapping__(self) -> dict[str, Handler]:
        return {path: self._handler(name, known) for name, (path, known) in KNOWN.items() if hasattr(self, name)}

    def _handler(self, name: str, known: Handler) -> Handler:
        method: Any = getattr(self, name)

        async def answer(stream: Any) -> None:
            SERVED[name] += 1
            request = await stream.recv_message()
            if known.cardinality is Cardinality.UNARY_STREAM:
                async for message in method(request):
                    await stream.send_message(message)
            else:
                await stream.send_message(await method(request))

        return Handler(answer, *known[1:])
