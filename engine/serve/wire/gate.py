"""What every HTTP request passes before a route sees it: an id, a key, a size, a pace. Plain ASGI.

Knows bytes and headers. Does not know contracts. Bodies are read whole here, with a limit on bytes and on time, so that
neither a large nor a slow client reaches a route; after that `receive` only tells when the client has left.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import EngineError, EngineFailure
from engine.serve.log.accounting import key_label
from engine.serve.log.json_log import JsonLog, places
from engine.serve.settings import ServeSettings
from engine.serve.wire.caller import ClientGone
from engine.serve.wire.failure import BodyTooLarge, Failure, InvalidKey, KeyBusy, SlowBody

OPEN_PATHS = frozenset({"/", "/health", "/health_ir", "/ready"})
"""GET on these needs no key: they say how the service is and nothing of what it does."""

MOST_AT_ONCE = 256 << 10
"""Bytes of an answer that are sent in one turn of the event loop; 12 MB in one took 19 ms."""


class Gate:
    """The outermost layer: request id, access line, keys, body, and a typed 500 for what nobody caught."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, log: JsonLog) -> None:
        self.app, self.settings, self.log = app, settings, log
        self._keys = tuple(key.encode() for key in settings.api_keys)
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, "req-" + secrets.token_hex(8), self.settings.send_timeout_s)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        started = time.perf_counter()
        try:
            await self._pass(scope, receive, answer)
        except EngineError as error:
            await answer.fail(scope, receive, error)
        except ClientGone:
            answer.status_code = answer.status_code or 499
        except Exception as error:  # noqa: BLE001 - the last line of defence: a typed 500
            self.log.write("crash", request_id=answer.request_id, error_type=type(error).__name__, at=places(error))
            await answer.fail(scope, receive, EngineFailure(f"{type(error).__name__} while answering"))
        finally:
            self._access(scope, answer, started)

    async def _pass(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        key = self._key(scope, headers)
        scope["state"]["key"] = key
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            routed = "GET" if scope["method"] == "HEAD" else scope["method"]  # a server sends no body to HEAD
            await self.app({**scope, "method": routed}, receive, answer.send)
            return
        async with self._slot(key):
            body = await self._body(headers, receive)
            await self.app(scope, _replay(body, receive), answer.send)

    def _key(self, scope: Scope, headers: Headers) -> str:
        """The label of the caller's key. Every known key is compared, in constant time each."""
        if not self._keys or (scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN_PATHS):
            return "anonymous"
        scheme, _, given = headers.get("authorization", "").partition(" ")
        candidate = given.strip().encode()
        matches = [hmac.compare_digest(candidate, key) for key in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            raise InvalidKey("give a key as 'Authorization: Bearer KEY'")
        return key_label(candidate.decode())

    @asynccontextmanager
    async def _slot(self, key: str) -> AsyncIterator[None]:
        limit = self.settings.max_concurrent_per_key
        if limit is not None and self._running[key] >= limit:
            raise KeyBusy(f"this key already has {limit} requests running")
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit, seconds = self.settings.max_body_bytes, self.settings.body_timeout_s
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise BodyTooLarge(f"the body has {declared} bytes, the limit is {limit}")
        try:
            async with asyncio.timeout(seconds):
                return await _collect(receive, limit)
        except TimeoutError:
            raise SlowBody(f"the body did not arrive within {seconds:g} s") from None

    def _access(self, scope: Scope, answer: _Answer, started: float) -> None:
        if scope["path"] in OPEN_PATHS or scope["path"] == "/metrics":
            return
        self.log.write(
            "http",
            request_id=answer.request_id,
            method=scope["method"],
            path=scope["path"][:200],
            status=answer.status_code,
            key=scope["state"].get("key"),
            ms=round((time.perf_counter() - started) * 1000, 3),
        )


class _Answer:
    """One response on its way out: stamps the request id, remembers the status, drops a client that reads nothing."""

    def __init__(self, send: Send, request_id: str, timeout_s: float) -> None:
        self._send, self._timeout_s = send, timeout_s
        self.request_id = request_id
        self.status_code: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status_code = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.request_id
        for part in _parts(message):
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._send(part)
            except (TimeoutError, OSError):
                raise ClientGone from None
            if part is not message:
                await asyncio.sleep(0)  # sending waits for nobody while the socket takes all

    async def fail(self, scope: Scope, receive: Receive, error: EngineError) -> None:
        """Answer with the error, unless an answer has begun."""
        if self.status_code is not None:
            return
        try:
            await Failure.from_error(error).response()(scope, receive, self.send)
        except ClientGone:
            return


def _parts(message: Message) -> Iterator[Message]:
    """A large body in several messages: the server copies each whole, and the event loop waits."""
    body = message.get("body", b"")
    if len(body) <= MOST_AT_ONCE:
        yield message
        return
    for end in range(MOST_AT_ONCE, len(body) + MOST_AT_ONCE, MOST_AT_ONCE):
        more = end < len(body) or message.get("more_body", False)
        yield {**message, "body": body[end - MOST_AT_ONCE : end], "more_body": more}


async def _collect(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the body is over the limit of {limit} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` that hands the body out once and afterwards waits for the client to leave."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
