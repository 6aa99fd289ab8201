"""HTTP for web functions: one loopback server per endpoint, whose requests become inputs of the function.

A request is an input with the ASGI scope; its body goes in through the call's `data_in`, the response comes out of
`data_out`, chunk by chunk as the app sends it. Proxy auth is checked here, before any container is started.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from aiohttp import web
from modal._serialization import deserialize_data_format, serialize_data_format
from modal_proto import api_pb2 as pb

from tests.modal.control_plane.calls import Call

if TYPE_CHECKING:
    from tests.modal.control_plane.functions import Function
    from tests.modal.control_plane.plane import Plane

PROXY_TOKEN = {"Modal-Key": "wk-plane", "Modal-Secret": "ws-plane"}
"""The headers that open an endpoint with proxy auth."""
ASGI = pb.DATA_FORMAT_ASGI
BODY_LIMIT = 1 << 30


class Bridges:
    """The HTTP servers of one plane."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._runners: dict[tuple[str, str], tuple[web.AppRunner, str]] = {}

    async def serve(self, function: Function, method: str, config: pb.WebhookConfig) -> str:
        """The URL of an endpoint; it stays the same when the app is deployed again."""
        key = (function.id, method)
        if key not in self._runners:
            app = web.Application(client_max_size=BODY_LIMIT)
            app.router.add_route("*", "/{path:.*}", Bridge(self._plane, function, method).handle)
            self._runners[key] = await _start(app)
        return self._runners[key][1]

    async def serve_blobs(self, blobs: dict[str, bytes]) -> str:
        """The store that payloads too large for a message go through."""

        async def put(request: web.Request) -> web.Response:
            blobs[request.match_info["id"]] = data = await request.read()
            return web.Response(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

        async def get(request: web.Request) -> web.Response:
            return web.Response(body=blobs[request.match_info["id"]])

        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_put("/{id}", put)
        app.router.add_get("/{id}", get)
        self._runners[("", "blobs")] = started = await _start(app)
        return started[1]

    async def close(self) -> None:
        for runner, _ in self._runners.values():
            await runner.cleanup()


class Bridge:
    """One endpoint."""

    def __init__(self, plane: Plane, function: Function, method: str) -> None:
        self._plane, self._function, self._method = plane, function, method

    @property
    def config(self) -> pb.WebhookConfig:
        told = self._function.definition
        return told.method_definitions[self._method].webhook_config if self._method else told.webhook_config

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.config.requires_proxy_auth and any(request.headers.get(k) != v for k, v in PROXY_TOKEN.items()):
            return web.Response(status=401, text="modal-http: missing or wrong proxy token")
        payload = pb.FunctionInput(
            args=serialize_data_format(((scope(request),), {}), pb.DATA_FORMAT_PICKLE),
            data_format=pb.DATA_FORMAT_PICKLE,
            method_name=self._method,
        )
        call = Call(self._function.id, pb.FUNCTION_CALL_INVOCATION_TYPE_SYNC)
        self._plane.calls[call.id] = call
        put_message(call, {"type": "http.request", "body": b"", "more_body": True})
        await self._function.submit(call, pb.FunctionPutInputsItem(idx=0, input=payload))
        body = asyncio.create_task(send_body(request, call))
        try:
            return await respond(request, call)
        except (asyncio.CancelledError, ConnectionError):
            put_message(call, {"type": "http.disconnect"})
            raise
        finally:
            body.cancel()


def scope(request: web.Request) -> dict[str, Any]:
    """The request line and headers as ASGI has them."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.raw_path.encode(),
        "query_string": request.query_string.encode(),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": tuple(peer[:2]) if peer else None,
        "server": None,
    }


def put_message(call: Call, message: dict[str, Any]) -> None:
    data = serialize_data_format(message, ASGI)
    call.put_data(call.data_in, [pb.DataChunk(data_format=ASGI, data=data, index=len(call.data_in) + 1)])


async def send_body(request: web.Request, call: Call) -> None:
    """The body as it arrives, in pieces; the input is there before it."""
    async for piece in request.content.iter_any():
        put_message(call, {"type": "http.request", "body": piece, "more_body": True})
    put_message(call, {"type": "http.request", "body": b"", "more_body": False})


async def respond(request: web.Request, call: Call) -> web.StreamResponse:
    """Send what the app sends. A container that is lost before it began is a 500, afterwards a cut connection."""
    response: web.StreamResponse | None = None
    index = 1
    while True:
        while index not in call.data_out:
            if call.outputs:
                if response is None:
                    return web.Response(status=500, text="modal-http: internal error: no response from the function")
                if request.transport is not None:
                    request.transport.abort()
                return response
            await call.wait()
        message = deserialize_data_format(call.data_out[index].data, ASGI, None)
        index += 1
        if message["type"] == "http.response.start":
            response = web.StreamResponse(status=message["status"])
            for name, value in message["headers"]:
                response.headers.add(name.decode(), value.decode())
            await response.prepare(request)
        elif message["type"] == "http.response.body" and response is not None:
            await response.write(message["body"])
            if not message["more_body"]:
                await response.write_eof()
                return response


async def _start(app: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"
